"""CPU time and write calls of processes, as the kernel counts them, and where they may run."""

import os
from collections.abc import Callable, Iterable
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
    return read_all(tree(pid), "task/*/schedstat", lambda text: int(text.split()[0])) / 1e9


def write_calls(pid: int) -> int:
    """`write` and `writev` calls so far of a process and of those below it; not `send`."""
    return read_all(tree(pid), "task/*/io", lambda text: int(text.split("syscw: ")[1].split()[0]))


def read_all(pids: Iterable[int], pattern: str, value: Callable[[str], int]) -> int:
    """The sum over the files of all threads that are still there."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}").glob(pattern):
            try:
                total += value(path.read_text())
            except (OSError, IndexError):
                continue
    return total


def check_cores() -> None:
    """Raises SystemExit on a machine of one core, where nothing of this means anything."""
    if not {FRONTEND_CORE, OTHERS_CORE} <= os.sched_getaffinity(0):
        raise SystemExit(f"needs the cores {FRONTEND_CORE} and {OTHERS_CORE}")
