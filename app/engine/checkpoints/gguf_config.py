"""A GGUF file's metadata in, the model's configuration out, with what transformers leaves out.

transformers 5.19 reads the sizes. It ignores how positions are scaled, takes the width of a head
from the class's default, and calls token 1 the beginning of a text where the file names none: a
model built from that runs, and answers worse.
"""

from typing import Any, Final

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
from transformers import AutoConfig, GenerationConfig, PretrainedConfig
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from app.engine.checkpoints.gguf_header import GGUFHeader
from app.engine.checkpoints.unusable import CheckpointUnusable, first_line

ROPE_FACTORS: Final = "rope_freqs.weight"
"""Llama 3.1's scaling, computed when the file was made: a divisor for each frequency."""

LLAMA3_ROPE: Final = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What Llama 3.1, 3.2 and 3.3 have; only `factor` differs among them."""

END_TOKENS: Final = frozenset(
    {
        *("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "<|end|>"),
        *("<end_of_turn>", "<turn|>", "<eos>", "<end_of_utterance>", "<|return|>", "<|call|>"),
        *("<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<｜end▁of▁sentence｜>"),
    }
)
"""Ends of a reply by their spelling, as llama.cpp finds them: files name one, models have more."""


def read_config(header: GGUFHeader) -> PretrainedConfig:
    """Raises CheckpointUnusable if transformers does not know the architecture."""
    try:
        config = AutoConfig.from_pretrained(header.path.parent, gguf_file=header.path.name)
    except (ValueError, KeyError) as error:
        if is_known(header.architecture):
            raise CheckpointUnusable(f"{header.path}: {first_line(error)}.") from error
        raise CheckpointUnusable(
            f"{header.path.name} holds a model of kind '{header.architecture}', which cannot be "
            "read from GGUF: serve the original checkpoint of that model, a folder or an id."
        ) from error
    for name in ("bos", "eos", "pad"):
        setattr(config, f"{name}_token_id", token_id(header, name))
    if header.architecture not in GGUF_CONFIG_ARCHS:
        complete_heads(config, header)
    return config


def is_known(architecture: str) -> bool:
    """Whether transformers reads this architecture; it spells some of them with underscores."""
    names = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS}
    return architecture in names or architecture.replace("-", "_") in names


def token_id(header: GGUFHeader, name: str) -> int | None:
    key = {"pad": "padding"}.get(name, name)
    value = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
    return None if value is None else int(value)


def complete_heads(config: PretrainedConfig, header: GGUFHeader) -> None:
    """Qwen 3, for one, has heads whose width does not follow from the other sizes."""
    width = header.of_model("attention.key_length")
    if width and hasattr(config, "head_dim") and not hasattr(config, "global_head_dim"):
        config.head_dim = width


def complete_rope(config: PretrainedConfig, header: GGUFHeader, reader: GGUFReader) -> None:
    """Set how positions are scaled. Raises CheckpointUnusable for a way that is not known here."""
    if header.architecture in GGUF_CONFIG_ARCHS:
        return
    factors = [tensor.data for tensor in reader.tensors if tensor.name == ROPE_FACTORS]
    scaling = llama3_scaling(config, factors[0]) if factors else named_scaling(header)
    if scaling:
        config.rope_parameters = {**config.rope_parameters, **scaling}


def named_scaling(header: GGUFHeader) -> dict[str, Any]:
    kind = header.of_model("rope.scaling.type") or "none"
    factor = header.of_model("rope.scaling.factor")
    if kind == "none":
        return {}
    if kind == "linear" and factor:
        return {"rope_type": "linear", "factor": factor}
    original = header.of_model("rope.scaling.original_context_length")
    if kind == "yarn" and factor and original:
        length = {"original_max_position_embeddings": original}
        return {"rope_type": "yarn", "factor": factor, **length}
    raise unknown_scaling(header.path.name, kind)


def llama3_scaling(config: PretrainedConfig, factors: NDArray[np.float32]) -> dict[str, Any]:
    """Find the numbers from which the divisors were computed, and make sure of it."""
    plain = {**config.rope_parameters, "rope_type": "default"}
    scaling = {**LLAMA3_ROPE, "factor": float(factors.max())}
    found = frequencies(config, plain) / frequencies(config, {**plain, **scaling})
    if found.shape != factors.shape or not np.allclose(found, factors, rtol=1e-3):
        raise unknown_scaling(str(config.name_or_path), ROPE_FACTORS)
    return scaling


def frequencies(config: PretrainedConfig, parameters: dict[str, Any]) -> NDArray[np.float32]:
    """Of each pair of dimensions, in radians a position."""
    base, width = parameters["rope_theta"], config.head_dim
    if parameters["rope_type"] == "default":
        exponents = np.arange(0, width, 2, dtype=np.float32) / width
        return np.asarray(1.0 / base**exponents, dtype=np.float32)
    scaled = type(config)(**{**config.to_dict(), "rope_parameters": parameters})
    inverse, _ = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](scaled, device="cpu")
    return np.asarray(inverse, dtype=np.float32)


def unknown_scaling(name: str, kind: str) -> CheckpointUnusable:
    return CheckpointUnusable(
        f"{name} scales positions in a way ({kind}) that cannot be read from GGUF: serve the "
        "original checkpoint of that model, a folder or an id."
    )


def generation_config(header: GGUFHeader, tokens: list[str]) -> GenerationConfig:
    """Which tokens end a reply: those the file names, and those that are spelled so."""
    named = {token_id(header, name) for name in ("eos", "eot", "eom")} - {None}
    ends = named | {number for number, token in enumerate(tokens) if token in END_TOKENS}
    return GenerationConfig(
        bos_token_id=token_id(header, "bos"),
        eos_token_id=sorted(number for number in ends if number is not None) or None,
        pad_token_id=token_id(header, "pad"),
    )
