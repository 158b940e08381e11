"""The server that the scorecard judges, seen from outside: its address, process and pulse."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
import msgspec
import psutil

from tests.scorecard.raw import address_of
from tests.scorecard.watch import Answer

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
OUR_KEY = "scorecard-key"
OUR_MODEL = "scorecard"
OUR_COMMAND = (
    *(sys.executable, "-m", "tests.scorecard.server", "--port", "0", "--log-dir", ""),
    *("--model", "fake/model", "--model-name", OUR_MODEL, "--api-keys", OUR_KEY),
    *("--log-level", "warning"),
)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Any server that speaks OpenAI's API, ours or another."""

    url: str
    model: str
    key: str
    pid: int
    live_path: str
    """What answers without work."""

    is_ours: bool

    @property
    def address(self) -> tuple[str, int]:
        return address_of(self.url)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def client(self, seconds: float = 30) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=seconds)

    def chat(self, **fields: object) -> dict[str, object]:
        """The body of a chat request."""
        messages = [{"role": "user", "content": "Hello"}]
        return {"model": self.model, "messages": messages, "max_tokens": 4, **fields}

    def request(self, body: object, path: str = "/v1/chat/completions", *more: str) -> bytes:
        """A whole HTTP request; `more` are further header lines."""
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.head(path, f"Content-Length: {len(payload)}", *more) + payload

    def head(self, path: str = "/v1/chat/completions", *more: str, method: str = "POST") -> bytes:
        """A request's head with our key; `more` are further header lines."""
        lines = [f"{method} {path} HTTP/1.1", "Host: target", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, *more, "", ""]).encode()

    @property
    def memory_bytes(self) -> int:
        """Resident, of all its processes."""
        process = psutil.Process(self.pid)
        return sum(rss_of(each) for each in (process, *process.children(recursive=True)))

    @property
    def cpu_seconds(self) -> float:
        """Spent by the process that speaks HTTP."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def forget_peak(self) -> None:
        """From now on `peak_bytes` counts; see clear_refs in proc(5)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def peak_bytes(self) -> int:
        """The most that the process that speaks HTTP has held since `forget_peak`."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    @property
    def is_alive(self) -> bool:
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def metric(self, name: str) -> float:
        """A metric of `/metrics` without labels, or their sum over all labels."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(
            float(each.split()[-1]) for each in lines if each.split("{")[0].split()[0] == name
        )


def rss_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@contextmanager
def our_server(*options: str, most_files: int = 0) -> Iterator[Target]:
    """Our server on the talking engine in a process of its own, with further settings."""
    limit = ["prlimit", f"--nofile={most_files}"] if most_files else []
    process = subprocess.Popen(
        [*limit, *OUR_COMMAND, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        target = Target(
            url=url,
            model=OUR_MODEL,
            key=OUR_KEY,
            pid=process.pid,
            live_path="/health/live",
            is_ours=True,
        )
        until_ready(target)
        yield target
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until_ready(target: Target) -> None:
    deadline = time.monotonic() + START_SECONDS
    with target.client() as client:
        while client.get("/health").status_code != 200:
            assert time.monotonic() < deadline, "the target is not ready"
            time.sleep(0.02)


class Pulse:
    """What the watch heard of a target: its answers, in order."""

    def __init__(self, target: Target, file: Path) -> None:
        self._answers: list[Answer] = []
        with file.open("wb") as output:
            command = (sys.executable, "-m", "tests.scorecard.watch")
            arguments = (target.url, target.live_path, str(target.pid))
            self._watch = subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=output)
        self._lines = file.open("rb")

    def answers(self, since: float) -> list[Answer]:
        """All that were waited for after that moment, of those that came."""
        for line in complete_lines(self._lines):
            self._answers.append(msgspec.json.decode(line, type=Answer))
        return [each for each in self._answers if each.answered >= since]

    def until_beat(self, seconds: float) -> None:
        """Wait for one more answer."""
        now = time.monotonic()
        while not any(each.asked >= now for each in self.answers(now)):
            assert time.monotonic() < now + seconds, "the watch gets no answer any more"
            time.sleep(0.02)

    def close(self) -> None:
        self._watch.kill()
        self._watch.wait()
        self._lines.close()


def complete_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines that have been added to a file; one that is being written stays for the next time."""
    while True:
        place, line = file.tell(), file.readline()
        if not line.endswith(b"\n"):
            file.seek(place)
            return
        yield line
