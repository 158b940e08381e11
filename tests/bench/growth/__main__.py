"""How cost grows: `just bench growth [PART ...]`, ours beside vLLM's Python server.

    streams    1 to 2,000 streams at once: CPU a token and memory a stream
    prompts    100 to 30,000 characters: time of a reply and longest stall of the event loop
    messages   1 to 1,000 of them: the same
    adapters   1 to 64 of them: requests a second, CPU a request, time to load one more
    start      time from the process's start to the first reply

The first three put a stand-in engine core behind each frontend, which runs on processor core 1, all
else on core 0; the others use the embedded model. Every reply is checked, and a wrong one ends the
run. What a part finds replaces its file in `data/` and its picture in `plots/`.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.bench.growth.adapters import measure_adapters
from tests.bench.growth.pairs import MODEL, pair
from tests.bench.growth.plots import PLOTS
from tests.bench.growth.rows import DATA, write_rows
from tests.bench.growth.stalls import measure_messages, measure_prompts
from tests.bench.growth.starts import measure_starts
from tests.bench.growth.streams import measure_streams
from tests.bench.standin.frontends import Frontend
from tests.bench.standin.measure import OTHERS_CORE, check_cores

Rows = Sequence[msgspec.Struct]

ON_STAND_INS: dict[str, Callable[[Sequence[Frontend], Path], Rows]] = {
    "streams": measure_streams,
    "prompts": measure_prompts,
    "messages": measure_messages,
}
ON_ENGINES: dict[str, Callable[[Path], Rows]] = {
    "adapters": measure_adapters,
    "start": measure_starts,
}
PARTS = [*ON_STAND_INS, *ON_ENGINES]


def main() -> None:
    chosen = options()
    if not chosen.plot_only:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of ending what was started
        os.environ["HF_HUB_OFFLINE"] = "1"
        with tempfile.TemporaryDirectory() as folder:
            run(chosen.parts, Path(folder))
    for part in chosen.parts:
        PLOTS[part]()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", default=PARTS)
    parser.add_argument("--plot-only", action="store_true", help="draw what was found before")
    chosen = parser.parse_args()
    if unknown := {*chosen.parts} - {*PARTS}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    return chosen


def run(parts: Sequence[str], folder: Path) -> None:
    """Those with real engines last: what they import would slow the clients down."""
    if stand_in_parts := [part for part in ON_STAND_INS if part in parts]:
        check_cores()
        with on_one_core(), pair(folder) as frontends:
            for part in stand_in_parts:
                with timed(part):
                    keep(part, ON_STAND_INS[part](frontends, folder / MODEL))
    for part in ON_ENGINES:
        if part in parts:
            with timed(part):
                keep(part, ON_ENGINES[part](folder / part))


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """We are clients: not where the frontends run."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OTHERS_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def timed(part: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)


def keep(part: str, rows: Rows) -> None:
    write_rows(rows, DATA / f"{part}.csv")


if __name__ == "__main__":
    main()
