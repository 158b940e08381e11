"""What of vLLM's bookkeeping becomes of a request that its engine died with."""

from collections.abc import AsyncGenerator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.base import Origin
from app.errors import EngineDead

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]  # of vLLM's imports


async def test_tokens_that_an_engine_took_with_it_are_nobody_s() -> None:
    """The request is run again, and its reply says what it has cost."""
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.exceptions import EngineDeadError

    from app.engine.generation import UnreadTokens, VLLMGeneration

    async def outputs() -> AsyncGenerator[RequestOutput, None]:
        raise EngineDeadError
        yield

    state: Any = SimpleNamespace(
        queue=SimpleNamespace(output=None),
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenizer=SimpleNamespace(num_output_tokens=lambda: 50),
        parent_req=None,
    )
    processor = SimpleNamespace(external_req_ids={"a": ["a-0"]}, request_states={"a-0": state})
    unread = UnreadTokens(processor, "a")
    told: list[int] = []
    generation = VLLMGeneration(outputs(), unread, nullcontext, Origin(abandon=told.append))

    assert unread.count() == 50
    with pytest.raises(EngineDead):
        await generation.wait_for_first()

    assert told == []
