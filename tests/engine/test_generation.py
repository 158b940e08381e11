"""What of vLLM's bookkeeping becomes of a request that its engine died with."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.base import ANYBODY, Origin, RenderedPrompt
from app.errors import EngineDead, GenerationFailed
from app.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]  # of vLLM's imports


@pytest.mark.parametrize("is_first", [True, False])
async def test_tokens_that_an_engine_took_with_it_are_paid_for_if_any_was_read(
    is_first: bool,
) -> None:
    """Where none was, the request is run again, and its reply says what it has cost."""
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.exceptions import EngineDeadError
    from vllm.v1.engine.output_processor import RequestOutputCollector

    from app.engine.generation import VLLMGeneration

    def output(token_ids: list[int]) -> RequestOutput:
        completion = CompletionOutput(0, "", token_ids, None, None)
        return RequestOutput("a", None, None, None, [completion], finished=False)

    async def abort(request_id: str, *, internal: bool) -> None:
        assert request_id == "a-0"
        assert internal
        collector.put(output([4, 5, 6]))

    collector = RequestOutputCollector(RequestOutputKind.DELTA, "a-0")
    told: list[int] = []
    llm: Any = SimpleNamespace(abort=abort)
    giving: Any = None
    generation = VLLMGeneration(llm, collector, giving, Origin(abandon=told.append))
    if not is_first:
        collector.put(output([1]))
        await generation.wait_for_first()
        assert (await anext(generation)).outputs[0].token_ids == [1]
    collector.put(EngineDeadError())

    with pytest.raises(EngineDead):
        await (generation.wait_for_first() if is_first else anext(generation))
    await generation.aclose()
    await generation.aclose()

    assert told == ([] if is_first else [3])


async def test_what_fails_on_its_way_to_the_engine_is_taken_back_and_told() -> None:
    from app.engine.vllm import VLLMEngine

    aborted: list[str] = []

    async def add_request(request_id: str, *_: Any, **__: Any) -> None:
        assert not aborted
        raise RuntimeError(request_id)

    async def abort(request_id: str) -> None:
        aborted.append(request_id)

    llm: Any = SimpleNamespace(add_request=add_request, abort=abort)
    parameters: Any = None

    with pytest.raises(GenerationFailed) as failure:
        await VLLMEngine(Settings())._add(llm, RenderedPrompt([1]), parameters, None, ANYBODY)

    assert aborted == [str(failure.value.__cause__)]
