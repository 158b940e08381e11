"""Settings to vLLM's engine arguments."""

from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from app.settings import Settings

QUANTIZATION_ALIASES = {"fp8": "fp8_per_channel"}
"""Weights quantized while they are loaded, without calibration; `int8` is our own."""

PICTURE_CACHE_GIB = 1
"""For prepared pictures, in the server's process and in the core's; vLLM's default is 4."""


def engine_arguments(settings: Settings, files: dict[str, Any]) -> AsyncEngineArgs:
    """What the engine is started with; `files` names the model's, which are on this machine.

    Arguments set by vLLM's own names win, but for a revision: it has been downloaded.
    """
    theirs = dict(settings.engine_arguments)
    if Path(files["model"]).exists():
        theirs.pop("revision", None)
    return AsyncEngineArgs(**(ours(settings) | on_cpu() | files | theirs))


def ours(settings: Settings) -> dict[str, Any]:
    quantization = QUANTIZATION_ALIASES.get(settings.quantization, settings.quantization)
    arguments: dict[str, Any] = {
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
        # Chat before batches also in here, where memory is lost to others and won back.
        "scheduling_policy": "priority",
        "scheduler_cls": "app.engine.scheduler.scheduler",
        "worker_extension_cls": "app.engine.worker.WorkerExtension",
        "enable_log_requests": False,
    }
    if settings.distributed_executor_backend != "auto":
        arguments["distributed_executor_backend"] = settings.distributed_executor_backend
    return arguments


def on_cpu() -> dict[str, Any]:
    """What only a CPU wants: no compilation, which takes minutes and gains little there."""
    return {"enforce_eager": True} if current_platform.is_cpu() else {}
