"""The queue on the fake engine: what is given to it when, and that places come back once."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.base import HIGH, LOW, NORMAL, Generation, Limits, Origin, RenderedPrompt, Sampling
from app.errors import DeadlineUnreachable, Draining, GenerationFailed, Overloaded
from app.metrics import Metrics
from app.queueing.queue import TIER_LEAD_SECONDS, FairQueue
from app.settings import Settings
from tests.fake_engine import FakeEngine, Script

PROMPT = RenderedPrompt([1] * 10)


class Bench:
    """A queue on a fake engine, and the tasks that use it."""

    def __init__(self, max_num_seqs: int = 4, **named: Any) -> None:
        named = {"queue_margin": 0.0, "max_queued_requests": 10**6} | named
        self.engine = FakeEngine(Limits(2048, 256, 1, max_num_seqs=max_num_seqs))
        self.metrics = Metrics()
        self.queue = FairQueue(self.engine, Settings(**named), self.metrics)

    def submission(
        self, origin: Origin, n: int = 1, stream: bool = True
    ) -> Coroutine[Any, Any, Generation]:
        sampling = Sampling({"max_tokens": 4, "n": n}, stream)
        return self.queue.submit(PROMPT, sampling, None, origin)

    async def submit(
        self, owner: str = "", priority: int = NORMAL, n: int = 1, deadline: float | None = None
    ) -> "asyncio.Task[Generation]":
        """Started, and as far as it gets."""
        origin = Origin(owner, priority, *([] if deadline is None else [deadline]))
        task = asyncio.create_task(self.submission(origin, n))
        await settled()
        return task

    async def occupied(self) -> list[Generation]:
        """Every place of the engine taken by a generation of its own."""
        return [await (await self.submit("first")) for _ in range(self.queue.places)]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"slipstream_{name}", labels or None)

    @property
    def taken(self) -> float | None:
        return self.metric("engine_places_taken")

    @property
    def owners(self) -> list[str]:
        """Of what the engine was given, in its order."""
        return [each.origin.owner for each in self.engine.submissions]


async def settled() -> None:
    """Until no task can go on: each step of ours takes a few turns of the loop at most."""
    for _ in range(10):
        await asyncio.sleep(0)


async def close(tasks: "list[asyncio.Task[Generation]]") -> None:
    for task in tasks:
        task.cancel()
    for each in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(each, BaseException):
            await each.aclose()


async def test_engine_is_given_what_it_runs_and_a_margin() -> None:
    bench = Bench(max_num_seqs=8, queue_margin=0.5)
    tasks = [await bench.submit() for _ in range(20)]

    assert len(bench.engine.submissions) == 12
    assert bench.taken == 12
    assert bench.metric("queue_generations", priority="normal") == 8
    assert bench.metric("queue_prompt_tokens") == 80
    await close(tasks)


async def test_the_engine_is_told_when_what_waited_arrived() -> None:
    bench = Bench()
    generations = await bench.occupied()
    waiting = await bench.submit()
    before = time.monotonic()
    await generations[0].aclose()
    await (await waiting).aclose()

    assert bench.engine.asked.origin.arrived <= before


async def test_each_end_lets_exactly_one_go() -> None:
    bench = Bench()
    generations = await bench.occupied()
    tasks = [await bench.submit() for _ in range(3)]
    for generation in generations[:2]:
        await generation.aclose()
        await generation.aclose()
    await settled()

    assert [task.done() for task in tasks] == [True, True, False]
    await close(tasks)


async def test_choices_count_as_what_they_are() -> None:
    bench = Bench(max_num_seqs=7)
    tasks = [await bench.submit(n=4) for _ in range(3)]
    small = await bench.submit(n=1)

    assert [task.done() for task in [*tasks, small]] == [True, True, False, False]
    assert bench.taken == 8
    tasks[2].cancel()
    await settled()
    assert not small.done()
    await tasks[0].result().aclose()
    await settled()
    assert small.done()
    await close([*tasks, small])


async def test_more_choices_than_places_run_alone() -> None:
    bench = Bench(max_num_seqs=2)
    first = await bench.submit()
    large = await bench.submit(n=8)
    assert not large.done()

    await first.result().aclose()
    await settled()

    assert large.done()
    assert bench.taken == 8
    await close([first, large])


async def test_ten_thousand_requests_of_one_key_do_not_starve_another_one() -> None:
    """Its wait is counted in what ends before it begins: one engine's worth and a turn."""
    bench = Bench(max_num_seqs=15)
    flood = [asyncio.create_task(bench.submission(Origin("flood"))) for _ in range(10_000)]
    await settled()
    running = [task.result() for task in flood if task.done()]
    single = await bench.submit("other")
    num_ended = 0
    while not single.done():
        await running.pop(0).aclose()
        num_ended += 1
        await settled()
        running += [t.result() for t in flood if t.done() and t.result() not in running][:1]

    assert len(running) <= bench.queue.places
    assert num_ended <= 2
    assert bench.owners.count("flood") <= bench.queue.places + 1
    await close([*flood, single])
    assert bench.taken == 0


async def test_waiting_is_by_priority_and_the_engine_is_told() -> None:
    bench = Bench()
    generations = await bench.occupied()
    tasks = [
        await bench.submit(name, priority)
        for name, priority in [("low", LOW), ("normal", NORMAL), ("high", HIGH)]
    ]
    for generation in generations:
        await generation.aclose()
        await settled()

    assert bench.owners[-3:] == ["high", "normal", "low"]
    high, normal, low = (each.origin.priority for each in bench.engine.submissions[-3:])
    assert 0 <= normal - high - TIER_LEAD_SECONDS <= 1
    assert 0 <= low - normal - TIER_LEAD_SECONDS <= 1
    await close(tasks)


async def test_batch_of_low_priority_gets_on_under_a_flood_of_chats() -> None:
    bench = Bench(max_num_seqs=1, max_overtaking=4)
    running, last = await bench.occupied()
    patient = await bench.submit("patient", LOW)
    chats = [await bench.submit("chat") for _ in range(20)]
    for chat in chats[:4]:
        await running.aclose()
        running = await asyncio.wait_for(chat, 5)
    assert not patient.done()
    await running.aclose()
    await asyncio.wait_for(patient, 5)
    priority = bench.engine.asked.origin.priority

    assert bench.owners[2:] == ["chat"] * 4 + ["patient"]
    assert priority <= time.monotonic(), "in the engine it must not be overtaken again"
    await close([patient, *chats])
    await last.aclose()


@pytest.mark.parametrize("when", ["waiting", "granted", "in the engine"])
async def test_cancelled_at_any_moment_the_place_comes_back(when: str) -> None:
    bench = Bench(max_num_seqs=1)
    first, second = await bench.occupied()
    bench.engine.enqueue(Script(hold=asyncio.Event()))
    task = await bench.submit()
    if when != "waiting":
        await first.aclose()
    if when == "in the engine":
        await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await first.aclose()
    await second.aclose()
    assert bench.taken == 0
    assert bench.metric("queue_generations", priority="normal") == 0


async def test_what_the_engine_refuses_gives_its_place_back() -> None:
    bench = Bench()
    bench.engine.enqueue(Script(refusal=GenerationFailed("No.")))

    with pytest.raises(GenerationFailed):
        await (await bench.submit())

    assert bench.taken == 0


async def test_full_queue_refuses_with_the_time_that_it_takes_to_drain() -> None:
    bench = Bench(max_queued_requests=5)
    tasks = [await bench.submit("a") for _ in range(bench.queue.places + 5)]

    with pytest.raises(Overloaded) as refusal:
        await (await bench.submit("a"))

    assert 1 <= int(refusal.value.headers["retry-after"]) <= 30
    assert bench.metric("queue_refusals_total", reason="full") == 1
    await close(tasks)


async def test_newest_of_a_flood_yields_to_another_owner() -> None:
    bench = Bench(max_queued_requests=5)
    flood = [await bench.submit("flood") for _ in range(bench.queue.places + 5)]
    single = await bench.submit("other")

    assert isinstance(flood[-1].exception(), Overloaded)
    assert not single.done()
    assert not flood[-2].done()
    assert bench.metric("queue_refusals_total", reason="yielded") == 1
    await close([*flood[:-1], single])


async def test_prompt_tokens_are_bounded_too() -> None:
    bench = Bench(max_queued_tokens=25)
    tasks = [await bench.submit() for _ in range(bench.queue.places + 2)]

    with pytest.raises(Overloaded):
        await (await bench.submit())
    await close(tasks)


async def test_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    bench = Bench()
    for generation in await bench.occupied():
        bench.queue._pace.note(10.0)
        await generation.aclose()
    tasks = [await bench.submit() for _ in range(3 * bench.queue.places)]
    now = time.monotonic()

    with pytest.raises(DeadlineUnreachable) as refusal:
        await (await bench.submit(deadline=now + 1))
    patient = await bench.submit(deadline=now + 600)
    urgent = await bench.submit(priority=HIGH, deadline=now + 5)

    assert int(refusal.value.headers["retry-after"]) > 1
    assert not patient.done()
    assert not urgent.done()
    assert bench.metric("queue_refusals_total", reason="deadline") == 1
    await close([*tasks, patient, urgent])


async def test_end_of_the_server_ends_what_waits_and_what_runs() -> None:
    bench = Bench()
    tasks = [await bench.submit() for _ in range(bench.queue.places + 2)]

    await bench.queue.abort_all()
    await settled()

    assert all(isinstance(task.exception(), Draining) for task in tasks[-2:])
    assert all(each.aborted.is_set() for each in bench.engine.submissions)
    await close(tasks[:-2])


async def test_tokens_that_were_not_generated_are_not_counted() -> None:
    bench = Bench()
    generation = await (await bench.submit("owner"))
    served = bench.queue._backlog.tiers[NORMAL - HIGH]._served
    assert served["owner"] == 10 + 4

    await anext(generation)
    await generation.aclose()

    assert served["owner"] == 10 + 1


async def test_iterating_is_the_engine_s_own() -> None:
    """Nothing is added for a token."""
    bench = Bench()
    generation = await (await bench.submit())

    assert type(aiter(generation)).__name__ == "FakeGeneration"
    assert [output.outputs[0].text async for output in generation] == ["Hello", ", ", "world", "!"]
    await generation.aclose()


ACTIONS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.sampled_from("abc"),
        st.sampled_from([HIGH, NORMAL, LOW]),
        st.integers(1, 8),
        st.sampled_from(["play", "hold", "refuse"]),
    ),
    st.tuples(st.sampled_from(["close", "cancel", "close-and-cancel"]), st.integers(0, 30)),
    st.tuples(st.just("settle")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.integers(1, 6))
def test_whatever_happens_places_are_neither_lost_nor_exceeded(
    actions: list[tuple[Any, ...]], max_num_seqs: int
) -> None:
    with asyncio.Runner() as runner:
        runner.run(play(actions, max_num_seqs))


async def play(actions: list[tuple[Any, ...]], max_num_seqs: int) -> None:
    bench = Bench(max_num_seqs, max_queued_requests=12, max_queued_tokens=100, max_overtaking=3)
    tasks: list[asyncio.Task[Generation]] = []
    for action, *details in actions:
        if action == "submit":
            owner, priority, n, fate = details
            tasks.append(asyncio.create_task(fated(bench, owner, priority, n, fate)))
        elif action == "settle":
            await settled()
        elif tasks:
            await end(tasks[details[0] % len(tasks)], action)
        check(bench)
    await settled()
    check(bench)
    await close(tasks)
    await settled()
    assert bench.taken == 0
    assert bench.queue._backlog.taken.places == bench.queue._backlog.taken.tokens == 0
    assert not bench.queue._backlog
    assert all(each.closed.is_set() for each in bench.engine.submissions)


async def fated(bench: Bench, owner: str, priority: int, n: int, fate: str) -> Generation:
    if fate == "hold":
        bench.engine.enqueue(Script(hold=asyncio.Event()))
    elif fate == "refuse":
        bench.engine.enqueue(Script(refusal=GenerationFailed("No.")))
    return await bench.submission(Origin(owner, priority), n)


async def end(task: "asyncio.Task[Generation]", how: str) -> None:
    if how != "close":
        task.cancel()
    if task.done() and not task.cancelled() and not task.exception():
        await task.result().aclose()
        await task.result().aclose()


def check(bench: Bench) -> None:
    queue, backlog = bench.queue, bench.queue._backlog
    waiting: Counter[str] = Counter()
    for tier in backlog.tiers:
        for owner, lane in tier._lanes.items():
            assert lane
            waiting[owner] += sum(ticket.places for ticket in lane)
    assert waiting == {name: room.places for name, room in backlog._owners.items()}
    assert waiting.total() == backlog.taken.places == sum(backlog.places_by_tier)
    assert len(waiting) <= 1 or backlog.taken.places <= 12
    assert 0 <= queue._taken <= max(queue.places, 8)
    assert not backlog or not queue._fits(backlog.first), "something waits although it fits"
