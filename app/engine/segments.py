"""Shared memory that an engine's processes share, and leave behind when they are killed.

vLLM's core talks with its workers through rings of some hundred MiB. Python's resource tracker
removes what is left over, but only when the server itself ends.
"""

from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

MAPPED_FROM = "/dev/shm/psm_"
"""How Python names shared memory on Linux; in `/proc/PID/maps` the path ends the line."""


def segments_of(pids: Iterable[int]) -> frozenset[str]:
    """Names of what these processes have mapped now; of one that is gone, nothing."""
    names: set[str] = set()
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            names.update(Path(line.split()[-1]).name for line in lines if MAPPED_FROM in line)
    return frozenset(names)


def remove_segments(names: Iterable[str]) -> None:
    """Remove what is still there of them, once their processes are gone."""
    for name in names:
        with suppress(FileNotFoundError):
            segment = SharedMemory(name)
            segment.close()
            segment.unlink()
