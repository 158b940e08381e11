"""`adapter_model.safetensors`: the shapes of its factors, and whether its numbers are finite."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from app.adapters.source import WEIGHTS_FILE
from app.errors import AdapterUnusable

MAX_HEADER_BYTES = 8 * 2**20
"""Some 60,000 tensors; the library would take 100 MB, and the GIL for seconds."""

PREFIX = "base_model.model."
FACTORS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
}
UNREAD = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
"""peft saves them beside changed embeddings; vLLM leaves them."""

EXPONENTS = {
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
    "F32": (np.dtype("<u4"), 0x7F800000),
}
"""Of each type its bits as a number, and those that are all set in what is not finite."""

CHUNK = 2**22
Shape = tuple[int, ...]


class Factors(NamedTuple):
    """Shapes of the two factors of one module's change: (rank, inputs) and (outputs, rank)."""

    a: Shape
    b: Shape


class Tensor(msgspec.Struct):
    """An entry of the header; offsets in bytes, from the header's end."""

    dtype: str
    shape: Shape
    data_offsets: tuple[int, int]


def read_changes(path: Path) -> dict[str, Factors]:
    """The modules that the weights change, under their names in checkpoints.

    Raises AdapterUnusable.
    """
    tensors, start = read_header(path)
    changes = paired({name: tensor.shape for name, tensor in tensors.items()})
    data = np.memmap(path, mode="r", offset=start) if path.stat().st_size > start else None
    for name, tensor in tensors.items():
        if tensor.dtype not in EXPONENTS:
            raise AdapterUnusable(f"{name[:200]!r} is of type {tensor.dtype}, not a float.")
        if data is not None and not is_finite(data, tensor):
            raise AdapterUnusable(f"{name[:200]!r} holds numbers that are not finite.")
    return changes


def read_header(path: Path) -> tuple[dict[str, Tensor], int]:
    """The tensors, and where their data begins. Raises AdapterUnusable."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise AdapterUnusable(f"{WEIGHTS_FILE} has a header of more than {MAX_HEADER_BYTES}.")
        header = file.read(size)
    try:
        # The library judges offsets, overlaps and sizes; what it takes can be read plainly.
        with safe_open(str(path), framework="numpy"):
            fields = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(raw, type=Tensor) for name, raw in fields.items()}
    except (SafetensorError, msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise AdapterUnusable(f"{WEIGHTS_FILE} is not a whole safetensors file.") from error
    return tensors, 8 + size


def is_finite(data: Any, tensor: Tensor) -> bool:
    """Whether no number of a tensor is an infinity or none at all."""
    kind, exponent = EXPONENTS[tensor.dtype]
    bits = data[slice(*tensor.data_offsets)].view(kind)
    return not any(
        np.any(bits[start : start + CHUNK] & exponent == exponent)
        for start in range(0, len(bits), CHUNK)
    )


def paired(shapes: dict[str, Shape]) -> dict[str, Factors]:
    """Raises AdapterUnusable for tensors that are no factor, and for factors without the other."""
    factors: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        suffix = next((suffix for suffix in FACTORS if name.endswith(suffix)), None)
        if suffix is not None:
            module = name.removeprefix(PREFIX).removesuffix(suffix)
            factors.setdefault(module, {})[FACTORS[suffix]] = shape
        elif not name.endswith(UNREAD):
            raise AdapterUnusable(f"{name[:200]!r} is not a tensor of a LoRA adapter.")
    for module, pair in factors.items():
        if len(pair) != 2:
            raise AdapterUnusable(f"{module[:200]!r} has only one of its two factors.")
    if not factors:
        raise AdapterUnusable("The adapter holds no weights.")
    return {module: Factors(pair["A"], pair["B"]) for module, pair in factors.items()}
