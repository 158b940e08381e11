"""Processes that the server starts go when it goes, without a model."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil

from app.engine.leash import leash_children

GONE_SECONDS = 5
TIED_TO_NOBODY = "from app.engine.leash import tie; tie(1)"


def sleep_with_child(depth: int) -> None:
    """Runs in the child, which says who it is and has one of its own."""
    os.write(1, f"{os.getpid()} {os.getpgrp()}\n".encode())
    if depth:
        context = multiprocessing.get_context("spawn")
        context.Process(target=sleep_with_child, args=(depth - 1,)).start()
    signal.pause()


def main() -> None:
    leash_children()
    sleep_with_child(2)


def is_alive(pid: int) -> bool:
    """Whether it can still hold memory; a container's first process may not bury the dead."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_killed_process_leaves_no_child_and_no_grandchild() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        lines = [await parent.stdout.readline() for _ in range(3)]
    (_, own_group), *children = [tuple(map(int, line.split())) for line in lines]
    assert all(group == pid != own_group for pid, group in children)

    parent.kill()
    await parent.wait()

    deadline = time.monotonic() + GONE_SECONDS
    while any(is_alive(pid) for pid, _ in children):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_child_whose_parent_was_quicker_to_die_ends_itself() -> None:
    process = subprocess.run([sys.executable, "-c", TIED_TO_NOBODY], check=False)

    assert process.returncode == -signal.SIGKILL


if __name__ == "__main__":
    main()
