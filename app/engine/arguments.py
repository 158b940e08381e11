"""Settings to vLLM's engine arguments."""

import dataclasses
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from app.settings import Settings

QUANTIZATION_ALIASES = {"int8": "int8_per_channel_weight_only", "fp8": "fp8_per_channel"}
"""`int8` is today's `load_in_8bit`: weights quantized while loading, without calibration."""

PICTURE_CACHE_GIB = 1
"""For prepared pictures, in the server's process and in the core's; vLLM's default is 4."""


def known_arguments() -> frozenset[str]:
    """Names of every engine argument of the installed vLLM."""
    return frozenset(field.name for field in dataclasses.fields(AsyncEngineArgs))


def engine_arguments(settings: Settings) -> AsyncEngineArgs:
    """What the engine is started with; arguments set by vLLM's own names win."""
    return AsyncEngineArgs(**(ours(settings) | on_cpu(settings) | settings.engine_arguments))


def ours(settings: Settings) -> dict[str, Any]:
    quantization = QUANTIZATION_ALIASES.get(settings.quantization, settings.quantization)
    arguments: dict[str, Any] = {
        "model": settings.model_path,
        "served_model_name": settings.served_name,
        "dtype": settings.dtype,
        "quantization": quantization or None,
        "max_model_len": settings.max_model_len or None,
        "enable_lora": True,
        "max_loras": settings.max_loras + settings.max_pinned_loras,
        "max_cpu_loras": settings.max_loras + settings.max_pinned_loras + settings.max_cpu_loras,
        "max_lora_rank": settings.max_lora_rank,
        "limit_mm_per_prompt": {"image": settings.max_images, "video": 0, "audio": 0},
        "mm_processor_cache_gb": PICTURE_CACHE_GIB,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "data_parallel_size": settings.data_parallel_size,
        # One backend an engine, latched by its first structured request: never left to chance.
        "structured_outputs_config": {"backend": "outlines"},
        "scheduler_cls": "app.engine.scheduler.scheduler",
        "enable_log_requests": False,
    }
    if settings.distributed_executor_backend != "auto":
        arguments["distributed_executor_backend"] = settings.distributed_executor_backend
    return arguments


def on_cpu(settings: Settings) -> dict[str, Any]:
    """What only a CPU wants: no compilation, which takes minutes and gains little there."""
    if not current_platform.is_cpu():
        return {}
    return {
        "enforce_eager": True,
        "worker_extension_cls": "app.engine.repairs.extension.WorkerExtension",
    }
