"""Environment variables that vLLM and PyTorch read when they are imported, which is not here."""

import os

from app.settings import Settings


def prepare_environment(settings: Settings) -> None:
    """Set what vLLM and PyTorch read from the environment; what the user set stays.

    Call it before vLLM is imported.
    """
    for name, value in environment(settings).items():
        os.environ.setdefault(name, value)
    if not settings.usage_stats:
        os.environ["VLLM_NO_USAGE_STATS"] = "1"


def environment(settings: Settings) -> dict[str, str]:
    variables = {
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kv_cache_gib),
        "VLLM_LOGGING_COLOR": "0",
    }
    if settings.hub == "modelscope":
        variables["VLLM_USE_MODELSCOPE"] = "true"
    return variables
