"""A vision projector file and the model it goes with in, a sentence of what to use instead out.

llama.cpp keeps a model's vision tower in a second GGUF file ("mmproj"). vLLM's classes want one
checkpoint with the processor's settings, which neither file holds.
"""

from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from app.engine.checkpoints.gguf_header import GGUFHeader, read_header
from app.engine.checkpoints.unusable import CheckpointUnusable


class Family(NamedTuple):
    """Models with the same kind of projector."""

    name: str
    example: str
    """A checkpoint on Hugging Face that vLLM loads."""


FAMILIES: Final = {
    "gemma3": Family("Gemma 3", "google/gemma-3-4b-it"),
    "gemma4v": Family("Gemma 4", "google/gemma-4-E4B-it"),
    "idefics3": Family("SmolVLM and Idefics 3", "HuggingFaceTB/SmolVLM-256M-Instruct"),
    "internvl": Family("InternVL", "OpenGVLab/InternVL3-2B"),
    "kimivl": Family("Kimi-VL", "moonshotai/Kimi-VL-A3B-Instruct"),
    "lfm2": Family("LFM2-VL", "LiquidAI/LFM2-VL-1.6B"),
    "llama4": Family("Llama 4", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    "mlp": Family("LLaVA", "llava-hf/llava-1.5-7b-hf"),
    "pixtral": Family("Pixtral", "mistral-community/pixtral-12b"),
    "qwen2vl_merger": Family("Qwen2-VL", "Qwen/Qwen2-VL-2B-Instruct"),
    "qwen2.5vl_merger": Family("Qwen2.5-VL", "Qwen/Qwen2.5-VL-3B-Instruct"),
    "qwen3vl_merger": Family("Qwen3-VL", "Qwen/Qwen3-VL-2B-Instruct"),
    "resampler": Family("MiniCPM-V", "openbmb/MiniCPM-V-2_6"),
}
"""By llama.cpp's name of the projector, its `clip.projector_type`."""


def refuse_projector(path: Path, model: Path) -> NoReturn:
    """Look at the file, then raise CheckpointUnusable with what to serve in its place."""
    header = read_header(path)
    if not header.is_projector:
        raise CheckpointUnusable(
            f"{path.name} is no vision projector but a model of kind '{header.architecture}': "
            "MMPROJ_PATH names the projector, MODEL_PATH the model."
        )
    kind = projector_kind(header)
    family = FAMILIES.get(kind)
    whose = f"{family.name} models" if family else f"kind '{kind}'"
    example = f"MODEL_PATH={family.example}" if family else "MODEL_PATH=<its folder or id>"
    raise CheckpointUnusable(
        f"{path.name} is a vision projector of {whose}, and vLLM cannot join it to {model.name}: "
        f"serve the original checkpoint, for instance {example} MODEL_TYPE=VL, without MMPROJ_PATH."
    )


def projector_kind(header: GGUFHeader) -> str:
    keys = ("clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type")
    return next((str(header.metadata[key]) for key in keys if key in header.metadata), "unknown")
