"""Environment variables that vLLM and PyTorch read when they are imported, which is not here."""

import os

from app.folders import cache_folder
from app.settings import Settings

INDEX_CACHE_DIR = "SLIPSTREAM_INDEX_CACHE_DIR"
"""Tells the engine's processes where compiled patterns are; set here, not by users."""

INDEX_CACHE_BYTES = "SLIPSTREAM_INDEX_CACHE_BYTES"
"""Tells the engine core how much memory they may take."""

MODEL_MODULE = "SLIPSTREAM_MODEL_MODULE"
"""Tells the engine's processes which module registers model classes; empty for none."""

MAX_LORAS = "SLIPSTREAM_MAX_LORAS"
"""Tells the engine core how many adapters one batch may have; pinned ones have other places."""


def prepare_environment(settings: Settings) -> None:
    """Set what vLLM and PyTorch read from the environment; what the user set stays.

    Call it before vLLM is imported.
    """
    for name, value in environment(settings).items():
        os.environ.setdefault(name, value)
    os.environ[INDEX_CACHE_DIR] = str(cache_folder(settings.index_cache_dir))
    os.environ[INDEX_CACHE_BYTES] = str(settings.index_cache_memory_mib * 2**20)
    os.environ[MODEL_MODULE] = settings.model_module
    os.environ[MAX_LORAS] = str(settings.max_loras)
    if not settings.usage_stats:
        os.environ["VLLM_NO_USAGE_STATS"] = "1"


def environment(settings: Settings) -> dict[str, str]:
    variables = {
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kv_cache_gib),
        "VLLM_LOGGING_COLOR": "0",
        # A forked core would share our listening socket, and keep the port when we are gone.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if settings.hub == "modelscope":
        variables["VLLM_USE_MODELSCOPE"] = "true"
    return variables
