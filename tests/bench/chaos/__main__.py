"""Mixed load while the engine is killed and stopped: python -m tests.bench.chaos [--minutes 30].

Clients come at random, a fifth of them leave, some readers stall, adapters are swapped. Afterwards
clients, log and metrics have to agree on every request, and nothing may have grown. With
`--no-faults` nobody touches the engine, which makes it a soak. Ends with 1 if anything is broken.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bench.chaos.asks import TEXT_KINDS, VISION_KINDS, Asker
from tests.bench.chaos.faults import Fault, break_engine, make_versions, swap_adapters
from tests.bench.chaos.load import Load
from tests.bench.chaos.report import report
from tests.bench.chaos.samples import Sample, Watch
from tests.bench.chaos.serving import KEY, Serving, serving
from tests.bench.chaos.verdict import Run, findings

IDLE_SECONDS = 10
OPTIONS = ("--restart-wait-seconds", "120", "--max-engine-failures", "1000", "--hang-seconds", "60")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=8, help="requests a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-faults", action="store_true", help="leave the engine alone")
    parser.add_argument("--no-pictures", action="store_true", help="start no vision model")
    parser.add_argument("--report", type=Path, help="where to write the report; else it is printed")
    parser.add_argument("--folder", type=Path, help="where the logs stay; else they are removed")
    return parser.parse_args()


async def main(chosen: argparse.Namespace) -> int:
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        versions = make_versions(folder / "adapters")
        adapters = ("--adapter-dir", str(folder / "adapters"), "--adapters", demo_adapters())
        text = stack.enter_context(serving("text", folder / "text", *OPTIONS, *adapters))
        text.until_ready()
        runs = [drive(text, chosen, versions)]
        if not chosen.no_pictures:
            vision = stack.enter_context(
                serving("vision", folder / "vision", *OPTIONS, "--model", "demo-vision")
            )
            vision.until_ready()
            runs.append(drive(vision, chosen, []))
        done = await asyncio.gather(*runs)
    judged = [(run, findings(run)) for run in done]
    tell(report(title(chosen), judged), chosen.report)
    return 0 if all(each.holds for _, found in judged for each in found) else 1


def demo_adapters() -> str:
    folder = Path(__file__).parents[3] / "app/demo/adapters"
    return ",".join(f"{name}={folder / name}" for name in ("pirate", "traditional"))


def title(chosen: argparse.Namespace) -> str:
    what = "Soak" if chosen.no_faults else "Chaos"
    return f"{what}: {chosen.minutes:g} minutes at {chosen.rate:g} requests/s, seed {chosen.seed}"


def tell(text: str, file: Path | None) -> None:
    if file is None:
        print(text)
    else:
        file.write_text(text)


async def drive(server: Serving, chosen: argparse.Namespace, versions: list[str]) -> Run:
    """Load and faults on one server, then everything that is known of it."""
    generator = random.Random(f"{chosen.seed} {server.name}")
    asker = Asker(server.url, KEY, random.Random(generator.random()))
    kinds = TEXT_KINDS if versions else VISION_KINDS
    load = Load(server.name, asker, kinds, chosen.rate if versions else chosen.rate / 8)
    watch, faults, seconds = Watch(server, load.records), list[Fault](), chosen.minutes * 60
    before = watch.look()
    disturbances = [watch.run()]
    if versions:
        disturbances.append(swap_adapters(server, generator, versions))
    async with disturbed(disturbances), asyncio.TaskGroup() as group:
        group.create_task(load.run(seconds))
        if not chosen.no_faults:
            group.create_task(break_engine(server, generator, faults, seconds))
    await asker.aclose()
    after = await idle(watch, before)
    metrics = server.metrics()
    exit_status, left_behind = await asyncio.to_thread(server.stop)
    return Run(
        name=server.name,
        records=load.records,
        faults=faults,
        before=before,
        after=after,
        samples=watch.samples,
        metrics=metrics,
        lines=server.log(),
        exit_status=exit_status,
        left_behind=left_behind,
    )


async def idle(watch: Watch, before: Sample) -> Sample:
    """When closed connections are gone from the server too, or have had time enough."""
    for _ in range(IDLE_SECONDS):
        if watch.look().descriptors <= before.descriptors:
            break
        await asyncio.sleep(1)
    return watch.look()


@asynccontextmanager
async def disturbed(disturbances: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run these meanwhile; what fails in one of them is raised at the end."""
    tasks = [asyncio.create_task(each) for each in disturbances]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
            raise error


if __name__ == "__main__":
    sys.exit(asyncio.run(main(options())))
