"""Asks a server over and over whether it lives: `python -m tests.scorecard.watch URL PATH PID`.

One JSON line an answer on the standard output. Time in which the machine gave the asking or the
answering process no processor is told apart, and on every core a process that only echoes is asked
at the same time: how late that one is says how late anything is on this machine.
"""

import math
import os
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec

from tests.scorecard.raw import address_of

ASK_EVERY_SECONDS = 0.02
ANSWER_SECONDS = 60


class Answer(msgspec.Struct):
    """One question and its answer; seconds on the clock of `time.monotonic`, which all share."""

    asked: float
    answered: float
    starved: float
    """Of that, the time in which this process or the server was waiting for a processor."""

    echoed: float
    """The longest that an echo took meanwhile, in seconds."""

    @property
    def gap(self) -> float:
        """Seconds without an answer that are the server's own."""
        return self.answered - self.asked - self.starved


def starved_seconds(pid: str, before: dict[str, int]) -> float:
    """How long a process has been runnable without running since its threads' delays were these.

    That of its first thread, which answers, and of the one other that waited longest, which may
    have held the interpreter's lock; not the sum of all, of which most wait side by side.
    """
    waited = {thread: delay - before.get(thread, 0) for thread, delay in run_delays(pid).items()}
    first = waited.pop(str(os.getpid()) if pid == "self" else pid, 0)
    return (first + max(waited.values(), default=0)) / 1e9


def run_delays(pid: str) -> dict[str, int]:
    """Of every thread.

    https://docs.kernel.org/scheduler/sched-stats.html: the second number, in nanoseconds.
    """
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {each.name: run_delay(each) for each in threads}


def run_delay(thread: Path) -> int:
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0


def watch(url: str, path: str, *pids: str) -> None:
    """Runs until it is killed, or whoever started it is; a broken connection is made anew."""
    parent = os.getppid()
    question = f"GET {path} HTTP/1.1\r\nHost: watch\r\n\r\n".encode()
    connection: socket.socket | None = None
    connections = [echoing(core) for core in os.sched_getaffinity(0)]  # forks before any thread
    echoes = [Echo(each) for each in connections]
    while os.getppid() == parent:
        before = [run_delays(each) for each in pids]
        asked = time.monotonic()
        while connection is None or not is_answered(connection, question):
            connection = connected(url)
        answered = time.monotonic()
        starved = sum(starved_seconds(*each) for each in zip(pids, before, strict=True))
        echoed = max(each.longest() for each in echoes)
        line = msgspec.json.encode(Answer(asked, answered, starved, echoed))
        sys.stdout.write(line.decode() + "\n")
        sys.stdout.flush()
        time.sleep(ASK_EVERY_SECONDS)


class Echo:
    """Asks a process that only sends back what it gets, all the time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._longest = 0.0
        self._asked = time.monotonic()
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        while True:
            self._asked = time.monotonic()
            self._connection.sendall(b"?")
            self._connection.recv(1)
            self._longest = max(self._longest, time.monotonic() - self._asked)
            self._asked = math.inf
            time.sleep(ASK_EVERY_SECONDS)

    def longest(self) -> float:
        """Seconds of an echo since this was last asked, also of one that is still waited for."""
        longest = max(self._longest, time.monotonic() - self._asked)
        self._longest = 0.0
        return longest


def echoing(core: int) -> socket.socket:
    """A connection to a process, bound to a core, that echoes until this one ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork():
        return socket.create_connection(listener.getsockname())
    os.sched_setaffinity(0, {core})
    connection, _ = listener.accept()
    while byte := connection.recv(1):
        connection.sendall(byte)
    os._exit(0)


def connected(url: str) -> socket.socket | None:
    try:
        return socket.create_connection(address_of(url), ANSWER_SECONDS)
    except OSError:
        time.sleep(ASK_EVERY_SECONDS)
        return None


def is_answered(connection: socket.socket, question: bytes) -> bool:
    try:
        connection.sendall(question)
        return connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


if __name__ == "__main__":
    watch(*sys.argv[1:], "self")
