"""vLLM's outputs of one request as `base.Generation`, and what it made that was never read."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.outputs import RequestOutput
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.metrics.stats import RequestStateStats

from app.engine.base import Origin, Take, forget
from app.engine.translation import translate
from app.errors import EngineDead, GenerationFailed
from app.primed import Primed

Giving = Callable[[str, Take], AbstractContextManager[None]]
"""Inside of it the plain deltas of the request of this name are taken, and not put out."""

UNFINISHED = frozenset({"abort", "error"})


class VLLMGeneration(Primed[RequestOutput]):
    """Outputs of one request; tells `abandon` once what was made and is not going to be read.

    Reads vLLM's collector, as `AsyncLLM.generate` does: a generator between the two costs a
    request a tenth of its time, and what it holds when it is cancelled is lost.
    """

    __slots__ = (
        "_abandon",
        "_collector",
        "_giving",
        "_is_over",
        "_llm",
        "_num_choices",
        "_stats",
    )

    def __init__(
        self,
        llm: AsyncLLMEngine,
        collector: RequestOutputCollector,
        giving: Giving,
        origin: Origin,
        num_choices: int = 1,
    ) -> None:
        super().__init__()
        self._llm = llm
        self._collector = collector
        self._giving = giving
        self._abandon = origin.abandon
        self._num_choices = num_choices
        self._is_over = False
        self._stats: RequestStateStats | None = None

    async def wait_for_first(self) -> None:
        try:
            self._first = first = await self.next()
        except BaseException as error:
            if isinstance(error, EngineDead):
                self._abandon = forget  # it may run again, and is not paid for twice
            await self.aclose()
            raise
        self._stats = first.metrics

    @property
    def num_tokens(self) -> int | None:
        """Of the choice that came first, which vLLM counts as it goes, for each of them."""
        stats = self._stats
        return None if stats is None else stats.num_generation_tokens * self._num_choices

    async def next(self) -> RequestOutput:
        if self._is_over:
            raise StopAsyncIteration
        try:
            output = self._collector.get_nowait() or await self._collector.get()
        except Exception as error:  # also what the reader's own `take` raised
            raise translate(error) from error
        self._is_over = output.finished
        for completion in output.outputs:
            if completion.finish_reason in UNFINISHED:
                self._tell_unread(output)
                raise GenerationFailed("The engine gave the generation up.")
        return output

    async def pushed(self, take: Take) -> RequestOutput:
        """See `base.Generation`; what vLLM has made already was not given away, and comes first."""
        if self._first is not None:
            return await anext(self)
        with self._giving(self._collector.request_id, take):
            return await self.next()

    async def aclose(self) -> None:
        """What is aborted puts out what it has, so that it can be counted behind that."""
        is_over, self._is_over = self._is_over, True
        try:
            if not is_over:
                await self._llm.abort(self._collector.request_id, internal=True)
        finally:
            self._tell_unread(self._first, self._collector.output)

    def _tell_unread(self, *outputs: object) -> None:
        """Once, if there is anything to tell."""
        unread = [each for each in outputs if isinstance(each, RequestOutput)]
        if unread:
            abandon, self._abandon = self._abandon, forget
            abandon(sum(map(num_tokens_of, unread)))


def num_tokens_of(output: RequestOutput) -> int:
    return sum(len(each.token_ids) for each in output.outputs)
