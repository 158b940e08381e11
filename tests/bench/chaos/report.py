"""A run as Markdown."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.bench.chaos.records import Record
from tests.bench.chaos.verdict import MIB, Finding, Run


def report(title: str, runs: Sequence[tuple[Run, Sequence[Finding]]]) -> str:
    """Of every server: what held, what was asked, and what it took."""
    lines = [f"# {title}", ""]
    for run, findings in runs:
        lines += [f"## {run.name}", "", *verdict_table(findings), ""]
        lines += [*request_table(run.records), "", *sample_table(run), ""]
    return "\n".join(lines)


def verdict_table(findings: Sequence[Finding]) -> Iterator[str]:
    yield "| | | |"
    yield "|---|---|---|"
    for each in findings:
        yield f"| {'holds' if each.holds else '**BROKEN**'} | {each.claim} | {each.evidence} |"


def request_table(records: Sequence[Record]) -> Iterator[str]:
    yield "| request | asked | answered | refused | failed | left | cut | broken | p50 s | p99 s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    kinds: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        kinds[record.kind].append(record)
    for kind, some in sorted(kinds.items()):
        outcomes = ("answered", "refused", "failed", "left", "cut", "broken")
        counts = " | ".join(str(sum(each.outcome == name for each in some)) for name in outcomes)
        times = sorted(each.seconds for each in some if each.outcome == "answered") or [0]
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        yield f"| {kind} | {len(some)} | {counts} | {p50:.2f} | {p99:.2f} |"


def sample_table(run: Run) -> Iterator[str]:
    """Ten moments of the run."""
    yield "| at s | requests | RSS MiB | fds | threads | children MiB | /dev/shm MiB |"
    yield "|---|---|---|---|---|---|---|"
    step = max(1, len(run.samples) // 10)
    for each in run.samples[::step]:
        yield (
            f"| {each.at:.0f} | {each.requests} | {each.memory / MIB:.0f} | {each.descriptors} "
            f"| {each.threads} | {each.children / MIB:.0f} | {each.shared / MIB:.1f} |"
        )
