"""Work that is slow or large, done in a child process while its progress is drawn here.

A download cannot be cancelled in a thread, and what a conversion allocates does not all come back:
a process can be ended at any moment and returns everything. Whoever shuts the server down ends
`multiprocessing.active_children()`, and this with them. Knows nothing of models.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TextIO, TypeVar

from app.engine.checkpoints.progress import Progress
from app.engine.checkpoints.unusable import CheckpointUnusable, first_line

P = ParamSpec("P")
T = TypeVar("T")
REPORT_EVERY_SECONDS: Final = 0.1


class Step(NamedTuple):
    """How far the work is, in bytes."""

    done: int
    total: int


class Result(NamedTuple):
    value: Any


class Failure(NamedTuple):
    message: str


class Report:
    """The child's end: tells how far the work is. Safe to call from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._furthest = Step(0, 0)
        self._reported = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Steps back are left out, and so are steps that follow too soon."""
        with self._lock:
            now = time.monotonic()
            if Step(done, total) <= self._furthest:
                return
            self._furthest = Step(done, total)
            if now - self._reported >= REPORT_EVERY_SECONDS or done == total:
                self._reported = now
                self._connection.send(self._furthest)


def run_in_child(
    label: str,
    stream: TextIO,
    work: Callable[Concatenate[Report, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """What `work(report, …)` returns; `label` names it where progress is drawn.

    `work`, its arguments and its result must be picklable. Raises CheckpointUnusable if the work
    fails or its process is ended.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, work, args, kwargs), daemon=True)
    process.start()
    sender.close()
    progress = Progress(stream, label)
    try:
        value: T = _follow(label, receiver, progress, process)
        process.join()
        return value
    finally:
        progress.close()
        process.kill()
        process.join()


def _follow(label: str, receiver: Connection, progress: Progress, process: BaseProcess) -> Any:
    while True:
        try:
            message = receiver.recv()
        except EOFError:
            process.join()
            reason = f"its process ended with {process.exitcode}"
            hint = "; was there enough memory?" if process.exitcode == -9 else "."
            raise CheckpointUnusable(f"{label}: {reason}{hint}") from None
        match message:
            case Step():
                progress.show(*message)
            case Result():
                return message.value
            case Failure():
                raise CheckpointUnusable(message.message)


def _work(connection: Connection, work: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        value = work(Report(connection), *args, **kwargs)
    except CheckpointUnusable as error:
        connection.send(Failure(error.message))
    except Exception as error:
        connection.send(Failure(f"{type(error).__name__}: {first_line(error)}."))
        raise
    else:
        connection.send(Result(value))
