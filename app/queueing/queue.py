"""A `Submitter` that gives the engine no more than it can run, and holds the rest back.

What waits in the engine is out of our hands: first come, first served, whosever it is. So
everything waits here but a few, which keep the engine from ever running dry.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial

import msgspec

from app.engine.base import (
    ANYBODY,
    HIGH,
    LOW,
    Adapter,
    Engine,
    Generation,
    Origin,
    RenderedPrompt,
    Sampling,
)
from app.errors import (
    CapacityError,
    DeadlineUnreachable,
    Draining,
    Overloaded,
    ServerError,
)
from app.metrics import Metrics, QueueMetrics
from app.queueing.backlog import Backlog, NoRoom, Room
from app.queueing.pace import Pace
from app.queueing.placed import PlacedGeneration
from app.queueing.tier import Ticket
from app.settings import Settings

NUM_TIERS = LOW - HIGH + 1

TIER_LEAD_SECONDS = 60
"""In the engine what is less urgent by one tier is taken for what came so much later: it makes way
for everything newer, and yet gets on in the end, also where it has lost its memory to others."""


class FairQueue:
    """By priority first, then fairly between owners, then first come, first served."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._engine = engine
        self._margin = settings.queue_margin
        bounds = Room(settings.max_queued_requests, settings.max_queued_tokens)
        self._backlog = Backlog(bounds, NUM_TIERS, settings.max_overtaking)
        self._taken = 0
        self._pace = Pace()
        self._metrics = metrics.queue
        self._show(metrics.queue)

    @property
    def places(self) -> int:
        """Sequences that the engine is given at once: all that it can run, and some to go on with.

        At least one of the latter, so that a place that is free again is filled in the same step.
        """
        running = self._engine.limits.max_num_seqs
        return running + max(1, math.ceil(running * self._margin))

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> Generation:
        """Wait for places, then as `Engine.submit`.

        Raises Overloaded and DeadlineUnreachable beside what that raises.
        """
        ticket = ticket_for(prompt, sampling, origin)
        await self._place(ticket, origin.deadline)
        self._metrics.seconds[ticket.tier].observe(ticket.waited_seconds)
        origin.note_queued(ticket.waited_seconds)
        try:
            generation = await self._engine.submit(
                prompt, sampling, adapter, in_engine(origin, ticket)
            )
        except BaseException:
            self._free(ticket)
            raise
        return PlacedGeneration(generation, ticket, self._end)

    def _show(self, metrics: QueueMetrics) -> None:
        """Gauges are read off when they are asked for."""
        for tier, gauge in enumerate(metrics.depth):
            gauge.set_function(partial(self._backlog.places_by_tier.__getitem__, tier))
        metrics.tokens.set_function(lambda: self._backlog.taken.tokens)
        metrics.taken.set_function(lambda: self._taken)

    async def abort_all(self) -> None:
        """End what waits, which raises Draining, and what runs, which raises GenerationFailed."""
        while self._backlog:
            self._turn_away(self._backlog.first, Draining("The server is shutting down."))
        await self._engine.abort_all()

    async def _place(self, ticket: Ticket, deadline: float) -> None:
        """Take places, waiting for them behind whoever waits already."""
        if not self._backlog and self._fits(ticket):
            self._backlog.tiers[ticket.tier].charge(ticket)
            self._take(ticket, ticket.arrived)
            return
        self._check_deadline(ticket, deadline)
        self._make_room(ticket)
        await self._wait(ticket)
        if ticket.refusal is not None:
            raise ticket.refusal

    async def _wait(self, ticket: Ticket) -> None:
        ticket.left = asyncio.get_running_loop().create_future()
        self._backlog.add(ticket)
        self._fill()  # it may be the first now, and small enough for what is free
        try:
            await ticket.left
        except asyncio.CancelledError:
            if ticket.has_place:
                self._free(ticket)
            elif ticket.refusal is None:
                self._backlog.remove(ticket)
                self._fill()  # it may have been the first, and too large for what is free
            raise

    def _check_deadline(self, ticket: Ticket, deadline: float) -> None:
        num_before = self._backlog.num_before(ticket.owner, ticket.tier)
        seconds = self._pace.seconds_until(num_before + ticket.places, self.places)
        if time.monotonic() + seconds > deadline:
            raise self._refusal("deadline", DeadlineUnreachable, "The reply would come too late")

    def _make_room(self, ticket: Ticket) -> None:
        try:
            victims = self._backlog.yielding_to(ticket)
        except NoRoom:
            raise self._refusal("full", Overloaded, "The queue is full") from None
        for victim in victims:
            self._turn_away(
                victim, self._refusal("yielded", Overloaded, "The queue is full of such requests")
            )

    def _refusal(
        self, reason: str, error: Callable[..., CapacityError], sentence: str
    ) -> CapacityError:
        """Counted, and with the time after which what waits now will have been served."""
        waiting = self._backlog.taken.places
        seconds = self._pace.retry_after(waiting, self.places)
        self._metrics.refusals.labels(reason).inc()
        return error(f"{sentence}: {waiting} wait already.", retry_after_seconds=seconds)

    def _turn_away(self, ticket: Ticket, refusal: ServerError) -> None:
        self._backlog.remove(ticket)
        ticket.refusal = refusal
        self._wake(ticket)

    def _wake(self, ticket: Ticket) -> None:
        """Unless it is cancelled already, and only has not got round to leaving."""
        if ticket.left is not None and not ticket.left.done():
            ticket.left.set_result(None)

    def _fits(self, ticket: Ticket) -> bool:
        """One that is larger than everything there is gets it alone."""
        return self._taken == 0 or self._taken + ticket.places <= self.places

    def _take(self, ticket: Ticket, now: float) -> None:
        self._taken += ticket.places
        ticket.has_place = True
        ticket.started = now

    def _free(self, ticket: Ticket) -> None:
        self._taken -= ticket.places
        ticket.has_place = False
        self._fill()

    def _end(self, ticket: Ticket, num_tokens: int | None) -> None:
        """A generation is over after so many tokens, if they were counted."""
        self._pace.note(time.monotonic() - ticket.started)
        if num_tokens is not None:
            unused = ticket.cost - ticket.prompt_tokens - num_tokens
            self._backlog.tiers[ticket.tier].give_back(ticket, unused)
        self._free(ticket)

    def _fill(self) -> None:
        """Let go whoever now fits."""
        while self._backlog and self._fits(ticket := self._backlog.first):
            ticket.waited_out = self._backlog.pop(ticket)
            self._take(ticket, time.monotonic())
            self._wake(ticket)


def ticket_for(prompt: RenderedPrompt, sampling: Sampling, origin: Origin) -> Ticket:
    places = sampling.arguments.get("n", 1)
    prompt_tokens = len(prompt.token_ids)
    return Ticket(
        owner=origin.owner,
        tier=min(max(origin.priority, HIGH), LOW) - HIGH,
        places=places,
        prompt_tokens=prompt_tokens,
        cost=prompt_tokens + sampling.max_tokens,
        arrived=time.monotonic(),
    )


def in_engine(origin: Origin, ticket: Ticket) -> Origin:
    """The same with its turn among what the engine has, in seconds: lower goes first."""
    arrived = ticket.arrived
    tier = 0 if ticket.waited_out else ticket.tier
    priority = int(arrived) + tier * TIER_LEAD_SECONDS
    return msgspec.structs.replace(origin, priority=priority, arrived=arrived)
