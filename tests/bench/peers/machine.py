"""CPU time of processes, and what else went on on the machine."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

ENGINE_TITLES = ("VLLM::EngineCore", "VLLM::Worker")
"""What vLLM calls the processes that compute; all others of a server are its frontend."""

KERNEL_NAME_LENGTH = 15


def is_engine(name: str) -> bool:
    """`name`: of a process, as the kernel cuts it."""
    return name.startswith(tuple(title[:KERNEL_NAME_LENGTH] for title in ENGINE_TITLES))


def engine_pids(processes: Iterable[psutil.Process]) -> set[int]:
    return {each.pid for each in processes if is_engine(kernel_name(each))}


def kernel_name(process: psutil.Process) -> str:
    """Empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process.pid}/comm").read_text()
    return ""


def frontend_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time so far of those that are no engine, all threads, kernel included.

    To the nanosecond from the scheduler; `/proc/PID/stat` counts ticks of 10 ms.
    """
    total = 0
    for process in processes:
        if not is_engine(kernel_name(process)):
            threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
            total += sum(map(thread_nanoseconds, threads))
    return total / 1e9


def thread_nanoseconds(file: Path) -> int:
    try:
        return int(file.read_text().split()[0])
    except OSError:  # it has ended meanwhile
        return 0


class Steal:
    """The share of the machine's time, from here on, that its host gave to others."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    @property
    def share(self) -> float:
        now = psutil.cpu_times()
        passed = sum(now) - sum(self._before)
        return (now.steal - self._before.steal) / passed if passed else 0.0


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]
