"""vLLM's metrics, counted in fewer steps."""

from typing import Any

from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import IterationStats, SchedulerStats

from app.series import Counter, Gauge, Histogram


class FoldingStatLogger(PrometheusStatLogger):  # type: ignore[misc]
    """vLLM's own, which observes the time since the last token once a token.

    The tokens of a step have waited equally long, or nearly all of them: those are one observation.
    """

    _counter_cls = Counter
    _gauge_cls = Gauge
    _histogram_cls = Histogram

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        *arguments: Any,
        **named: Any,
    ) -> None:
        """See `PrometheusStatLogger.record`."""
        if iteration_stats is not None:
            latencies = iteration_stats.inter_token_latencies_iter
            iteration_stats.inter_token_latencies_iter = []
            engine = named.get("engine_idx", 0)
            self.histogram_inter_token_latency[engine].observe_all(latencies)
        super().record(scheduler_stats, iteration_stats, *arguments, **named)
