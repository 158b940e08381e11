"""A server in a process of its own, and what can be read of it from outside."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

ROOT = Path(__file__).parents[3]
KEY, ADMIN_KEY = "chaos", "chaos-admin"
START_SECONDS = 300
STOP_SECONDS = 90
GONE_SECONDS = 5
GONE = "gone"
CORE = "EngineCore"


class Serving:
    """One server with its log folder."""

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        self.name = name
        self.folder = folder
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_")}
        command = (sys.executable, "-m", "app", "--port", "0", "--log-dir", str(folder / "log"))
        keys = ("--api-keys", KEY, "--admin-keys", ADMIN_KEY, "--state-dir", str(folder / "state"))
        self._console = folder / "console"
        with self._console.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *keys, *options], cwd=ROOT, env=environment, stderr=output
            )
        self.url = self._until_listening()
        self.admin = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=60
        )

    def _until_listening(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while "listening on " not in (said := self._console.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {said}")
            time.sleep(0.1)
        return said.partition("listening on ")[2].partition(",")[0]

    def until_ready(self, seconds: float = START_SECONDS) -> float:
        """Wait until it takes requests; returns for how long. Raises TimeoutError, RuntimeError."""
        started = time.monotonic()
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} has ended: {self._console.read_text()[-2000:]}")
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"{self.name} is not ready after {seconds} s")
            time.sleep(0.2)
        return time.monotonic() - started

    def is_ready(self) -> bool:
        try:
            return self.admin.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def processes(self) -> list[psutil.Process]:
        """The one that speaks HTTP first, then its children."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    @property
    def core(self) -> psutil.Process | None:
        return next((each for each in self.processes[1:] if CORE in name_of(each)), None)

    def metrics(self) -> str:
        return self.admin.get("/metrics").text

    def log(self) -> list[dict[str, Any]]:
        """Every line about a request, of all files that the log has grown to."""
        files = (self.folder / "log").glob("slipstream.log*")
        lines = [line for file in files for line in file.read_bytes().splitlines()]
        return [each for each in map(msgspec.json.decode, lines) if "request_id" in each]

    def stop(self) -> tuple[int | None, list[str]]:
        """Drain; its exit status, and the names of children that are left."""
        children = self.processes[1:]
        self.process.send_signal(signal.SIGTERM)
        try:
            status: int | None = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        _, left = psutil.wait_procs(children, GONE_SECONDS)
        return status, [name for each in left if (name := name_of(each)) != GONE]

    def close(self) -> None:
        self.admin.close()
        self.process.kill()
        self.process.wait()


def name_of(process: psutil.Process) -> str:
    """Its command line, where vLLM names its processes; GONE if it is only to be reaped yet."""
    try:
        return " ".join(process.cmdline()) or GONE
    except psutil.Error:
        return GONE


@contextmanager
def serving(name: str, folder: Path, *options: str) -> Iterator[Serving]:
    folder.mkdir(parents=True)
    server = Serving(name, folder, *options)
    try:
        yield server
    finally:
        server.close()
