"""What is done to a server while it works: its engine killed and stopped, its adapters swapped."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import psutil

from tests.bench.chaos.serving import ADMIN_KEY, Serving
from tests.engine.adapter import make_adapter

PAUSE_SECONDS = (20.0, 60.0)
"""Between two faults, once the server is ready again."""

STOPPED_SECONDS = (2.0, 20.0)
RECOVERY_SECONDS = 600.0
SWAP_SECONDS = (2.0, 10.0)
SWAPPED = "swapped"


class Fault(msgspec.Struct):
    """One of them, and how long the server took to be ready again."""

    kind: str
    at: float
    """Seconds since the run began."""

    recovery_seconds: float | None = None
    """From the fault on, that of a stop with it; None if it did not recover."""


async def break_engine(
    server: Serving, generator: random.Random, faults: list[Fault], seconds: float
) -> None:
    """Kill the engine's core or stop it, again and again for so long; ends when it has recovered.

    Raises TimeoutError if it does not.
    """
    began = time.monotonic()
    while True:
        await asyncio.sleep(generator.uniform(*PAUSE_SECONDS))
        if time.monotonic() - began > seconds:
            return
        fault = Fault(generator.choice(["kill", "stop"]), time.monotonic() - began)
        faults.append(fault)
        started = time.monotonic()
        await (kill_core(server) if fault.kind == "kill" else stop_core(server, generator))
        fault.recovery_seconds = time.monotonic() - started


async def kill_core(server: Serving) -> None:
    """SIGKILL, until another one has taken its place."""
    core = core_of(server)
    core.kill()
    async with asyncio.timeout(RECOVERY_SECONDS):
        while server.core in (None, core) or not await asyncio.to_thread(server.is_ready):
            await asyncio.sleep(0.5)


async def stop_core(server: Serving, generator: random.Random) -> None:
    """SIGSTOP for a while."""
    with stopped(core_of(server)):
        await asyncio.sleep(generator.uniform(*STOPPED_SECONDS))
    await asyncio.to_thread(server.until_ready, RECOVERY_SECONDS)


def core_of(server: Serving) -> psutil.Process:
    core = server.core
    if core is None:
        raise RuntimeError(f"{server.name} is ready and has no engine")
    return core


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """SIGSTOP until the end of the block, also where that is a cancellation."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def make_versions(folder: Path) -> list[str]:
    """Two adapters to swap between; their names in the watched folder."""
    for seed in (1, 2):
        make_adapter(folder / f"version-{seed}", seed=seed)
    return ["version-1", "version-2"]


async def swap_adapters(server: Serving, generator: random.Random, versions: list[str]) -> None:
    """Load one version in place of the other, now and then unload it, until cancelled."""
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=300) as client:
        while True:
            await asyncio.sleep(generator.uniform(*SWAP_SECONDS))
            if generator.random() < 0.2:
                await client.delete(f"/v1/adapters/{SWAPPED}")
            else:
                body = {"name": SWAPPED, "folder": generator.choice(versions)}
                await client.post("/v1/adapters", json=body)
