"""vLLM's outputs of one request as `base.Generation`."""

from collections.abc import AsyncGenerator

from vllm.outputs import RequestOutput
from vllm.v1.metrics.stats import RequestStateStats

from app.engine.translation import VLLM_ERRORS, translate
from app.errors import GenerationFailed
from app.primed import Primed

UNFINISHED = frozenset({"abort", "error"})


class VLLMGeneration(Primed[RequestOutput]):
    """Outputs of one request."""

    __slots__ = ("_num_choices", "_outputs", "_stats")

    def __init__(self, outputs: AsyncGenerator[RequestOutput, None], num_choices: int = 1) -> None:
        super().__init__()
        self._outputs = outputs
        self._num_choices = num_choices
        self._stats: RequestStateStats | None = None

    async def wait_for_first(self) -> None:
        await super().wait_for_first()
        self._stats = self._first.metrics if self._first else None

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
                raise GenerationFailed("The engine gave the generation up.")
        return output

    async def aclose(self) -> None:
        await self._outputs.aclose()
