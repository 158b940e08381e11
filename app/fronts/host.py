"""The process that answers nobody: it runs the engine, and the frontends that do.

Whatever ends without having been told to ends all of it, so that whoever supervises the server
starts it anew: vLLM's engine takes no new client in the place of one that is gone.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import TYPE_CHECKING, Any, TextIO

from app.engine.checkpoints.unusable import first_line
from app.engine.leash import leash_children
from app.fronts.frontend import SIGNALS, Station, run_frontend
from app.fronts.line import Answer, HungUp, Line, open_line
from app.fronts.listeners import bind_all
from app.fronts.numbers import SharedNumbers
from app.fronts.shares import shares
from app.keys.ring import KeyRing
from app.server import ABORT_SECONDS, ENGINE_FAILED_EXIT
from app.settings import Settings

if TYPE_CHECKING:
    from app.engine.cores import Cores

logger = logging.getLogger(__name__)

METRICS_SECONDS = 2.0
"""For a frontend to tell its metrics; those of the others do not wait for one that hangs."""

KILL_SECONDS = 0.2
"""How often what still starts is killed, until nothing more comes."""


class Frontend:
    """A frontend's process, as its host knows it."""

    def __init__(self, index: int, process: BaseProcess, end: socket.socket) -> None:
        self.index = index
        self.process = process
        self._end = end
        self.line: Line | None = None
        self.ended = asyncio.create_task(ended([process.sentinel]))

    async def connect(self, answers: Mapping[str, Answer]) -> None:
        self.line = await open_line(self._end, answers)

    async def disconnect(self) -> None:
        if self.line is not None:
            await self.line.close()

    async def ask(self, name: str, argument: Any = None, seconds: float | None = None) -> Any:
        """None from one that is gone, or takes longer than that."""
        if self.line is None:
            return None
        with suppress(HungUp, TimeoutError):
            async with asyncio.timeout(seconds):
                return await self.line.call(name, argument)

    def signal(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    @property
    def status(self) -> int:
        """Of its exit; to be killed counts as a failure."""
        return ENGINE_FAILED_EXIT if (code := self.process.exitcode or 0) < 0 else code


class Host:
    """One engine and its frontends, from their start to their end."""

    def __init__(self, settings: Settings, terminal: TextIO) -> None:
        """Raises ConfigurationError for keys that several processes cannot share."""
        KeyRing(settings)
        self._settings = settings
        self._terminal = terminal
        self._numbers = SharedNumbers()
        self._frontends: list[Frontend] = []
        self._is_stopping = False
        self._is_lost = False
        """The engine is; frontends that know it end by themselves."""

    async def run(self) -> int:
        """Returns the exit status, as that of a single process. Raises ConfigurationError."""
        leash_children()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
        await self._start_frontends()
        opening = asyncio.create_task(
            asyncio.to_thread(start_engine, self._settings, self._terminal)
        )
        living = asyncio.create_task(self._follow_engine(opening))
        try:
            return await self._follow_frontends()
        finally:
            living.cancel()
            await asyncio.wait([living])
            await end_engine(opening)
            for each in self._frontends:
                await each.disconnect()

    def _stop(self, number: int) -> None:
        """They drain by themselves, and know what a second signal means."""
        self._is_stopping = True
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for each in self._frontends:
            each.signal(number)

    async def _start_frontends(self) -> None:
        settings = self._settings
        listeners = bind_all(settings.host, settings.port, settings.frontends)
        for index, (own, listener) in enumerate(zip(shares(settings), listeners, strict=True)):
            frontend = start_frontend(index, own, listener, self._terminal)
            self._frontends.append(frontend)
            await frontend.connect(self.answers(frontend))
            listener.close()
        if self._is_stopping:  # some have come too late to be told
            self._signal_all(signal.SIGTERM)

    async def _follow_engine(self, opening: asyncio.Task["Cores"]) -> None:
        """Give each frontend its place, and tell all when the engine is no more."""
        await asyncio.wait([opening])
        if error := opening.exception():
            await self._lose(first_line(error))
            return
        cores = opening.result()
        places = zip(self._frontends, cores.places(), strict=True)
        seating = asyncio.gather(*(each.ask("seated", place) for each, place in places))
        await ended(cores.sentinels)
        await self._lose("The engine has died")
        await seating

    async def _lose(self, reason: str) -> None:
        self._is_lost = True
        await self._ask_all("lost", reason)

    async def _follow_frontends(self) -> int:
        """Until the last has ended, of which the first means the end of all. Returns the status."""
        endings = [each.ended for each in self._frontends]
        await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        if not self._is_stopping and not self._is_lost:
            gone = next(each.index for each in self._frontends if each.ended.done())
            logger.error("frontend %d has ended: the others finish what is running", gone)
            self._signal_all(signal.SIGTERM)
        settings = self._settings
        limit = settings.drain_seconds + settings.linger_seconds + 2 * ABORT_SECONDS
        await asyncio.wait(endings, timeout=limit)
        self._signal_all(signal.SIGKILL)
        await asyncio.wait(endings)
        worst = max(each.status for each in self._frontends)
        return worst or (0 if self._is_stopping else ENGINE_FAILED_EXIT)

    async def _ask_all(
        self,
        name: str,
        argument: Any = None,
        besides: Frontend | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Answers by index, at once; None where there is none in time."""
        asked = [each for each in self._frontends if each is not besides]
        answers = await asyncio.gather(*(each.ask(name, argument, seconds) for each in asked))
        return {str(each.index): answer for each, answer in zip(asked, answers, strict=True)}

    def answers(self, frontend: Frontend) -> dict[str, Answer]:
        """What a frontend may ask; see `seat.HostedSeat`."""

        async def number(name: str) -> int:
            return self._numbers.take(name)

        async def release(name: str) -> bool:
            return self._numbers.give_back(name)

        async def follow(_: None) -> None:
            await self._ask_all("reconcile", besides=frontend)

        async def metrics(_: None) -> dict[str, str]:
            texts = await self._ask_all("metrics", besides=frontend, seconds=METRICS_SECONDS)
            return {index: text for index, text in texts.items() if text is not None}

        return {"number": number, "release": release, "follow": follow, "metrics": metrics}


def start_frontend(
    index: int, settings: Settings, listener: socket.socket, terminal: TextIO
) -> Frontend:
    ours, theirs = socket.socketpair()
    context = multiprocessing.get_context("spawn")
    station = Station(index, settings, listener, theirs, DupFd(terminal.fileno()))
    process = context.Process(target=run_frontend, args=(station,), name=f"Frontend_{index}")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process.start()  # with the mask, until it can be told to stop
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return Frontend(index, process, ours)


def start_engine(settings: Settings, terminal: TextIO) -> "Cores":
    """In a thread, where vLLM is imported too."""
    from app.engine.cores import launch

    return launch(settings, terminal)


async def end_engine(opening: asyncio.Task["Cores"]) -> None:
    """One that is still being started fails when its processes are killed."""
    while not opening.done():
        for child in multiprocessing.active_children():
            child.kill()
        await asyncio.wait([opening], timeout=KILL_SECONDS)
    if opening.exception() is None:
        await asyncio.to_thread(opening.result().close)


async def ended(sentinels: Iterable[int]) -> None:
    """Wait until one of these processes has ended."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for each in sentinels:
        loop.add_reader(each, end.set)
    try:
        await end.wait()
    finally:
        for each in sentinels:
            loop.remove_reader(each)
