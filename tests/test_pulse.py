"""Whose silence it is, on a clock of the tests' own."""

import asyncio

import pytest

from app import pulse
from app.pulse import Pulse
from tests.fake_engine import FakeEngine


class Clock:
    """What time it is; goes on when it is told."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pulse, "time", clock)
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0)
    return clock


async def looks() -> None:
    """A few, at the time that it is."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_time_for_which_we_were_stopped_is_not_the_engine_s_silence(clock: Clock) -> None:
    engine, heart = FakeEngine(), Pulse(hang_seconds=120)
    engine.beating.clear()
    watching = asyncio.create_task(heart.failure(engine))
    await looks()

    clock.now += 5000
    await looks()
    assert not watching.done()
    assert heart.silence_seconds < 120

    for _ in range(130):
        clock.now += 1
        await looks()
    assert await asyncio.wait_for(watching, 5) == "hung"


async def test_what_is_asked_after_a_stop_is_waited_for_no_longer_than_ever(clock: Clock) -> None:
    engine, heart = FakeEngine(), Pulse(hang_seconds=120)
    watching = asyncio.create_task(heart.failure(engine))
    await looks()
    heart._asked = clock.now = clock.now + 5000
    await looks()

    clock.now += 1
    assert heart.silence_seconds == 1
    watching.cancel()
