"""The table of targets: what each row compares, in which workload, and how good is enough."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec

from tests.bench.peers.starting import DIRECT, OURS, PYTHON, RUST, TRANSFORMERS
from tests.bench.peers.workloads import Block, percentile

Blocks = Mapping[str, Sequence[Block]]
"""Of one workload: each peer's, in the order in which they were run."""


def cpu_a_token(block: Block) -> float:
    """Microseconds."""
    return block.cpu_seconds * 1e6 / block.load.tokens


def cpu_a_reply(block: Block) -> float:
    """Microseconds."""
    return block.cpu_seconds * 1e6 / block.load.replies


def tokens_a_second(block: Block) -> float:
    return block.load.tokens / block.load.seconds


def replies_a_second(block: Block) -> float:
    return block.load.replies / block.load.seconds


def first_token(percent: float, block: Block) -> float:
    """Milliseconds."""
    return 1000 * percentile(block.load.first_token_seconds, percent)


class Row(msgspec.Struct, frozen=True):
    """One line of the table; `targets` says for each peer what ours over theirs must be."""

    key: str
    title: str
    workload: str
    figure: Callable[[Block], float]
    unit: str
    bound: Literal["≤", "≥"]
    targets: dict[str, float]


class Ratio(msgspec.Struct, frozen=True):
    """Ours over theirs: the median of the ratios block by block, and their range."""

    median: float
    low: float
    high: float
    target: float
    is_met: bool


def first_token_row(connections: int, percent: int) -> Row:
    clients = "1 connection" if connections == 1 else f"{connections} connections"
    return Row(
        "first-token",
        f"time to first token p{percent}, {clients}",
        f"first-token-{connections}",
        partial(first_token, percent),
        "ms",
        "≤",
        {PYTHON: 1.0, RUST: 1.1},
    )


ROWS = (
    Row(
        "cpu-128",
        "frontend CPU a token, 64-token streams, 128 connections",
        "streams-128",
        cpu_a_token,
        "µs",
        "≤",
        {PYTHON: 0.40, RUST: 1.0},
    ),
    Row(
        "cpu-16",
        "same, 16 connections",
        "streams-16",
        cpu_a_token,
        "µs",
        "≤",
        {PYTHON: 0.50, RUST: 1.1},
    ),
    Row(
        "throughput",
        "throughput, streams, 128 connections (engine-bound)",
        "streams-128",
        tokens_a_second,
        "tokens/s",
        "≥",
        {PYTHON: 1.25, RUST: 1.0},
    ),
    Row(
        "requests",
        "requests/s of 1-token replies, 64 connections",
        "short-replies-64",
        replies_a_second,
        "requests/s",
        "≥",
        {PYTHON: 1.8, RUST: 1.0},
    ),
    Row(
        "cpu-request",
        "frontend CPU a request, same",
        "short-replies-64",
        cpu_a_reply,
        "µs",
        "≤",
        {PYTHON: 0.35, RUST: 1.2},
    ),
    Row(
        "direct",
        "throughput against driving `AsyncLLMEngine.generate()` directly in one process, no HTTP",
        "streams-128",
        tokens_a_second,
        "tokens/s",
        "≥",
        {DIRECT: 0.95},
    ),
    *(first_token_row(connections, percent) for connections in (1, 32) for percent in (50, 99)),
    Row(
        "batch",
        "`/batch` of 256 prompts against `asyncio.gather` on the engine",
        "batch-256",
        tokens_a_second,
        "tokens/s",
        "≥",
        {DIRECT: 0.97},
    ),
    Row(
        "transformers",
        "against transformers `generate`, one at a time, 32 clients",
        "replies-32",
        tokens_a_second,
        "tokens/s",
        "≥",
        {TRANSFORMERS: 20},
    ),
)

KEYS = list(dict.fromkeys(row.key for row in ROWS))


def peers_of(rows: Sequence[Row]) -> dict[str, set[str]]:
    """For each workload of the rows, in their order, who has to run it."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.workload, {OURS}).update(row.targets)
    return found


def ratios(row: Row, blocks: Blocks) -> dict[str, Ratio]:
    """For each of the row's peers that was measured."""
    return {
        peer: ratio(row, blocks[OURS], blocks[peer], target)
        for peer, target in row.targets.items()
        if peer in blocks
    }


def ratio(row: Row, ours: Sequence[Block], theirs: Sequence[Block], target: float) -> Ratio:
    each = [row.figure(a) / row.figure(b) for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(each)
    is_met = median <= target if row.bound == "≤" else median >= target
    return Ratio(median, min(each), max(each), target, is_met)


def median_of(row: Row, blocks: Sequence[Block]) -> float:
    """Of the row's figure itself, in its unit."""
    return statistics.median(map(row.figure, blocks))
