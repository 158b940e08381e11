"""Memory, descriptors and threads over time, and the line through them."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from tests.bench.chaos.serving import Serving

SAMPLE_SECONDS = 2.0
WARM_UP = 0.3
"""The part of a run that is not judged: caches fill, pools grow."""


class Sample(msgspec.Struct):
    """One look at a server's processes; bytes."""

    at: float
    """Seconds since the run began."""

    requests: int
    """Begun so far."""

    memory: int
    """Resident, of the process that speaks HTTP."""

    descriptors: int
    threads: int
    children: int
    """Resident, of all others."""

    shared: int
    """In /dev/shm, by these processes and by those before them that were killed."""


class SharedMemory:
    """The files in /dev/shm that a server's processes have mapped at any time."""

    def __init__(self) -> None:
        self._files: set[Path] = set()

    def size(self, processes: Iterable[psutil.Process]) -> int:
        """Bytes of those that are still there."""
        for process in processes:
            with suppress(psutil.Error):
                self._files |= set(map(Path, shared_files(process)))
        return sum(size_of(file) for file in self._files)


def shared_files(process: psutil.Process) -> Iterator[str]:
    for mapped in process.memory_maps():
        if mapped.path.startswith("/dev/shm/"):
            yield mapped.path


def size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


class Watch:
    """Samples of one server's processes."""

    def __init__(self, server: Serving, records: Sequence[object]) -> None:
        self.samples: list[Sample] = []
        self._server = server
        self._records = records
        self._shared = SharedMemory()
        self._began = time.monotonic()

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.samples.append(self.look())
            await asyncio.sleep(SAMPLE_SECONDS)

    def look(self) -> Sample:
        own, *children = self._server.processes
        with own.oneshot():
            memory, descriptors, threads = own.memory_info().rss, own.num_fds(), own.num_threads()
        return Sample(
            at=time.monotonic() - self._began,
            requests=len(self._records),
            memory=memory,
            descriptors=descriptors,
            threads=threads,
            children=sum(map(memory_of, children)),
            shared=self._shared.size([own, *children]),
        )


def memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def judged(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the warm-up."""
    return list(samples[int(len(samples) * WARM_UP) :])


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the line through the points by least squares; 0 if all are above one another."""
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    if not spread:
        return 0.0
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread


def growth(samples: Sequence[Sample], name: str) -> float:
    """What a thousand requests add to it."""
    kept = judged(samples)
    values = [getattr(each, name) for each in kept]
    return 1000 * slope([each.requests for each in kept], values)
