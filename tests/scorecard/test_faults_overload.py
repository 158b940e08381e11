"""Row F7: ten times as much as fits. Most is refused, and what is not takes hardly longer.

On a server of its own, which can do little: a burst that is too much for one with all its places
measures the machine that both share.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.scorecard.conftest import (
    CANARY_SECONDS,
    MOST_GROWTH_BYTES,
    assert_canary,
    assert_memory,
    assert_pulse,
)
from tests.scorecard.target import OUR_KEY, Pulse, Target, our_server

TOKENS = 200
REFUSALS = {429, 503}
REFUSAL_SECONDS = 0.05
PLACES, QUEUED = 5, 7
"""Of the small server: what its engine is given, and what may wait."""

SMALL = (
    *("--max-num-seqs", "4", "--max-queued-requests", str(QUEUED), "--queue-margin", "0.25"),
    *("--single-flight", "false"),  # all ask the same
)
OTHER_KEY = "another-key"
BURST = 10 * (PLACES + QUEUED)


class Answer(msgspec.Struct):
    status: int
    retry_after: str | None
    seconds: float


@pytest.fixture(scope="module")
def small() -> Iterator[Target]:
    """A server that can do little."""
    with our_server(*SMALL, "--api-keys", f"{OUR_KEY},{OTHER_KEY}") as target:
        yield target


def long_chat(target: Target) -> dict[str, object]:
    return target.chat(max_tokens=TOKENS, ignore_eos=True, temperature=0)


async def ask(target: Target, *headers: str) -> Answer:
    """On a connection of its own; HTTP clients' pools are slower than what is measured here."""
    host, port = target.address
    reader, writer = await asyncio.open_connection(host, port)
    request = target.request(long_chat(target), "/v1/chat/completions", *headers)
    started = time.monotonic()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    seconds = time.monotonic() - started
    writer.close()
    await writer.wait_closed()
    _, status, _ = head.split(" ", 2)
    _, found, value = head.partition("\r\nretry-after: ")
    return Answer(int(status), value.partition("\r\n")[0] if found else None, seconds)


async def ask_at_once(target: Target, count: int, *headers: str) -> list[Answer]:
    return await asyncio.gather(*(ask(target, *headers) for _ in range(count)))


async def ask_at_rate(target: Target, per_second: float, count: int) -> list[Answer]:
    """An open loop: the next request comes when its time has come, whatever became of others."""
    began, tasks = time.monotonic(), []
    for number in range(count):
        await asyncio.sleep(began + number / per_second - time.monotonic())
        tasks.append(asyncio.create_task(ask(target)))
    return await asyncio.gather(*tasks)


def assert_answered_or_refused(answers: Sequence[Answer]) -> None:
    for each in answers:
        assert each.status in {200, *REFUSALS}
        if each.status in REFUSALS:
            assert each.retry_after is not None
            assert 1 <= int(each.retry_after) <= 30
    assert any(each.status == 200 for each in answers)


async def test_f7_burst_is_answered_or_refused_with_retry_after(
    small: Target, tmp_path: Path
) -> None:
    pulse, memory, began = Pulse(small, tmp_path / "pulse"), small.memory_bytes, time.monotonic()
    pulse.until_beat(CANARY_SECONDS)

    answers = await ask_at_once(small, BURST)

    assert_answered_or_refused(answers)
    assert sum(each.status == 200 for each in answers) >= PLACES + QUEUED
    assert_canary(small)
    assert_pulse(pulse, began)
    assert_memory(small, memory + MOST_GROWTH_BYTES)
    pulse.close()


async def test_f7_accepted_take_no_longer_than_a_full_queue_lasts(small: Target) -> None:
    unloaded = statistics.median(each.seconds for each in await ask_at_rate(small, 4, 8))
    capacity = PLACES / unloaded

    answers = await ask_at_rate(small, 10 * capacity, round(20 * capacity))

    assert_answered_or_refused(answers)
    accepted = sorted(each.seconds for each in answers if each.status == 200)
    p99 = accepted[int(len(accepted) * 0.99)]
    assert p99 < 1.5 * unloaded * (1 + QUEUED / PLACES)
    assert len(accepted) >= capacity, "those whom it can serve it serves"
    refused = [each.seconds for each in answers if each.status in REFUSALS]
    assert statistics.median(refused) < REFUSAL_SECONDS


async def test_f7_chats_overtake_batches_in_the_queue(small: Target) -> None:
    """The queue is full of one client's batch work; nobody's chat is refused for that."""
    low = "X-Request-Priority: low"
    batch = [asyncio.create_task(ask(small, low)) for _ in range(PLACES + QUEUED)]
    await until_waiting(small, QUEUED)
    chats = await ask_at_once(small, 5)
    slowest = max(each.seconds for each in await asyncio.gather(*batch) if each.status == 200)

    assert [each.status for each in chats] == [200] * 5
    assert max(each.seconds for each in chats) < slowest
    assert sum(each.status == 503 for each in (task.result() for task in batch)) == 5


async def test_f7_one_key_s_flood_locks_nobody_out(small: Target) -> None:
    other = msgspec.structs.replace(small, key=OTHER_KEY)
    flood = [asyncio.create_task(ask(small)) for _ in range(BURST)]
    await until_waiting(small, QUEUED)

    refused = await ask(small)
    others = [await ask(other) for _ in range(3)]

    assert refused.status in REFUSALS
    assert [each.status for each in others] == [200] * 3
    assert_answered_or_refused(await asyncio.gather(*flood))


async def until_waiting(target: Target, count: int) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(target.metric, "slipstream_queue_generations") < count:
            await asyncio.sleep(0.01)
