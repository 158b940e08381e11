"""vLLM's outputs of one request as `base.Generation`, and what it made that was never read."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.metrics.stats import RequestStateStats

from app.engine.base import Origin, Take, forget
from app.engine.translation import VLLM_ERRORS, translate
from app.errors import EngineDead, GenerationFailed
from app.primed import Primed

Giving = Callable[[Take], AbstractContextManager[None]]
"""Inside of it a request's plain deltas are taken, and not put out."""

UNFINISHED = frozenset({"abort", "error"})


class UnreadTokens:
    """What vLLM holds of one request that nobody has taken; looked at only at its end.

    Its client keeps, for each choice, a state until the choice is finished or aborted, and a
    collector of outputs that all choices share.
    """

    __slots__ = ("_collector", "_output_processor", "_request_id")

    def __init__(self, output_processor: Any, request_id: str) -> None:
        self._output_processor = output_processor
        self._request_id = request_id
        self._collector: Any = None

    @property
    def _states(self) -> list[Any]:
        """Of the choices that are not finished."""
        processor = self._output_processor
        names = processor.external_req_ids.get(self._request_id, ())
        return [processor.request_states[name] for name in names]

    def note_collector(self) -> None:
        """Remember it: it outlives the states."""
        for state in self._states[:1]:
            self._collector = state.queue

    def count(self) -> int | None:
        """How many tokens there are; None if the request was read to its end, or never began."""
        states = self._states
        self.note_collector()
        waiting = getattr(self._collector, "output", None)
        if not states and not isinstance(waiting, RequestOutput):
            return None
        unread = tokens_of(waiting.outputs) if isinstance(waiting, RequestOutput) else 0
        return unread + tokens_kept_back(states)


def tokens_kept_back(states: list[Any]) -> int:
    """What was not even put into the collector, since whole replies are wanted."""
    kept = [state for state in states if state.output_kind is RequestOutputKind.FINAL_ONLY]
    running: int = sum(state.detokenizer.num_output_tokens() for state in kept)
    parent = kept[0].parent_req if kept else None
    return running + (tokens_of(parent.output_aggregator) if parent else 0)


def tokens_of(completions: list[CompletionOutput | None]) -> int:
    return sum(len(each.token_ids) for each in completions if each is not None)


class VLLMGeneration(Primed[RequestOutput]):
    """Outputs of one request; tells `abandon` once what was made and is not going to be read."""

    __slots__ = ("_abandon", "_giving", "_num_choices", "_outputs", "_stats", "_unread")

    def __init__(
        self,
        outputs: AsyncGenerator[RequestOutput, None],
        unread: UnreadTokens,
        giving: Giving,
        origin: Origin,
        num_choices: int = 1,
    ) -> None:
        super().__init__()
        self._outputs = outputs
        self._unread = unread
        self._giving = giving
        self._abandon = origin.abandon
        self._num_choices = num_choices
        self._stats: RequestStateStats | None = None

    async def wait_for_first(self) -> None:
        """In a task: cancelled directly, vLLM would forget the request, and we its collector."""
        opening = asyncio.create_task(self.next())
        try:
            await asyncio.wait([opening])
            self._first = opening.result()
        except BaseException as error:
            if isinstance(error, EngineDead):
                self._abandon = forget  # it may run again, and is not paid for twice
            self._unread.note_collector()
            opening.cancel()  # counted behind it, since there may be a step before it
            await asyncio.gather(opening, return_exceptions=True)
            if not opening.cancelled() and opening.exception() is None:
                self._first = opening.result()
            await self.aclose()
            raise
        self._unread.note_collector()
        self._stats = self._first.metrics

    @property
    def num_tokens(self) -> int | None:
        """Of the choice that came first, which vLLM counts as it goes, for each of them."""
        stats = self._stats
        return None if stats is None else stats.num_generation_tokens * self._num_choices

    async def next(self) -> RequestOutput:
        try:
            output = await anext(self._outputs)
        except VLLM_ERRORS as error:
            raise translate(error) from error
        for completion in output.outputs:
            if completion.finish_reason in UNFINISHED:
                self._tell_unread(output)
                raise GenerationFailed("The engine gave the generation up.")
        return output

    async def pushed(self, take: Take) -> RequestOutput:
        """See `base.Generation`; what vLLM has made already was not given away, and comes first."""
        if self._first is not None:
            return await anext(self)
        with self._giving(take):
            return await self.next()

    async def aclose(self) -> None:
        self._tell_unread()
        await self._outputs.aclose()

    def _tell_unread(self, taken: RequestOutput | None = None) -> None:
        """Once, if there is anything to tell; what was taken is not going to be read either."""
        abandon, self._abandon = self._abandon, forget
        unread, taken = self._unread.count(), taken or self._first
        if taken is not None:
            unread = (unread or 0) + tokens_of(taken.outputs)
        if unread is not None:
            abandon(unread)
