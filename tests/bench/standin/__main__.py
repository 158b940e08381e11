"""What frontends cost on an engine that costs nothing: `just bench standin [PART ...]`.

    counts   function calls and write calls a token and a request: no machine's speed is in them
    blocks   rates, and processor time a token and a request, in interleaved blocks
    ceiling  most tokens a second before they are merged into fewer events

A stand-in engine core speaks vLLM's protocol to each frontend: to our server, to vLLM's Python
server, to vLLM's Rust server where its binary is given, and to vLLM's `AsyncLLM.generate()` driven
in a loop without HTTP. Frontends run on processor core 1, all else on core 0. Every reply is
checked: status, exact number of tokens, text, end of the stream. Needs wrk.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from app.demo import DEMO_MODEL_PATH
from tests.bench.standin.asks import Prompts
from tests.bench.standin.blocks import NUM_TOKENS, Blocks, print_blocks, run_blocks, workloads
from tests.bench.standin.ceiling import print_ceilings
from tests.bench.standin.counts import print_counts
from tests.bench.standin.frontends import Frontend, start
from tests.bench.standin.launches import LAUNCHES, Launch, Place, launch_rust, place_in
from tests.bench.standin.measure import check_cores


def main() -> None:
    options = parser().parse_args()
    check_cores()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of ending what was started
    with tempfile.TemporaryDirectory() as folder:
        if "counts" in options.parts:
            print_counts(Path(folder) / "counts", options.model, options.frontends)
        if {"blocks", "ceiling"} & {*options.parts}:
            with running(Path(folder), options) as frontends:
                measure(frontends, options)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = ["counts", "blocks", "ceiling"]
    parser.add_argument("parts", nargs="*", metavar="PART", default=parts)
    parser.add_argument("--frontends", nargs="+", choices=LAUNCHES, default=[*LAUNCHES])
    parser.add_argument("--rust", type=Path, help="vllm-rs, out of vLLM's wheel for CUDA")
    parser.add_argument("--model", type=Path, default=DEMO_MODEL_PATH, help="its folder")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 16, 128])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a block")
    parser.add_argument("--json", type=Path, help="write the blocks there")
    return parser


def measure(frontends: Sequence[Frontend], options: argparse.Namespace) -> None:
    prompts = Prompts(options.model)
    streams, plain = prompts.asks(NUM_TOKENS, stream=True), prompts.asks(1, stream=False)
    if "ceiling" in options.parts:
        print_ceilings(frontends, options.connections, streams, options.seconds)
    results: dict[str, Blocks] = {}
    for workload in workloads(options.connections) if "blocks" in options.parts else ():
        asks = streams if workload.stream else plain
        blocks = run_blocks(frontends, workload, asks, options.rounds, options.seconds)
        print_blocks(workload, blocks)
        results[workload.name] = blocks
    if options.json:
        options.json.write_bytes(msgspec.json.encode(results))


@contextlib.contextmanager
def running(folder: Path, options: argparse.Namespace) -> Iterator[Sequence[Frontend]]:
    """All of them, ready, until the block ends."""
    with contextlib.ExitStack() as stack:
        frontends = []
        for launch, place in launches(folder, options):
            frontends.append(stack.enter_context(start(launch, place)))
            print(f"{launch.name} is ready", flush=True)
        yield frontends


def launches(folder: Path, options: argparse.Namespace) -> Iterator[tuple[Launch, Place]]:
    for name in options.frontends:
        place = place_in(folder / name, options.model)
        yield LAUNCHES[name](place), place
    if options.rust:
        place = place_in(folder / "vllm-rust", options.model)
        yield launch_rust(place, options.rust), place


if __name__ == "__main__":
    main()
