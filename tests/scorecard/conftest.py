"""What every row of the scorecard starts from, and what must hold after each.

By default the target is our server on an engine that talks, in a process of its own; with
`--target URL --target-pid PID` it is any other server, judged by the same rows.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import pytest

from tests.scorecard.target import Pulse, Target, our_server

CANARY_SECONDS = 2
MOST_GAP_SECONDS = 0.25
MOST_GROWTH_BYTES = 50 * 2**20
SETTLE_SECONDS = 30


class Bench:
    """The target and its pulse, both started anew if a row has ended it."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._running = ExitStack()
        self._start()

    def _start(self) -> None:
        self.target = self._running.enter_context(chosen_target(self._config))
        self.pulse = Pulse(self.target, self._folder / f"{self.target.pid}.jsonl")
        self._running.callback(self.pulse.close)
        self.pulse.until_beat(CANARY_SECONDS)

    def revive(self) -> None:
        if not self.target.is_alive:
            self.close()
            self._start()

    def close(self) -> None:
        self._running.close()


def chosen_target(config: pytest.Config) -> AbstractContextManager[Target]:
    url = config.getoption("--target")
    if not url:
        return our_server()
    target = Target(
        url=url.rstrip("/"),
        model=config.getoption("--target-model"),
        key=config.getoption("--target-key"),
        pid=config.getoption("--target-pid"),
        live_path="/health",
        is_ours=False,
    )
    return nullcontext(target)


@pytest.fixture(scope="session")
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    bench = Bench(request.config, tmp_path_factory.mktemp("pulse"))
    yield bench
    bench.close()


@pytest.fixture
def target(bench: Bench) -> Target:
    bench.revive()
    return bench.target


@pytest.fixture(autouse=True)
def invariant(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a row that has used the target, it is as well as before."""
    if "target" not in request.fixturenames:
        yield
        return
    bench, target = request.getfixturevalue("bench"), request.getfixturevalue("target")
    memory, started = target.memory_bytes, time.monotonic()
    yield
    assert target.is_alive, "the row has ended the server"
    assert_canary(target)
    assert_pulse(bench.pulse, started)
    assert_memory(target, memory + MOST_GROWTH_BYTES)


def assert_canary(target: Target) -> None:
    started = time.monotonic()
    with target.client(CANARY_SECONDS) as client:
        reply = client.post("/v1/chat/completions", json=target.chat())
    assert reply.status_code == 200, reply.text
    assert time.monotonic() - started < CANARY_SECONDS


def assert_pulse(pulse: Pulse, since: float, most_seconds: float = MOST_GAP_SECONDS) -> None:
    """Beyond what anything on this machine had to wait at its worst moment meanwhile."""
    pulse.until_beat(CANARY_SECONDS)
    answers = pulse.answers(since)
    gap = max(each.gap for each in answers) - max(each.echoed for each in answers)
    assert gap < most_seconds, f"no sign of life for {gap:.2f} s"


def assert_memory(target: Target, most_bytes: int) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while (memory := target.memory_bytes) > most_bytes:
        assert time.monotonic() < deadline, f"{memory - most_bytes} bytes above what is allowed"
        time.sleep(0.1)
