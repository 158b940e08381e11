"""What must hold of a run, each with what was found."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.bench.chaos.faults import Fault
from tests.bench.chaos.reconcile import differences, total
from tests.bench.chaos.records import Record
from tests.bench.chaos.samples import Sample, growth

MIB = 2**20
MOST_GROWTH = MIB
"""Bytes for each thousand requests, of the process that speaks HTTP."""

LEAST_REQUESTS_FOR_A_SLOPE = 2000
"""With fewer, what the allocator keeps is more than what could be leaking."""

MOST_KEPT_OF_AN_ENGINE = 5 * MIB
"""What vLLM's client leaves behind; 3 MiB without any load, and more where requests pile up."""

MOST_KEPT = 50 * MIB

MOST_RISE = {"descriptors": 20, "threads": 16, "shared": 4 * MIB}
"""Pools of threads fill as they are needed, and some descriptors come with them."""
SHOWN = 10


class Finding(msgspec.Struct):
    """One claim, whether it held, and how that shows."""

    claim: str
    holds: bool
    evidence: str


class Run(msgspec.Struct, kw_only=True):
    """Everything that is known of what happened to one server."""

    name: str
    records: list[Record]
    faults: list[Fault]
    before: Sample
    after: Sample
    """Idle, when all connections had been closed."""

    samples: list[Sample]
    metrics: str
    lines: list[dict[str, Any]]
    exit_status: int | None
    left_behind: list[str]


def findings(run: Run) -> list[Finding]:
    return [
        every_request_ends(run),
        all_counts_agree(run),
        the_engine_comes_back(run),
        nothing_fails_by_itself(run),
        memory_is_flat(run),
        *(flat(run, name) for name in MOST_RISE),
        it_ends_clean(run),
    ]


def every_request_ends(run: Run) -> Finding:
    broken = [
        f"{each.id} ({each.kind}): {each.detail}"
        for each in run.records
        if each.outcome == "broken"
    ]
    outcomes = ", ".join(
        f"{n} {name}" for name, n in Counter(each.outcome for each in run.records).most_common()
    )
    claim = "every request ends in an answer or an explicit error"
    return Finding(claim, bool(run.records) and not broken, shown([outcomes, *broken]))


def all_counts_agree(run: Run) -> Finding:
    found = list(differences(run.records, run.lines, run.metrics))
    lines = f"{len(run.records)} requests, {len(run.lines)} lines in the log"
    return Finding("clients, log and metrics count the same", not found, shown([lines, *found]))


def the_engine_comes_back(run: Run) -> Finding:
    kills = sum(fault.kind == "kill" for fault in run.faults)
    restarts = total(run.metrics, "slipstream_engine_restarts")
    lost = [f"{each.kind} at {each.at:.0f} s" for each in run.faults if not each.recovery_seconds]
    longest = max((each.recovery_seconds or 0 for each in run.faults), default=0)
    counts = f"{kills} kills, {len(run.faults) - kills} stops, {restarts:.0f} restarts"
    claim = "an engine that was killed is started again, one that was stopped goes on"
    holds = not lost and restarts == kills
    return Finding(claim, holds, shown([counts, f"ready again within {longest:.0f} s", *lost]))


def nothing_fails_by_itself(run: Run) -> Finding:
    """Without faults there is no 5xx; with them only those that say that the engine is gone."""
    allowed = {"engine_dead", "engine_restarting", "generation_failed"} if run.faults else set()
    wrong = [
        f"{line['request_id']}: {line['status']} {line['error']}"
        for line in run.lines
        if (line["status"] >= 500 or line["status"] == 200)
        and line["error"] not in {None, "client_disconnected", *allowed}
    ]
    refused = Counter(line["error"] for line in run.lines if line["error"]).most_common()
    errors = ", ".join(f"{n} {name}" for name, n in refused) or "no error"
    return Finding("nothing fails but for what was done to it", not wrong, shown([errors, *wrong]))


def memory_is_flat(run: Run) -> Finding:
    """Of the process that speaks HTTP. Where the engine is away requests pile up, and what the
    allocator keeps of that is no slope."""
    added, kept = growth(run.samples, "memory"), run.after.memory - run.before.memory
    num_kills = sum(fault.kind == "kill" for fault in run.faults)
    evidence = f"{added / MIB:+.2f} MiB for each 1000 requests, {kept / MIB:+.0f} MiB in the end"
    judged_by_slope = not run.faults and len(run.records) >= LEAST_REQUESTS_FOR_A_SLOPE
    holds = (
        added < MOST_GROWTH
        if judged_by_slope
        else kept < MOST_KEPT + num_kills * MOST_KEPT_OF_AN_ENGINE
    )
    return Finding("memory is flat", holds, evidence)


def flat(run: Run, name: str) -> Finding:
    """Idle before the first request and after the last."""
    before, after = getattr(run.before, name), getattr(run.after, name)
    holds = after - before <= MOST_RISE[name]
    return Finding(f"{name}: none are left over", holds, f"{before} before, {after} after")


def it_ends_clean(run: Run) -> Finding:
    holds = run.exit_status == 0 and not run.left_behind
    evidence = [f"exit status {run.exit_status}", *run.left_behind]
    return Finding("it ends with 0 and leaves no process behind", holds, shown(evidence))


def shown(lines: Sequence[str]) -> str:
    """The first of them, in one table cell."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "; ".join(
        line[:200].replace("|", "/").replace("\n", " ") for line in [*lines[:SHOWN], *more]
    )
