"""vLLM's outputs of one request as `base.Generation`."""

from collections.abc import AsyncGenerator

from vllm.outputs import RequestOutput

from app.engine.translation import VLLM_ERRORS, translate
from app.errors import GenerationFailed
from app.primed import Primed

UNFINISHED = frozenset({"abort", "error"})


class VLLMGeneration(Primed[RequestOutput]):
    """Outputs of one request."""

    __slots__ = ("_outputs",)

    def __init__(self, outputs: AsyncGenerator[RequestOutput, None]) -> None:
        super().__init__()
        self._outputs = outputs

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
