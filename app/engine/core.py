"""vLLM's engine core, as its client knows it: calls to it, its processes and its settings."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from prometheus_client import REGISTRY
from vllm.engine.async_llm_engine import AsyncLLMEngine

from app.errors import EngineDead

DEATH_SECONDS = 0.1
"""How often a call looks whether the core still lives."""

T = TypeVar("T")


async def answer(llm: AsyncLLMEngine, call: Coroutine[Any, Any, T]) -> T:
    """What the core answers to a call. vLLM waits for ever if the core dies meanwhile.

    Raises EngineDead.
    """
    calling = asyncio.create_task(call)
    try:
        while not calling.done():
            if llm.errored:
                raise EngineDead("The engine has died.")
            await asyncio.wait([calling], timeout=DEATH_SECONDS)
        return calling.result()
    finally:
        calling.cancel()


def core_pids(llm: AsyncLLMEngine) -> list[int]:
    """Of the engine cores on this machine, one a copy of the model; Ray's are none of ours."""
    cores = getattr(llm.engine_core.resources.engine_manager, "processes", ())
    return [core.pid for core in cores]


def drop_adapter_series(llm: AsyncLLMEngine) -> None:
    """Without vLLM's metric that has a series for each set of adapters that ever ran together."""
    for each in llm.logger_manager.stat_loggers if llm.logger_manager else ():
        gauge = getattr(each, "gauge_lora_info", None)
        if gauge is not None:
            REGISTRY.unregister(gauge)
            each.gauge_lora_info = None


def max_num_seqs(llm: AsyncLLMEngine) -> int:
    """vLLM's setting is each data-parallel rank's own."""
    config = llm.vllm_config
    num_ranks: int = config.parallel_config.data_parallel_size
    return int(config.scheduler_config.max_num_seqs) * num_ranks
