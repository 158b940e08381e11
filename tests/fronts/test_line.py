"""Calls between processes, both ends in this one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from app.errors import EngineDead
from app.fronts.line import HungUp, Line, open_line
from app.fronts.seat import HostedSeat

PLACE = {
    "index": 1,
    "count": 2,
    "input_address": "i",
    "output_address": "o",
    "files": {"model": "m"},
}


class Ends:
    """A line of which the other end says what it hears, once it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def open(self) -> "Ends":
        ours, theirs = socket.socketpair()
        self.theirs = await open_line(theirs, {"echo": self.echo, "fail": self.fail})
        self.ours = await open_line(ours, {"double": self.double})
        return self

    async def echo(self, told: Any) -> Any:
        await self.may_answer.wait()
        return told

    async def fail(self, told: Any) -> Any:
        raise ValueError(told)

    async def double(self, told: Any) -> Any:
        return told * 2


@pytest_asyncio.fixture(loop_scope="session")
async def ends() -> AsyncIterator[Ends]:
    ends = await Ends().open()
    yield ends
    await ends.ours.close()
    await ends.theirs.close()


async def test_both_ends_ask_at_once_and_large_answers_come_whole(ends: Ends) -> None:
    large = "x" * 1_000_000

    answers = await asyncio.gather(
        ends.ours.call("echo", large), ends.theirs.call("double", 21), ends.ours.call("echo", None)
    )

    assert answers == [large, 42, None]


async def test_a_failure_is_the_askers_and_the_line_goes_on(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HungUp, match="ValueError\\('no'\\)"):
        await ends.ours.call("fail", "no")

    assert "fail could not be answered" in caplog.text
    assert await ends.ours.call("echo", 1) == 1


async def test_an_end_that_goes_leaves_nobody_waiting(ends: Ends) -> None:
    ends.may_answer.clear()
    asking = asyncio.create_task(ends.ours.call("echo", 1))
    assert await ends.theirs.call("double", 1) == 2  # what was asked before has arrived by now

    await ends.theirs.close()

    async with asyncio.timeout(10):
        with pytest.raises(HungUp):
            await asking
        with pytest.raises(HungUp):
            await ends.ours.call("echo", 1)


async def seated() -> tuple[HostedSeat, Line]:
    ours, theirs = socket.socketpair()
    seat = HostedSeat()
    await seat.open(theirs)
    return seat, await open_line(ours, {})


async def test_a_seat_waits_for_its_place_and_learns_of_the_end() -> None:
    seat, host = await seated()
    waiting = asyncio.create_task(seat.place())

    await host.call("seated", PLACE)

    place = await waiting
    assert (place.index, place.count, place.files) == (1, 2, {"model": "m"})
    assert not seat.is_lost
    await host.call("lost", "The engine has died.")
    assert seat.is_lost
    await host.close()
    with pytest.raises(EngineDead):
        await seat.follow()
    await seat.close()


async def test_a_seat_at_an_engine_that_never_came_says_why() -> None:
    seat, host = await seated()

    await host.call("lost", "No such model")

    with pytest.raises(EngineDead, match="No such model"):
        await seat.place()
    await seat.close()
    await host.close()
