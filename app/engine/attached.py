"""vLLM's client of an engine that runs already, and that others use too.

All that leans on how vLLM itself runs several API servers is in here and in `cores.py`.
"""

from collections.abc import Sequence
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.usage.usage_lib import UsageContext

from app.engine.place import Place


def shared_arguments(arguments: AsyncEngineArgs, count: int, index: int) -> AsyncEngineArgs:
    """As vLLM's `run_multi_api_server` sets them; -1 is the engine's own index.

    Caches and memory that are each client's are laid out by them.
    """
    arguments._api_process_count = count
    arguments._api_process_rank = index
    return arguments


def attach(arguments: AsyncEngineArgs, place: Place, loggers: Sequence[Any]) -> AsyncLLMEngine:
    """Connect to the engine, which knows our place; blocks for a moment."""
    shared_arguments(arguments, place.count, place.index)
    return AsyncLLMEngine.from_vllm_config(
        arguments.create_engine_config(UsageContext.ENGINE_CONTEXT),
        stat_loggers=list(loggers),
        enable_log_requests=arguments.enable_log_requests,
        disable_log_stats=arguments.disable_log_stats,
        client_addresses={
            "input_address": place.input_address,
            "output_address": place.output_address,
        },
        client_count=place.count,
        client_index=place.index,
    )
