"""Every metric of our own, declared once; vLLM's are read from the global registry beside them."""

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from app.record import RequestRecord
from app.series import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PRIORITIES = ("high", "normal", "low")
MAX_ALIASES = 256
"""Of keys, as labels; every series stays until the end."""

METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS"})


class QueueMetrics:
    """What waits for the engine; lists are by priority, the most urgent first."""

    def __init__(self, registry: CollectorRegistry) -> None:
        depth = Gauge(
            "slipstream_queue_generations",
            "Generations that wait for the engine.",
            ("priority",),
            registry=registry,
        )
        seconds = Histogram(
            "slipstream_queue_seconds",
            "For how long generations waited for the engine.",
            ("priority",),
            buckets=SECONDS,
            registry=registry,
        )
        self.depth = [depth.labels(each) for each in PRIORITIES]
        self.seconds = [seconds.labels(each) for each in PRIORITIES]
        self.tokens = Gauge(
            "slipstream_queue_prompt_tokens", "Tokens of their prompts.", registry=registry
        )
        self.taken = Gauge(
            "slipstream_engine_places_taken",
            "Sequences that the engine has been given; it runs some of them at a time.",
            registry=registry,
        )
        self.refusals = Counter(
            "slipstream_queue_refusals",
            "Generations that were refused: the queue was full, they yielded to another owner's "
            "or to more urgent ones, or their deadline was too near.",
            ("reason",),
            registry=registry,
        )


class KeyMetrics:
    """What the holders of keys use; those beyond MAX_ALIASES are counted together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._aliases: set[str] = set()
        requests = Counter(
            "slipstream_key_requests",
            "HTTP requests by key and outcome; 429 is one of its limits.",
            ("key", "status"),
            registry=registry,
        )
        tokens = Counter(
            "slipstream_key_tokens",
            "Tokens by key and kind; those of the cache are prompt tokens too.",
            ("key", "kind"),
            registry=registry,
        )
        self._requests, self._tokens = cache(requests.labels), cache(tokens.labels)

    def observe(self, record: RequestRecord) -> None:
        """Count one finished request, if it came with a key."""
        if not record.owner:
            return
        alias = self._label(record.owner)
        self._requests(alias, str(record.status)).inc()
        if (tokens := record.tokens) is not None:
            self._tokens(alias, "prompt").inc(tokens.used_prompt)
            self._tokens(alias, "cached").inc(tokens.cached)
            self._tokens(alias, "completion").inc(tokens.completion)

    def _label(self, alias: str) -> str:
        if len(self._aliases) < MAX_ALIASES:
            self._aliases.add(alias)
        return alias if alias in self._aliases else "other"


class Metrics:
    """HTTP metrics. Labels are route templates, known methods and statuses, so they stay few."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        requests = Counter(
            "slipstream_http_requests",
            "HTTP requests by outcome; 499 is a client that left, 0 one cut off by shutdown.",
            ("method", "route", "status"),
            registry=registry,
        )
        duration = Histogram(
            "slipstream_http_request_duration_seconds",
            "From the request's first byte to its reply's last.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        first_token = Histogram(
            "slipstream_time_to_first_token_seconds",
            "From the request to its first token; for whole replies as the engine measured it.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.structured_outputs = Counter(
            "slipstream_structured_outputs",
            "Tool calls and formatted replies by what became of them.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.engine_restarts = Counter(
            "slipstream_engine_restarts",
            "Engines that were started in the place of one that failed, by how that failed.",
            ("reason",),
            registry=registry,
        )
        self.engine_ready = Gauge(
            "slipstream_engine_ready", "1 while the engine answers, else 0.", registry=registry
        )
        self.engine_silence = Gauge(
            "slipstream_engine_silence_seconds",
            "Time since the engine's last sign of life; 0 while there is none to wait for.",
            registry=registry,
        )
        self.reply_sources = Counter(
            "slipstream_repeatable_generations",
            "Greedy and seeded generations: computed or a miss, shared while under way, or a hit.",
            ("source",),
            registry=registry,
        )
        self.replayed_answers = Counter(
            "slipstream_replayed_answers", "Answers to a known Idempotency-Key.", registry=registry
        )
        self.store_bytes = Gauge(
            "slipstream_store_bytes", "Memory of replies kept here.", ("store",), registry=registry
        )
        self.store_errors = Counter(
            "slipstream_store_errors",
            "Failures of Redis by operation, and what was found there and is not ours.",
            ("operation",),
            registry=registry,
        )
        self.in_flight = Gauge(
            "slipstream_http_requests_in_flight", "Requests being worked on.", registry=registry
        )
        # Looking a series up takes longer than counting in it; there are as many as labels allow.
        self._requests, self._duration = cache(requests.labels), cache(duration.labels)
        self._first_token = cache(first_token.labels)
        self.queue = QueueMetrics(registry)
        self.keys = KeyMetrics(registry)

    def observe_request(self, record: RequestRecord, route: str) -> None:
        """Count one finished request."""
        method = record.method if record.method in METHODS else "other"
        self._requests(method, route, str(record.status)).inc()
        self._duration(route).observe(record.elapsed_seconds)
        if record.first_token_seconds is not None:
            self._first_token(route).observe(record.first_token_seconds)
        self.keys.observe(record)

    def render(self) -> bytes:
        """Prometheus' text format: ours, then the process' and vLLM's from the global registry."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
