"""CPU time and write calls of processes, as the kernel counts them, and where they may run."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

FRONTEND_CORE, OTHERS_CORE = 1, 0


def pin(pid: int, core: int) -> None:
    """Keep a process that has just been started, and all that it will start, on one core."""
    psutil.Process(pid).cpu_affinity([core])


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def cpu_seconds(pid: int) -> float:
    """Used so far by all threads of a process and of those below it, the kernel's work included.

    `schedstat` counts nanoseconds, where `stat` counts ticks of 10 ms on some kernels.
    """
    return of_threads(pid, nanoseconds_of) / 1e9


def write_calls(pid: int) -> int:
    """`write` and `writev` calls so far of a process and of those below it; not `send`."""
    return of_threads(pid, written_by)


def of_threads(pid: int, value: Callable[[Path], int]) -> int:
    """The sum over all threads that are still there."""
    total = 0
    for each in tree(pid):
        for task in Path(f"/proc/{each}/task").glob("*"):
            try:
                total += value(task)
            except OSError:
                continue
    return total


def nanoseconds_of(task: Path) -> int:
    return int((task / "schedstat").read_text().split()[0])


def written_by(task: Path) -> int:
    """`write` and `writev` calls of one thread, whose folder in /proc this is."""
    lines = (line.split(": ") for line in (task / "io").read_text().splitlines())
    return int(dict(lines)["syscw"])


def check_cores() -> None:
    """Raises SystemExit on a machine of one core, where nothing of this means anything."""
    if not {FRONTEND_CORE, OTHERS_CORE} <= os.sched_getaffinity(0):
        raise SystemExit(f"needs the cores {FRONTEND_CORE} and {OTHERS_CORE}")
