"""Client, log and metrics against each other: what one counts the others must count."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.bench.chaos.records import ENDS, Record

PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})

Counts = Counter[tuple[str, str]]
"""Requests by route and status."""


def counted(metrics: str) -> Counts:
    """What the server's counter says, but for probes, which the log leaves out too."""
    counts: Counts = Counter()
    for name, labels, value in values(metrics, "slipstream_http_requests"):
        if name.endswith("_total") and labels["route"] not in PROBES:
            counts[labels["route"], labels["status"]] += int(value)
    return counts


def total(metrics: str, family: str, **wanted: str) -> float:
    """A counter's sum over all series with these labels."""
    return sum(
        value
        for name, labels, value in values(metrics, family)
        if name.endswith("_total") and wanted.items() <= labels.items()
    )


def values(metrics: str, family: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for each in text_string_to_metric_families(metrics):
        if each.name == family:
            yield from ((s.name, s.labels, s.value) for s in each.samples)


def logged(lines: Iterable[Mapping[str, Any]]) -> Counts:
    return Counter((line["route"], str(line["status"])) for line in lines)


def differences(
    records: Sequence[Record], lines: Sequence[Mapping[str, Any]], metrics: str
) -> Iterator[str]:
    """One sentence for each request, and for each count, on which they disagree."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_id.setdefault(line["request_id"], []).append(line)
    for record in records:
        yield from disagreements(record, by_id.get(record.id, []))
    in_log, in_metrics = logged(lines), counted(metrics)
    for key in sorted(in_log.keys() | in_metrics.keys()):
        if in_log[key] != in_metrics[key]:
            yield f"{key}: {in_log[key]} in the log, {in_metrics[key]} in the metrics"
    yield from token_differences(lines, metrics)


def disagreements(record: Record, lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line each; of clients who left, at most one: some leave before they have asked."""
    if len(lines) > 1 or (not lines and record.outcome != "left"):
        yield f"{record.id} ({record.kind}, {record.outcome}): {len(lines)} lines in the log"
        return
    if record.outcome not in ENDS:
        return
    (line,) = lines
    if line["status"] != record.status:
        yield f"{record.id}: {record.status} at the client, {line['status']} in the log"
    if (record.outcome == "failed") != (line["error"] is not None and record.status == 200):
        yield f"{record.id}: {record.outcome} at the client, error {line['error']} in the log"
    if record.outcome == "answered" and record.tokens not in (None, line["completion_tokens"]):
        logged_tokens = line["completion_tokens"]
        yield f"{record.id}: {record.tokens} tokens at the client, {logged_tokens} in the log"


def token_differences(lines: Sequence[Mapping[str, Any]], metrics: str) -> Iterator[str]:
    """Of everything that was asked with a key."""
    in_log = sum(line["completion_tokens"] or 0 for line in lines if line["key"])
    in_metrics = total(metrics, "slipstream_key_tokens", kind="completion")
    if in_log != in_metrics:
        yield f"{in_log} tokens in the log, {in_metrics:.0f} in the metrics"
