"""Prometheus texts of several replicas and our own metrics in, one text out."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LABEL = "replica"


class FrontMetrics:
    """What only the front can count. Replicas that are gone keep their counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "slipstream_cluster_requests",
            "Requests by the replica that answered them; none: refused before one did.",
            (LABEL, "outcome"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "slipstream_cluster_requests_in_flight",
            "Requests that the front has taken and not finished.",
            registry=self.registry,
        )
        self.ready = Gauge(
            "slipstream_cluster_replicas_ready",
            "Replicas whose model is loaded.",
            registry=self.registry,
        )


class Families(Collector):
    """Metric families for a registry to write."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def merged(own: CollectorRegistry, texts: Mapping[str, str]) -> bytes:
    """One exposition: `own` as it is, and `texts` with their keys as the label `replica`.

    Prometheus wants all samples of a name in one place, so texts cannot simply follow each other.
    """
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            known = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            known.samples += [
                sample._replace(labels={**sample.labels, LABEL: replica})
                for sample in family.samples
            ]
    registry = CollectorRegistry()
    registry.register(Families(families.values()))
    return generate_latest(own) + generate_latest(registry)
