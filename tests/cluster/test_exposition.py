from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.cluster.exposition import FrontMetrics, merged


def replica_text(count: int) -> str:
    registry = CollectorRegistry()
    Counter("asked", "Requests.", ("route",), registry=registry).labels("/chat").inc(count)
    Histogram("lasted_seconds", "Time.", buckets=(1, 5), registry=registry).observe(count)
    return generate_latest(registry).decode()


def test_every_sample_of_a_replica_is_labelled_with_it() -> None:
    text = merged(FrontMetrics().registry, {"a": replica_text(1), "b": replica_text(2)}).decode()

    assert 'asked_total{replica="a",route="/chat"} 1.0' in text
    assert 'asked_total{replica="b",route="/chat"} 2.0' in text
    assert 'lasted_seconds_bucket{le="1.0",replica="b"} 0.0' in text


def test_a_name_is_declared_once_and_its_samples_stand_together() -> None:
    text = merged(FrontMetrics().registry, {"a": replica_text(1), "b": replica_text(2)}).decode()
    families = [family.name for family in text_string_to_metric_families(text)]

    assert len(families) == len(set(families))
    assert text.count("# TYPE lasted_seconds histogram") == 1


def test_the_fronts_own_metrics_have_no_label_of_a_replica_that_answered_nothing() -> None:
    metrics = FrontMetrics()
    metrics.ready.set(2)
    metrics.requests.labels("a", "answered").inc(3)

    text = merged(metrics.registry, {}).decode()

    assert "slipstream_cluster_replicas_ready 2.0" in text
    assert 'slipstream_cluster_requests_total{outcome="answered",replica="a"} 3.0' in text
