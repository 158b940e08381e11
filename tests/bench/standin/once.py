"""So many requests at once over HTTP, each read to its end and checked."""

import asyncio
import time

import httpx
import msgspec

from tests.bench.standin.asks import Ask, Asks
from tests.bench.standin.tally import Tally

TIMEOUT_SECONDS = 120


async def ask_once(url: str, key: str, asks: Asks, connections: int) -> Tally:
    """For counting: nobody leaves before the end, and nothing is asked twice."""
    tally, started = Tally(0), time.perf_counter()
    limits = httpx.Limits(max_connections=connections)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=TIMEOUT_SECONDS
    ) as client:
        await asyncio.gather(*(ask_one(client, each, tally) for each in asks.asks[:connections]))
    tally.seconds = time.perf_counter() - started
    return tally


async def ask_one(client: httpx.AsyncClient, ask: Ask, tally: Tally) -> None:
    reply = await client.post("/v1/chat/completions", content=ask.body)
    pieces = pieces_of(reply.raise_for_status().text)
    tally.replies += 1
    tally.events += len(pieces)
    if "".join(pieces) != ask.text:
        tally.wrong += 1
        tally.complaint = "".join(pieces)


def pieces_of(reply: str) -> list[str]:
    """The text of each event of a stream, or the one of a plain reply."""
    if not reply.startswith("data: "):
        return [msgspec.json.decode(reply)["choices"][0]["message"]["content"]]
    *events, done, rest = reply.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [msgspec.json.decode(event.removeprefix("data: ")) for event in events]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]
