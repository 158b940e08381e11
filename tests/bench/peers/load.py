"""Load by wrk, whose script looks at every reply: one that is wrong ends the run."""

import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.bench.peers.workloads import Load, Workload, WrongReply

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT = "60s"


class Told(msgspec.Struct):
    """The last line that `load.lua` makes wrk print."""

    replies: int
    events: int
    seconds: float
    wrong: str
    """The first fault of a reply, with the reply's beginning."""

    errors: int
    """Of sockets: refused, cut, or silent for longer than the timeout."""


def require_wrk() -> None:
    """Raises SystemExit with one sentence if it is not there."""
    if shutil.which("wrk") is None:
        raise SystemExit("The load is made by wrk, which is not installed: apt install wrk.")


def run_wrk(url: str, workload: Workload, block: str, seconds: float) -> Load:
    """One thread, so that its script counts all replies. Raises WrongReply."""
    command = ["wrk", "-t1", f"-c{workload.connections}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", TIMEOUT, "-s", str(SCRIPT), f"{url}/v1/chat/completions", "--"]
    command += [block, str(workload.tokens), str(workload.stream).lower()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return read_wrk(done.stdout, workload)


def read_wrk(output: str, workload: Workload) -> Load:
    """Raises WrongReply unless all replies were right."""
    told = msgspec.json.decode(output.strip().rpartition("\n")[2], type=Told)
    if told.wrong:
        raise WrongReply(told.wrong)
    if told.errors:
        raise WrongReply(f"{told.errors} connections failed: {output}")
    return Load(
        replies=told.replies,
        tokens=told.replies * workload.tokens,
        seconds=told.seconds,
        events=told.events,
    )
