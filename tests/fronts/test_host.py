"""What frontends ask of each other through their host, with processes that only end."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from multiprocessing.process import BaseProcess
from typing import cast

import pytest
import pytest_asyncio

from app.fronts import host as hosting
from app.fronts.host import Frontend, Host
from app.fronts.seat import HostedSeat
from app.settings import Settings


class Ending:
    """As much of a process as a host looks at."""

    exitcode = None

    def __init__(self) -> None:
        self.sentinel, self._alive = os.pipe()

    def end(self) -> None:
        os.close(self._alive)


class Hosted:
    """A host, and the seats of its frontends."""

    def __init__(self) -> None:
        self.host = Host(Settings(frontends=2), sys.stderr)
        self.seats = [HostedSeat(), HostedSeat()]
        self.processes = [Ending(), Ending()]

    async def open(self) -> "Hosted":
        for index, (seat, process) in enumerate(zip(self.seats, self.processes, strict=True)):
            ours, theirs = socket.socketpair()
            frontend = Frontend(index, cast(BaseProcess, process), ours)
            self.host._frontends.append(frontend)
            await frontend.connect(self.host.answers(frontend))
            await seat.open(theirs)
        return self

    async def close(self) -> None:
        for seat, process, frontend in zip(
            self.seats, self.processes, self.host._frontends, strict=True
        ):
            await seat.close()
            process.end()
            await frontend.ended
            await frontend.disconnect()
            os.close(process.sentinel)


@pytest_asyncio.fixture(loop_scope="session")
async def hosted() -> AsyncIterator[Hosted]:
    hosted = await Hosted().open()
    yield hosted
    async with asyncio.timeout(10):
        await hosted.close()


async def test_numbers_are_common_and_the_last_to_release_one_learns_it(hosted: Hosted) -> None:
    one, other = hosted.seats

    assert await one.number("a@1") == await other.number("a@1") == 1
    assert [await other.release("a@1"), await one.release("a@1")] == [False, True]


async def test_who_wants_to_be_followed_waits_until_the_others_have(hosted: Hosted) -> None:
    one, other = hosted.seats
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def reconcile() -> None:
        begun.set()
        await may_end.wait()

    other.reconcile = reconcile
    following = asyncio.create_task(one.follow())
    await begun.wait()
    assert not following.done()

    may_end.set()

    async with asyncio.timeout(10):
        await following


async def test_metrics_of_one_that_hangs_are_left_out(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = hosted.seats
    hangs = asyncio.Event()

    async def expose() -> str:
        await hangs.wait()
        return "metrics"

    other.expose = expose
    monkeypatch.setattr(hosting, "METRICS_SECONDS", 0.01)
    assert await one.all_metrics() == {}

    hangs.set()
    monkeypatch.setattr(hosting, "METRICS_SECONDS", 10.0)

    assert await one.all_metrics() == {"1": "metrics"}


async def test_one_that_is_gone_is_not_waited_for(hosted: Hosted) -> None:
    one, other = hosted.seats

    await other.close()

    async with asyncio.timeout(10):
        await one.follow()
        assert await one.all_metrics() == {}
