"""In front of the engine: what is repeatable is computed once, and kept where that is wanted.

Sees prompts and outputs, so that every route profits; knows neither requests nor replies.
"""

from functools import partial

import msgspec

from app.engine.base import (
    ANYBODY,
    Adapter,
    Generation,
    Origin,
    RenderedPrompt,
    Sampling,
    Submitter,
)
from app.metrics import Metrics
from app.reuse.fingerprint import fingerprint, is_repeatable
from app.reuse.flight import Flight, Lost
from app.reuse.kept import KeptReplies
from app.reuse.outputs import PlayedGeneration, merged
from app.reuse.terms import Source


class Asked(msgspec.Struct, frozen=True):
    """One submission."""

    prompt: RenderedPrompt
    sampling: Sampling
    adapter: Adapter | None
    origin: Origin


class FlightKey(msgspec.Struct, frozen=True):
    """Which requests share a generation while it runs."""

    fingerprint: str
    stream: bool
    """A stream has nothing of what ends as a whole before that end."""

    priority: int
    """No request waits behind what another one is worth."""


class ReplyCache:
    """A Submitter: what is asked by several at once is computed once, and kept if there is a place.

    What is not repeatable passes straight through. A failure goes to all who wait for it, and a
    request that leaves takes nothing from the others.
    """

    def __init__(
        self,
        behind: Submitter,
        served: str,
        metrics: Metrics,
        *,
        is_shared: bool = True,
        kept: KeptReplies | None = None,
    ) -> None:
        self._behind = behind
        self._served = served
        self._metrics = metrics
        self._is_shared = is_shared
        self._kept = kept
        self._fresh: Source = "miss" if kept else "computed"
        self._flights: dict[FlightKey, Flight] = {}

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> Generation:
        """See `base.Submitter`."""
        if not is_repeatable(sampling.arguments) or not origin.reuse.may_keep:
            return await self._behind.submit(prompt, sampling, adapter, origin)
        key = fingerprint(self._served, prompt, sampling, adapter, origin.owner)
        if key is None:
            return await self._behind.submit(prompt, sampling, adapter, origin)
        return await self._board(key, Asked(prompt, sampling, adapter, origin))

    async def _board(self, key: str, asked: Asked) -> Generation:
        """Read the generation that is under way, or start one.

        Raises what the submission raises, also if it was another request's.
        """
        sources = asked.origin.reuse.sources
        sources[self._fresh] += 1
        while True:
            known = self._known(key, asked)
            flight = known or self._start(key, asked)
            try:
                generation = await flight.join(asked.origin)
            except Lost:
                continue
            source = self._source(flight, is_new=known is None)
            sources[self._fresh] -= 1
            sources[source] += 1
            self._metrics.reply_sources.labels(source).inc()
            return generation

    def _source(self, flight: Flight, *, is_new: bool) -> Source:
        if isinstance(flight.generation, PlayedGeneration):
            return "hit"
        return self._fresh if is_new else "shared"

    def _known(self, key: str, asked: Asked) -> Flight | None:
        """The flight of this generation, if it is of use to this request."""
        if not asked.origin.reuse.may_read:
            return None
        flight = self._flights.get(flight_key(key, asked))
        return None if flight is None or flight.is_failed else flight

    def _start(self, key: str, asked: Asked) -> Flight:
        flight = Flight(
            partial(self._begin, key, asked),
            partial(self._complete, key),
            partial(self._close, flight_key(key, asked)),
        )
        if self._is_shared:
            self._flights[flight_key(key, asked)] = flight
        return flight

    async def _begin(self, key: str, asked: Asked, flight: Flight) -> Generation:
        """The kept reply, or the engine's; one look for it serves all who share the flight."""
        if self._kept and asked.origin.reuse.may_read and (reply := await self._kept.find(key)):
            return PlayedGeneration(reply, stream=asked.sampling.stream)

        def abandon(num_tokens: int) -> None:
            flight.abandon(num_tokens)

        origin = msgspec.structs.replace(asked.origin, abandon=abandon, deadline=flight.deadline)
        return await self._behind.submit(asked.prompt, asked.sampling, asked.adapter, origin)

    def _complete(self, key: str, flight: Flight) -> None:
        if self._kept and not isinstance(flight.generation, PlayedGeneration):
            self._kept.keep(key, merged(flight.outputs))

    def _close(self, key: FlightKey, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def flight_key(key: str, asked: Asked) -> FlightKey:
    return FlightKey(key, asked.sampling.stream, asked.origin.priority)
