"""Metrics that are counted in fewer steps say the same."""

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]  # of vLLM's imports

VALUES = [0.01, 0.01, 0.025, 0.0251, 0.01, 7.0, 0.0, 0.5, 0.5]


def exposition(*, at_once: bool) -> list[str]:
    from app.engine.stats import observe_all

    registry = CollectorRegistry()
    buckets = (0.01, 0.025, 0.5, 1)
    histogram = Histogram("h", "h", ("engine",), buckets=buckets, registry=registry).labels("0")
    if at_once:
        observe_all(histogram, VALUES)
    else:
        for each in VALUES:
            histogram.observe(each)
    lines = generate_latest(registry).decode().splitlines()
    return [each for each in lines if "created" not in each]


def test_values_at_once_are_observed_like_one_by_one() -> None:
    assert exposition(at_once=True) == exposition(at_once=False)
