"""The table of targets, measured side by side: python -m tests.bench.peers [--rust vllm-rs]

Our server as it is released, vLLM's Python and Rust frontends, the engine driven directly and
transformers run on one machine in one run: all stay up, all but one stopped, and short blocks
alternate between them, so that a machine that grows slower does so for all. Each reply is looked
at: one that is not whole, or has not the engine's own words, ends the run.

The Rust frontend is in vLLM's wheel for CUDA, as vllm/vllm-rs, and runs with the engine for CPUs
too; without it its column stays empty. Needs wrk.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from app.engine.environment import prepare_environment
from tests.bench.peers.load import require_wrk
from tests.bench.peers.peers import Child, Peer, Server
from tests.bench.peers.rows import KEYS, ROWS, Row, peers_of, ratios
from tests.bench.peers.settings import bench_settings
from tests.bench.peers.starting import DIRECT, RUST, Peers, started
from tests.bench.peers.table import block_lines, table
from tests.bench.peers.texts import PROMPTS, TOKENS, check_texts
from tests.bench.peers.workloads import WORKLOADS, Block, Workload

WARM_UP_SECONDS = 2


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rust", type=Path, help="the binary vllm-rs")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=KEYS,
        default=KEYS,
        metavar="ROW",
        help=f"only some of {', '.join(KEYS)}",
    )
    parser.add_argument("--blocks", type=int, default=6, help="of each peer and workload")
    parser.add_argument("--seconds", type=float, default=6, help="that a block takes")
    parser.add_argument("--json", type=Path, help="where every block is written")
    return parser.parse_args()


def main(chosen: argparse.Namespace) -> None:
    require_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # lest stopped engines stay behind
    prepare_environment(bench_settings())
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows = [row for row in ROWS if row.key in chosen.rows]
    workloads = peers_of(rows)
    absent = set() if chosen.rust else {RUST}
    names = set().union(*workloads.values()) - absent
    with (
        tempfile.TemporaryDirectory() as folder,
        started(names, chosen.rust, Path(folder)) as peers,
    ):
        check_all_texts(peers.running)
        measured: dict[str, dict[str, list[Block]]] = {}
        try:
            for workload, takers in workloads.items():
                taking = {name: peer for name, peer in peers.running.items() if name in takers}
                measured[workload] = measure(WORKLOADS[workload], taking, chosen)
                print(*block_lines(workload, measured[workload]), sep="\n", file=sys.stderr)
        finally:
            tell([row for row in rows if row.workload in measured], measured, peers, chosen)


def tell(
    rows: Sequence[Row],
    measured: dict[str, dict[str, list[Block]]],
    peers: Peers,
    chosen: argparse.Namespace,
) -> None:
    """What there is, also where a later workload has failed."""
    print(table(rows, measured))
    if chosen.json:
        told = {"engine_arguments": peers.arguments, **report(rows, measured)}
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(told)))


def check_all_texts(peers: dict[str, Peer]) -> None:
    direct = peers[DIRECT]
    assert isinstance(direct, Child)
    direct.resume()
    expected = direct.texts(PROMPTS, TOKENS)
    direct.pause()
    for peer in peers.values():
        if isinstance(peer, Server):
            peer.resume()
            check_texts(peer, expected)
            peer.pause()


def measure(
    workload: Workload, peers: dict[str, Peer], chosen: argparse.Namespace
) -> dict[str, list[Block]]:
    """Blocks in turns, A B C, C B A; before them one of each that does not count."""
    for peer in peers.values():
        peer.measure(workload, f"{workload.name}-warm", WARM_UP_SECONDS)
    blocks: dict[str, list[Block]] = {name: [] for name in peers}
    for number in range(chosen.blocks):
        for name in turns(list(peers), number):
            block = peers[name].measure(workload, f"{workload.name}-{number}", chosen.seconds)
            if not block.load.replies:
                raise SystemExit(f"{name} ends no reply in {chosen.seconds:g} s: --seconds more.")
            blocks[name].append(block)
    return blocks


def turns(names: Sequence[str], number: int) -> Iterator[str]:
    return iter(names) if number % 2 == 0 else reversed(names)


def report(rows: Sequence[Row], measured: dict[str, dict[str, list[Block]]]) -> dict[str, Any]:
    found = [{"row": row.title, **ratios(row, measured[row.workload])} for row in rows]
    return {"rows": found, "blocks": measured}


if __name__ == "__main__":
    main(options())
