"""Processes that are measured in turns: one runs, the others are stopped meanwhile."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from tests.bench.peers.batch import run_batches
from tests.bench.peers.dialogue import Question
from tests.bench.peers.latency import measure_first_token
from tests.bench.peers.load import run_wrk
from tests.bench.peers.machine import Steal, engine_pids, frontend_seconds, load_average
from tests.bench.peers.workloads import KEY, Block, Load, Way, Workload, WrongReply, chat_body
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
START_SECONDS = 600
ANSWER_SECONDS = 600
STOP_SECONDS = 40
SETTLE_SECONDS = 1.5
"""For an engine to drop what the end of a block cut off, before it is stopped itself."""

WAYS: dict[Way, Callable[[str, Workload, str, float], Load]] = {
    "wrk": run_wrk,
    "first token": measure_first_token,
    "batch": run_batches,
}


class Peer:
    """A process and its children, whose output goes to a file of its name."""

    stdin: int = subprocess.DEVNULL
    stdout: int | None = None

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, variables: dict[str, str]
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_")}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=environment | variables,
                stdin=self.stdin,
                stdout=self.stdout or output,
                stderr=output,
                process_group=0,
            )

    def run(self, workload: Workload, block: str, seconds: float) -> Load:
        raise NotImplementedError

    @property
    def processes(self) -> list[psutil.Process]:
        """The frontend's first one, then all its children."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def pause(self) -> None:
        """Stop every process; a frontend before its engine, whose silence it would notice.

        One by one: the processes of our engine are groups of their own.
        """
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in reversed(self.processes):
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def measure(self, workload: Workload, block: str, seconds: float) -> Block:
        """One turn of this peer. Raises WrongReply, also if it has started another engine."""
        engine = engine_pids(self.processes)
        self.resume()
        time.sleep(SETTLE_SECONDS)
        steal, before = Steal(), frontend_seconds(self.processes)
        try:
            load = self.run(workload, block, seconds)
        except WrongReply as error:
            raise WrongReply(f"{self.name}, {block}: {error}") from error
        used = frontend_seconds(self.processes) - before
        measured = Block(load, used, load_average(), steal.share)
        time.sleep(SETTLE_SECONDS)
        if engine_pids(self.processes) != engine:
            raise WrongReply(f"{self.name} has another engine than before.")
        self.pause()
        return measured

    def close(self) -> None:
        """Ask it to end, then end what is left of it."""
        if self.process.poll() is None:
            processes = self.processes
            self.resume()
            self.ask_to_end()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
            kill(processes)

    def ask_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def said(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-3000:]


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


class Server(Peer):
    """Speaks HTTP on a free port; its command gets `--port`."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, variables: dict[str, str]
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(name, [*command, "--port", str(port)], folder, variables)

    def until_ready(self) -> None:
        """Wait for its first reply. Raises RuntimeError."""
        deadline = time.monotonic() + START_SECONDS
        while not self.replies():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {self.said()}")
            time.sleep(0.5)

    def replies(self) -> bool:
        with suppress(httpx.TransportError):
            return self.ask(chat_body("Hello", 1, stream=False)).status_code == 200
        return False

    def ask(self, body: dict[str, object]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60)

    def run(self, workload: Workload, block: str, seconds: float) -> Load:
        return WAYS[workload.way](self.url, workload, block, seconds)


class Child(Peer):
    """A module of this bench that answers questions, as `dialogue` says."""

    stdin = stdout = subprocess.PIPE

    def until_ready(self) -> dict[str, Any]:
        """What it says of itself."""
        return msgspec.json.decode(self._line(START_SECONDS), type=dict[str, Any])

    def run(self, workload: Workload, block: str, seconds: float) -> Load:
        asked = Question(workload=workload.name, block=block, seconds=seconds)
        return msgspec.json.decode(self._answer(asked), type=Load)

    def texts(self, prompts: Sequence[str], tokens: int) -> list[str]:
        """What follows each, one asked after the other."""
        asked = Question(prompts=list(prompts), tokens=tokens)
        return msgspec.json.decode(self._answer(asked), type=list[str])

    def ask_to_end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _answer(self, asked: Question) -> bytes:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(asked) + b"\n")
        self.process.stdin.flush()
        return self._line(ANSWER_SECONDS)

    def _line(self, seconds: float) -> bytes:
        output = self.process.stdout
        assert output is not None
        is_there, _, _ = select.select([output], [], [], seconds)
        line: bytes = output.readline() if is_there else b""
        if not line:
            raise RuntimeError(f"{self.name} gave no answer: {self.said()}")
        return line
