"""System calls of a process and all its threads, by strace, where that is installed."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.standin.measure import tree

WRITING = frozenset({"write", "writev", "sendto", "sendmsg", "sendmmsg"})
ATTACH_SECONDS = 2
LINE = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")


def is_there() -> bool:
    return shutil.which("strace") is not None


def system_calls(pid: int, work: Callable[[], None], summary: Path) -> dict[str, int]:
    """How often each was called while `work` ran, the children's too."""
    options = [word for each in tree(pid) for word in ("-p", str(each))]
    command = ["strace", "-f", "-c", "-o", str(summary), *options]
    watching = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(ATTACH_SECONDS)
    try:
        work()
    finally:
        watching.terminate()
        watching.wait()
    found = map(LINE.match, summary.read_text().splitlines())
    return {match[2]: int(match[1]) for match in found if match and match[2] != "total"}


def num_writing(calls: dict[str, int]) -> int:
    return sum(count for name, count in calls.items() if name in WRITING)
