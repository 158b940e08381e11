"""Prometheus' metrics as the event loop counts them: without a lock, in one call and not in five.

Only for what one thread counts; any may read. Numbers in files (`PROMETHEUS_MULTIPROC_DIR`) are not
for these.
"""

from bisect import bisect_left
from collections import Counter as Numbers
from collections.abc import Iterable
from typing import Any, Self

import prometheus_client


class Counter(prometheus_client.Counter):
    """See `prometheus_client.Counter`; only series, with all their labels, can be counted in."""

    def labels(self, *labelvalues: Any, **labelkwargs: Any) -> Self:
        known: Any = self._metrics.get(labelvalues)
        return known or super().labels(*labelvalues, **labelkwargs)

    def inc(self, amount: float = 1, exemplar: Any = None) -> None:
        if amount < 0:
            raise ValueError("A counter counts up only.")
        self._value._value += amount


class Gauge(prometheus_client.Gauge):
    """See `prometheus_client.Gauge`."""

    def set(self, value: float) -> None:
        self._value._value = value


class Histogram(prometheus_client.Histogram):
    """See `prometheus_client.Histogram`."""

    def observe(self, amount: float, exemplar: Any = None) -> None:
        self._sum._value += amount
        self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1

    def observe_all(self, amounts: Iterable[float]) -> None:
        """Equal ones at once."""
        for amount, number in Numbers(amounts).items():
            self._sum._value += amount * number
            self._buckets[bisect_left(self._upper_bounds, amount)]._value += number
