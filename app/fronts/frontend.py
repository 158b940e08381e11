"""One frontend: the whole application, in a process that the host has started."""

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Any, TextIO

import msgspec

from app.configuration import ConfigurationError
from app.console import Console
from app.fronts.seat import HostedSeat
from app.settings import Settings

POLL_SECONDS = 0.1
SIGNALS = (signal.SIGTERM, signal.SIGINT)
WRONG_SETTINGS_EXIT = 2


class Station(msgspec.Struct, frozen=True):
    """What a frontend is started with; multiprocessing carries it over."""

    index: int
    settings: Settings
    listener: socket.socket
    """Bound, and not listening yet."""

    end: socket.socket
    """Of the line to the host."""

    terminal: Any
    """`DupFd` of it: our own descriptors 1 and 2 are those of the host, which lead to its log."""


def run_frontend(station: Station) -> None:
    """The process' whole life. Its exit status is one of those of `python -m app`."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    descriptor = station.terminal.detach()
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    with Console(station.settings) as console:
        status = run_station(station, console)
    sys.exit(status)


def run_station(station: Station, console: Console) -> int:
    if station.index:
        keep_to_requests(console.terminal)
    import uvloop

    try:
        return uvloop.run(serve_station(station))
    except ConfigurationError as error:
        console.say(f"slipstream: {error.message}")
        return WRONG_SETTINGS_EXIT


def keep_to_requests(terminal: TextIO) -> None:
    """What every frontend says of itself alike, the first one says on the console."""
    for each in logging.getLogger("app").handlers:
        if isinstance(each, logging.StreamHandler) and each.stream is terminal:
            each.addFilter(lambda it: it.levelno > logging.INFO or not it.name.startswith("app"))


async def serve_station(station: Station) -> int:
    """Serve until told to stop. Raises ConfigurationError."""
    from app.asgi import create_app
    from app.engine.vllm import VLLMEngine
    from app.fronts.shared_metrics import SharedMetrics
    from app.server import serve
    from app.supervision import SupervisedEngine
    from app.tools.dialects import MARKS

    seat = HostedSeat()
    metrics = SharedMetrics(station.index, seat)
    engine = SupervisedEngine(
        lambda: VLLMEngine(station.settings, MARKS, seat=seat), station.settings, metrics
    )
    app = create_app(station.settings, engine, metrics, seat)

    async def reconcile() -> None:
        """Not before our own start has read the journal: it goes on with what it has read."""
        while app.models.status == "loading":  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(POLL_SECONDS)
        await app.models.adapters.reconcile()

    async def expose() -> str:
        metrics.in_flight.set(app.admission.in_flight)
        return await asyncio.to_thread(metrics.text)

    seat.reconcile, seat.expose = reconcile, expose
    await seat.open(station.end)
    try:
        return await serve(app, station.settings, [station.listener])
    finally:
        await seat.close()
