"""What is counted without locks says what prometheus_client's own would."""

from types import ModuleType

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app import series

VALUES = [0.01, 0.01, 0.025, 0.0251, 0.01, 7.0, 0.0, 0.5, 0.5]
BUCKETS = (0.01, 0.025, 0.5, 1)


def exposition(module: ModuleType) -> list[str]:
    """Of everything that can be counted, with and without labels."""
    registry = CollectorRegistry()
    counter = module.Counter("c", "c", ("way",), registry=registry)
    gauge = module.Gauge("g", "g", registry=registry)
    histogram = module.Histogram("h", "h", ("way",), buckets=BUCKETS, registry=registry)
    counter.labels("in").inc()
    for each in VALUES:
        counter.labels("out").inc(each)
        counter.labels(way="in").inc(each)
        gauge.set(each)
        histogram.labels("out").observe(each)
    gauge.set(3)
    lines = generate_latest(registry).decode().splitlines()
    return [each for each in lines if "created" not in each]


def test_all_that_is_counted_is_told_alike() -> None:
    assert exposition(series) == exposition(prometheus_client)


def test_values_at_once_are_observed_like_one_by_one() -> None:
    at_once, one_by_one = (series.Histogram("h", "h", buckets=BUCKETS, registry=None) for _ in "12")
    at_once.observe_all(VALUES)
    for each in VALUES:
        one_by_one.observe(each)

    (said,), (expected,) = at_once.collect(), one_by_one.collect()
    assert said.samples[:-1] == expected.samples[:-1]  # the last is when it was made


def test_a_counter_does_not_count_down() -> None:
    with pytest.raises(ValueError, match="up only"):
        series.Counter("c", "c", registry=None).inc(-1)
