"""What continuous batching gains: the same prompts one after the other, in a batch, and at once.

python tests/bench/concurrency.py [URL]: asks a running server in interleaved rounds and prints the
median time of each way and its ratio to the first.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import httpx

PROMPTS = 64
ROUNDS = 3
LIMITS = {"max_tokens": 64, "ignore_eos": True, "temperature": 0}


def prompts() -> list[str]:
    return [f"What is {i} plus {i}?" for i in range(PROMPTS)]


async def one_after_the_other(client: httpx.AsyncClient) -> None:
    for prompt in prompts():
        await generate(client, prompt)


async def at_once(client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(generate(client, prompt) for prompt in prompts()))


async def generate(client: httpx.AsyncClient, prompt: str) -> None:
    reply = await client.post("/generate", json={"prompt": prompt, **LIMITS})
    assert reply.json()["usage"]["completion_tokens"] == LIMITS["max_tokens"]


async def batch(client: httpx.AsyncClient) -> None:
    reply = await client.post("/batch", json={"prompts": prompts(), **LIMITS})
    assert reply.json()["usage"]["completion_tokens"] == PROMPTS * LIMITS["max_tokens"]


async def streams(client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(stream(client, prompt) for prompt in prompts()))


async def stream(client: httpx.AsyncClient, prompt: str) -> None:
    reply = await client.post("/generate", json={"prompt": prompt, "stream": True, **LIMITS})
    assert reply.text.endswith("data: [DONE]\n\n")


WAYS: list[Callable[[httpx.AsyncClient], Awaitable[None]]] = [
    one_after_the_other,
    batch,
    at_once,
    streams,
]


async def main(url: str) -> None:
    seconds: dict[str, list[float]] = {way.__name__: [] for way in WAYS}
    limits = httpx.Limits(max_connections=PROMPTS)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        await batch(client)
        for _ in range(ROUNDS):
            for way in WAYS:
                started = time.perf_counter()
                await way(client)
                seconds[way.__name__].append(time.perf_counter() - started)
    first = statistics.median(seconds[WAYS[0].__name__])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:20} {median:7.2f} s   {median / first:5.2f} of one after the other")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"))
