"""vLLM's metrics, counted in fewer steps."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Any

from prometheus_client import Histogram
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import IterationStats, SchedulerStats


class FoldingStatLogger(PrometheusStatLogger):  # type: ignore[misc]
    """vLLM's own, which observes the time since the last token once a token.

    The tokens of a step have waited equally long, or nearly all of them: those are one observation.
    """

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
            observe_all(self.histogram_inter_token_latency[engine], latencies)
        super().record(scheduler_stats, iteration_stats, *arguments, **named)


def observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    """As `Histogram.observe` of each value, which it adds to a sum and to one of its buckets."""
    for value, count in Counter(values).items():
        histogram._sum.inc(value * count)
        histogram._buckets[bisect_left(histogram._upper_bounds, value)].inc(count)
