"""Rows and blocks in, the table as Markdown out."""

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.peers.rows import Blocks, Ratio, Row, median_of, ratios
from tests.bench.peers.starting import OURS, RUST
from tests.bench.peers.workloads import Block


def table(rows: Sequence[Row], measured: Mapping[str, Blocks]) -> str:
    """`measured`: blocks by workload. Others than vLLM Rust share a column; titles name them."""
    lines = ["| | ours | vs vLLM Python | vs vLLM Rust |", "|---|---|---|---|"]
    return "\n".join([*lines, *(line(row, measured[row.workload]) for row in rows)])


def line(row: Row, blocks: Blocks) -> str:
    found = ratios(row, blocks)
    first = [cell(row, each) for peer, each in found.items() if peer != RUST]
    rust = [cell(row, found[RUST])] if RUST in found else []
    ours = f"{figure(median_of(row, blocks[OURS]))} {row.unit}"
    return f"| {row.title} | {ours} | {' '.join(first)} | {' '.join(rust)} |"


def cell(row: Row, ratio: Ratio) -> str:
    """As in: 0.31 [0.29-0.33], target ≤ 0.40: met."""
    verdict = "met" if ratio.is_met else "**missed**"
    spread = f"[{ratio.low:.2f}-{ratio.high:.2f}]"
    return f"{ratio.median:.2f} {spread}, target {row.bound} {ratio.target:g}: {verdict}"


def figure(value: float) -> str:
    """Three digits that count, none of them behind the point from a hundred on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def block_lines(workload: str, blocks: Blocks) -> Iterator[str]:
    """One line a peer on what its blocks were like, beside what the rows say."""
    for peer, each in blocks.items():
        replies = sum(block.load.replies for block in each)
        load = max(block.load_average for block in each)
        steal = max(block.steal for block in each)
        machine = f"load average up to {load:.1f}, steal up to {steal:.1%}"
        yield f"{workload:16} {peer:16} {replies:6} replies, {events_of(each)}{machine}"


def events_of(blocks: Sequence[Block]) -> str:
    """Empty unless they were streams. Fewer than one a token: some have no text, some come late."""
    found = [block.events_per_token for block in blocks]
    return f"{min(found):.2f}-{max(found):.2f} events with text a token, " if any(found) else ""
