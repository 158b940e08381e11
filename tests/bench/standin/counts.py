"""Calls a token and a request, in which no machine's speed is.

So many streams at once of two lengths: what grows with the length is the tokens', the rest the
requests'. What a frontend does while nobody asks it anything is taken off.
"""

import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from tests.bench.standin import strace
from tests.bench.standin.asks import Asks, Prompts
from tests.bench.standin.calls import Calls
from tests.bench.standin.frontends import Frontend, start
from tests.bench.standin.launches import LAUNCHES, Launch, place_in
from tests.bench.standin.measure import write_calls

STREAMS = 16
LENGTHS = (8, 72)
STEP_SECONDS = 0.05
"""So slow that under a profiler, too, every token goes out before the next one comes."""

IDLE_SECONDS = 3
WRITE_SECONDS = 30
MOST_CALLED = 12

Numbers = dict[str, int]
"""By what is counted."""


class Sample(msgspec.Struct):
    """What was counted in some seconds."""

    seconds: float
    numbers: Numbers


def print_counts(folder: Path, model: Path, names: Sequence[str]) -> None:
    """One frontend after the other; raises WrongAnswers."""
    prompts = Prompts(model)
    lengths = [prompts.asks(each, stream=True) for each in LENGTHS]
    for name in names:
        result = folder / f"{name}.json"
        folder.mkdir(exist_ok=True)
        place = place_in(folder / name, model)
        launch = counted(LAUNCHES[name](place), result)
        with start(launch, place) as frontend:
            Counting(frontend, result).report(lengths)


def counted(launch: Launch, result: Path) -> Launch:
    """The same under `counted`."""
    options = [str(result), launch.module, *launch.options]
    return msgspec.structs.replace(launch, module="tests.bench.standin.counted", options=options)


class Counting:
    """One frontend, started under `counted`, and the file where that writes."""

    def __init__(self, frontend: Frontend, result: Path) -> None:
        self._frontend = frontend
        self._result = result

    def report(self, lengths: Sequence[Asks]) -> None:
        for asks in lengths:
            self._ask(asks)  # what happens only once has happened
        ways: list[Callable[[Callable[[], None]], Numbers]] = [self._calls]
        if strace.is_there():
            ways.append(self._system_calls)
        print(f"\n{self._frontend.name}, {STREAMS} streams at once")
        for way in ways:
            self._print(way, lengths)

    def _print(self, way: Callable[[Callable[[], None]], Numbers], lengths: Sequence[Asks]) -> None:
        idle = sample(way, lambda: time.sleep(IDLE_SECONDS))
        short, long = (sample(way, partial(self._ask, asks)) for asks in lengths)
        for name in [key for key in long.numbers if key in HEADINGS]:
            a_token, a_request = slopes(name, idle, short, long)
            heading = HEADINGS[name]
            print(f"  {heading:34} {a_token:8.2f} a token {a_request:9.1f} a request", flush=True)
        rest = sorted(
            ((slopes(name, idle, short, long)[0], name) for name in {*long.numbers} - {*HEADINGS}),
            reverse=True,
        )
        for a_token, name in rest[:MOST_CALLED]:
            print(f"      {a_token:7.2f} a token  {name}", flush=True)

    def _ask(self, asks: Asks) -> None:
        self._frontend.order(STEP_SECONDS)
        self._frontend.ask_once(asks, STREAMS).check(self._frontend.name)

    def _calls(self, work: Callable[[], None]) -> Numbers:
        """Function calls of the event loop's thread, and write calls of the whole process."""
        self._result.unlink(missing_ok=True)
        process, before = self._frontend.process, write_calls(self._frontend.pid)
        process.send_signal(signal.SIGUSR1)
        work()
        process.send_signal(signal.SIGUSR2)
        written = write_calls(self._frontend.pid) - before
        calls = self._read()
        numbers = {"python": calls.num_python, "builtin": calls.num_builtin, "written": written}
        return numbers | {short_name(name): count for name, count in calls.python.items()}

    def _read(self) -> Calls:
        deadline = time.monotonic() + WRITE_SECONDS
        while not self._result.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._frontend.name} has written no counts")
            time.sleep(0.05)
        return msgspec.json.decode(self._result.read_bytes(), type=Calls)

    def _system_calls(self, work: Callable[[], None]) -> Numbers:
        summary = self._result.with_suffix(".strace")
        calls = strace.system_calls(self._frontend.pid, work, summary)
        named = {"system": sum(calls.values()), "writing": strace.num_writing(calls)}
        return named | {f"system call {name}": count for name, count in calls.items()}


HEADINGS = {
    "python": "calls of Python functions",
    "builtin": "calls of built-in functions",
    "written": "write, writev (/proc/*/io)",
    "system": "system calls (strace)",
    "writing": "of these writing or sending",
}


def sample(way: Callable[[Callable[[], None]], Numbers], work: Callable[[], None]) -> Sample:
    started = time.perf_counter()
    numbers = way(work)
    return Sample(time.perf_counter() - started, numbers)


def slopes(name: str, idle: Sample, short: Sample, long: Sample) -> tuple[float, float]:
    """A token's and a request's part."""
    rate = idle.numbers.get(name, 0) / idle.seconds
    few, many = (each.numbers.get(name, 0) - rate * each.seconds for each in (short, long))
    a_token = (many - few) / (STREAMS * (LENGTHS[1] - LENGTHS[0]))
    return a_token, few / STREAMS - a_token * LENGTHS[0]


def short_name(name: str) -> str:
    """Without the folders above packages."""
    return name.rpartition("site-packages/")[2].removeprefix(f"{Path.cwd()}/")
