"""What many readers of one generation cost, and who may be one of them."""

import asyncio

import pytest

from app.engine.base import ANYBODY, Adapter, Generation, Origin, RenderedPrompt, Sampling
from app.metrics import Metrics
from app.reuse.flight import OUTPUTS_MERGED
from app.reuse.replies import ReplyCache
from tests.fake_engine import FakeEngine, Script

PROMPT = RenderedPrompt([1, 2, 3])
GREEDY = Sampling({"temperature": 0}, stream=True)
PIECES = [f"{number} " for number in range(10 * OUTPUTS_MERGED + 5)]


async def read(generation: Generation) -> str:
    return "".join([output.outputs[0].text async for output in generation])


async def wait_for(future: asyncio.Future[str]) -> str:
    return await asyncio.wait_for(future, 5)


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def cache(fake: FakeEngine) -> ReplyCache:
    return ReplyCache(fake, "a model", Metrics())


async def test_what_one_request_reads_is_kept_in_few_outputs(
    fake: FakeEngine, cache: ReplyCache
) -> None:
    fake.enqueue(Script(pieces=PIECES))
    first = await cache.submit(PROMPT, GREEDY, None)
    texts = [(await anext(first)).outputs[0].text for _ in PIECES[:-1]]
    (flight,) = cache._flights.values()

    assert len(flight.outputs) < 10 + OUTPUTS_MERGED
    second = await cache.submit(PROMPT, GREEDY, None)
    assert await read(second) == "".join(PIECES)
    assert "".join(texts) + await read(first) == "".join(PIECES)
    for generation in (first, second):
        await generation.aclose()
        await generation.aclose()
    assert fake.asked.closed.is_set()
    assert not cache._flights


async def test_a_reader_that_stays_behind_alone_gets_everything_in_order(
    fake: FakeEngine, cache: ReplyCache
) -> None:
    fake.enqueue(Script(pieces=PIECES))
    first = await cache.submit(PROMPT, GREEDY, None)
    for _ in range(3 * OUTPUTS_MERGED + 7):
        await anext(first)
    second = await cache.submit(PROMPT, GREEDY, None)
    await first.aclose()

    assert await read(second) == "".join(PIECES)
    await second.aclose()
    assert len(fake.submissions) == 1


@pytest.mark.parametrize(
    ("adapter", "origin"),
    [
        (None, Origin(owner="alice")),
        (None, Origin(priority=-1)),
        (Adapter("pirate@00000000", 1, ""), ANYBODY),
    ],
)
async def test_other_owners_priorities_and_adapters_share_nothing(
    fake: FakeEngine, cache: ReplyCache, adapter: Adapter | None, origin: Origin
) -> None:
    first = await cache.submit(PROMPT, GREEDY, None)
    second = await cache.submit(PROMPT, GREEDY, adapter, origin)

    assert len(fake.submissions) == 2
    await first.aclose()
    await second.aclose()


async def test_a_generation_may_begin_as_late_as_any_of_its_readers_wants_it(
    fake: FakeEngine, cache: ReplyCache
) -> None:
    origins = [Origin(deadline=each) for each in (5.0, 9.0, 7.0)]
    submissions = [cache.submit(PROMPT, GREEDY, None, each) for each in origins]

    for generation in await asyncio.gather(*submissions):
        await generation.aclose()
    assert [each.origin.deadline for each in fake.submissions] == [9.0]


async def test_versions_of_an_adapter_share_nothing(fake: FakeEngine, cache: ReplyCache) -> None:
    versions = [Adapter(f"pirate@{number:08x}", number, "") for number in (1, 2)]
    generations = [await cache.submit(PROMPT, GREEDY, each) for each in versions]

    assert len(fake.submissions) == 2
    for generation in generations:
        await generation.aclose()


async def test_pictures_without_hashes_are_not_shared(fake: FakeEngine, cache: ReplyCache) -> None:
    prompt = RenderedPrompt([1], pictures=[])
    generations = [await cache.submit(prompt, GREEDY, None) for _ in range(2)]

    assert len(fake.submissions) == 2
    for generation in generations:
        await generation.aclose()


async def test_a_reader_cancelled_while_a_task_pulls_takes_nothing_away(
    fake: FakeEngine, cache: ReplyCache
) -> None:
    pause = asyncio.Event()
    fake.enqueue(Script(pieces=["a", "b"], pause=pause))
    first = await cache.submit(PROMPT, GREEDY, None)
    second = await cache.submit(PROMPT, GREEDY, None)
    reads = [asyncio.ensure_future(read(each)) for each in (first, second)]
    for _ in range(10):
        await asyncio.sleep(0)

    reads[0].cancel()
    await asyncio.wait([reads[0]])
    await first.aclose()
    assert not fake.asked.closed.is_set()
    pause.set()

    assert await wait_for(reads[1]) == "ab"
    await second.aclose()
    assert fake.asked.closed.is_set()


async def test_what_nobody_reads_is_counted_for_the_last(
    fake: FakeEngine, cache: ReplyCache
) -> None:
    fake.enqueue(Script(pieces=["a", "b", "c", "d"]))
    counts: dict[str, list[int]] = {"first": [], "last": []}
    origins = {name: Origin(abandon=told.append) for name, told in counts.items()}
    first = await cache.submit(PROMPT, GREEDY, None, origins["first"])
    last = await cache.submit(PROMPT, GREEDY, None, origins["last"])
    await anext(first)
    await anext(first)  # pulled for both, and everything behind it
    await anext(last)

    await first.aclose()
    assert counts == {"first": [], "last": []}
    await last.aclose()

    assert sum(counts["last"]) == 2
    assert counts["first"] == []
