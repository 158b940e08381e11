"""One frontend with a stand-in core of its own: started, loaded, asked what it did, ended."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import psutil
import zmq

from tests.bench.standin.asks import MODEL_NAME, Asks
from tests.bench.standin.core import Counters, Orders
from tests.bench.standin.direct import Errand
from tests.bench.standin.launches import ENVIRONMENT, KEY, Launch, Place
from tests.bench.standin.measure import FRONTEND_CORE, OTHERS_CORE, pin, tree
from tests.bench.standin.once import ask_once
from tests.bench.standin.tally import Tally
from tests.bench.standin.wrk import run_wrk, write_table

ROOT = Path(__file__).parents[3]
START_SECONDS = 300
STOP_SECONDS = 20
CONTROL_SECONDS = 60
"""A core answers between two steps; only a machine that others use too lets it wait."""


class Frontend:
    """One frontend and its engine core, each kept on its own processor core."""

    standard_output: int | None = None

    def __init__(self, launch: Launch, place: Place) -> None:
        place.folder.mkdir(parents=True)
        self.name = launch.name
        self.url = f"http://127.0.0.1:{place.port}"
        self.log = place.folder / f"{launch.name}.log"
        self._place = place
        control = f"ipc://{place.folder}/control"
        told = [str(place.core_port), str(place.model), control]
        core = Launch("core", "tests.bench.standin.core", told)
        self._core = self._start(core, OTHERS_CORE, None)
        self._context = zmq.Context()
        self._control = self._context.socket(zmq.REQ)
        self._control.setsockopt(zmq.RCVTIMEO, CONTROL_SECONDS * 1000)
        self._control.connect(control)
        self.process = self._start(launch, FRONTEND_CORE, self.standard_output)
        self._files: dict[int, Path] = {}

    def _start(self, launch: Launch, core: int, output: int | None) -> subprocess.Popen[bytes]:
        """`output`: where its standard output goes, if not into its log."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_", "VLLM_"))}
        with (self._place.folder / f"{launch.name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", launch.module, *launch.options],
                cwd=ROOT,
                env=environment | ENVIRONMENT | launch.environment,
                stdin=subprocess.PIPE,
                stdout=log if output is None else output,
                stderr=log,
            )
        pin(process.pid, core)
        return process

    @property
    def pid(self) -> int:
        return self.process.pid

    def until_ready(self) -> None:
        """Raises RuntimeError if it ends, TimeoutError if it takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self.process.poll() is not None or self._core.poll() is not None:
                raise RuntimeError(f"{self.name} has ended: {self.log.read_text()[-3000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not ready after {START_SECONDS} s")
            time.sleep(0.5)

    def _is_ready(self) -> bool:
        asked = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "x"}]}
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            reply = httpx.post(
                f"{self.url}/v1/chat/completions",
                json=asked | {"max_tokens": 1},
                headers=headers,
                timeout=60,
            )
        except httpx.TransportError:
            return False
        if reply.status_code not in (200, 503):
            raise RuntimeError(f"{self.name} answers {reply.status_code}: {reply.text}")
        return reply.status_code == 200

    def order(self, step_seconds: float, steps: int | None = None) -> Counters:
        """Set the pace of its core, and for how long; what the core has done so far."""
        return self._tell(Orders(step_seconds, steps))

    def counters(self) -> Counters:
        """What its core has done so far."""
        return self._tell(None)

    def _tell(self, orders: Orders | None) -> Counters:
        self._control.send(msgspec.msgpack.encode(orders))
        return msgspec.msgpack.decode(self._control.recv(), type=Counters)

    def load(self, asks: Asks, connections: int, seconds: float) -> Tally:
        """Ask for so long and check every answer."""
        return run_wrk(self.url, self._file(asks), connections, seconds)

    def ask_once(self, asks: Asks, connections: int) -> Tally:
        """So many requests at once, all of which are read to their end."""
        return asyncio.run(ask_once(self.url, KEY, asks, connections))

    def _file(self, asks: Asks) -> Path:
        """Where its load's maker reads what to ask."""
        if id(asks) not in self._files:
            self._files[id(asks)] = self._write(asks, self._place.folder / f"{len(self._files)}")
        return self._files[id(asks)]

    def _write(self, asks: Asks, path: Path) -> Path:
        return write_table(asks, path)

    def close(self) -> None:
        """End what was started, the hard way if need be."""
        below = [psutil.Process(pid) for pid in tree(self.pid)[1:]] if self._runs else []
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._core.kill()
        for each in (each for each in below if each.is_running()):
            each.kill()
        self.process.wait()
        self._core.wait()
        self._control.close(linger=0)
        self._context.term()

    @property
    def _runs(self) -> bool:
        return self.process.poll() is None


class Direct(Frontend):
    """No HTTP: it makes its load itself, as it is told in lines."""

    standard_output = subprocess.PIPE

    def _is_ready(self) -> bool:
        return self._read_line() == b"ready"

    def _read_line(self) -> bytes:
        """What it says next; vLLM prints there too."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith((b"ready", b"{")):
                return line.strip()
        raise RuntimeError(f"{self.name} has ended: {self.log.read_text()[-3000:]}")

    def load(self, asks: Asks, connections: int, seconds: float) -> Tally:
        assert self.process.stdin is not None
        errand = Errand(str(self._file(asks)), connections, seconds)
        self.process.stdin.write(msgspec.json.encode(errand) + b"\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self._read_line(), type=Tally)

    def ask_once(self, asks: Asks, connections: int) -> Tally:
        return self.load(asks, connections, 0)

    def _write(self, asks: Asks, path: Path) -> Path:
        path.write_bytes(msgspec.msgpack.encode(asks))
        return path


@contextmanager
def start(launch: Launch, place: Place) -> Iterator[Frontend]:
    """Ready, until the block ends. Raises RuntimeError, TimeoutError."""
    frontend = (Direct if launch.name == "direct" else Frontend)(launch, place)
    try:
        frontend.until_ready()
        yield frontend
    finally:
        frontend.close()
