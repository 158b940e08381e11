"""Whether an adapter's files fit the served model, told from their headers alone.

The engine would find most of it too, but later, with its own memory at stake, and as a failure of
its own. https://huggingface.co/docs/peft/main/en/developer_guides/checkpoint has the format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from safetensors import SafetensorError, safe_open

from app.adapters.source import CONFIG_FILE, WEIGHTS_FILE
from app.engine.base import Layer
from app.errors import AdapterConflict, AdapterUnusable

MAX_CONFIG_BYTES = 2**20
PREFIX = "base_model.model."
FACTORS = {".lora_A.weight": "A", ".lora_B.weight": "B"}
UNSHAPED = (".lora_embedding_A", ".lora_embedding_B", ".base_layer.weight")
"""Of embeddings and fused experts; their shapes are left to the engine."""

FLOATS = frozenset({"F16", "BF16", "F32"})
Shape = tuple[int, ...]


class AdapterConfig(msgspec.Struct):
    """The fields of `adapter_config.json` that decide whether the engine can apply it."""

    r: int
    lora_alpha: float
    peft_type: str = "LORA"
    bias: str = "none"
    use_dora: bool = False
    lora_bias: bool = False
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] | None = None
    base_model_name_or_path: str | None = None

    @property
    def max_rank(self) -> int:
        return max([self.r, *(self.rank_pattern or {}).values()])


class Factors(NamedTuple):
    """Shapes of the two factors of one module's change: (rank, inputs) and (outputs, rank)."""

    a: Shape
    b: Shape


def check_adapter(folder: Path, layers: Mapping[str, Layer], max_rank: int) -> AdapterConfig:
    """Check both files; empty `layers` means that the model's are not known.

    Raises AdapterUnusable, and AdapterConflict if it was made for another base model.
    """
    config = read_config(folder / CONFIG_FILE)
    check_config(config, max_rank)
    changes = read_changes(folder / WEIGHTS_FILE)
    check_ranks(changes, config)
    if layers:
        check_layers(changes, layers, config)
    return config


def read_config(path: Path) -> AdapterConfig:
    """Raises AdapterUnusable."""
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise AdapterUnusable(f"{CONFIG_FILE} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        return msgspec.json.decode(path.read_bytes(), type=AdapterConfig)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterUnusable(f"{CONFIG_FILE} cannot be read: {error}.") from error


def check_config(config: AdapterConfig, max_rank: int) -> None:
    """Raises AdapterUnusable for kinds of adapters that vLLM cannot apply."""
    if config.peft_type != "LORA":
        raise AdapterUnusable(f"peft_type is {config.peft_type[:64]!r}; only LORA is served.")
    unsupported = {
        "use_dora": config.use_dora,
        "lora_bias": config.lora_bias,
        "bias": config.bias != "none",
        "modules_to_save": bool(config.modules_to_save),
    }
    for name, is_used in unsupported.items():
        if is_used:
            raise AdapterUnusable(f"{CONFIG_FILE}: {name} is not supported.")
    if config.r < 1 or config.max_rank > max_rank:
        raise AdapterUnusable(
            f"The adapter's rank is {config.max_rank}; expected 1 to {max_rank} "
            "(LLM_MAX_LORA_RANK)."
        )


def read_changes(path: Path) -> dict[str, Factors]:
    """The modules that the weights change, under their names in checkpoints.

    Raises AdapterUnusable.
    """
    try:
        with safe_open(str(path), framework="numpy") as tensors:
            return paired({name: shape_of(tensors, name) for name in tensors.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterUnusable(f"{WEIGHTS_FILE} is not a whole safetensors file.") from error


def shape_of(tensors: Any, name: str) -> Shape:
    tensor = tensors.get_slice(name)
    if tensor.get_dtype() not in FLOATS:
        raise AdapterUnusable(f"{name[:200]!r} is of type {tensor.get_dtype()}, not a float.")
    return tuple(tensor.get_shape())


def paired(shapes: dict[str, Shape]) -> dict[str, Factors]:
    """Raises AdapterUnusable for tensors that are no factor, and for factors without the other."""
    factors: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        suffix = next((suffix for suffix in FACTORS if name.endswith(suffix)), None)
        if suffix is not None:
            module = name.removeprefix(PREFIX).removesuffix(suffix)
            factors.setdefault(module, {})[FACTORS[suffix]] = shape
        elif not name.endswith(UNSHAPED):
            raise AdapterUnusable(f"{name[:200]!r} is not a tensor of a LoRA adapter.")
    for module, pair in factors.items():
        if len(pair) != 2:
            raise AdapterUnusable(f"{module[:200]!r} has only one of its two factors.")
    if not shapes:
        raise AdapterUnusable("The adapter holds no weights.")
    return {module: Factors(pair["A"], pair["B"]) for module, pair in factors.items()}


def check_ranks(changes: Mapping[str, Factors], config: AdapterConfig) -> None:
    """Both factors have the configured rank. Raises AdapterUnusable."""
    ranks = {config.r, *(config.rank_pattern or {}).values()}
    for module, factors in plain(changes).items():
        if len(factors.a) != 2 or len(factors.b) != 2 or factors.a[0] != factors.b[1]:
            raise AdapterUnusable(f"The factors of {module[:200]!r} do not fit each other.")
        if factors.a[0] not in ranks:
            raise AdapterUnusable(
                f"{module[:200]!r} has rank {factors.a[0]}, but {CONFIG_FILE} says {config.r}."
            )


def check_layers(
    changes: Mapping[str, Factors], layers: Mapping[str, Layer], config: AdapterConfig
) -> None:
    """What it changes is in the model and of its shape. Raises AdapterUnusable, AdapterConflict."""
    changed = plain(changes)
    unknown = [module for module in changed if module not in layers]
    if changed and len(unknown) == len(changed):
        raise AdapterUnusable("None of the modules that the adapter changes are in this model.")
    base = (config.base_model_name_or_path or "another model")[:200]
    if unknown:
        raise AdapterConflict(f"Made for {base}: this model has no {unknown[0][:200]!r}.")
    for module, factors in changed.items():
        layer = layers[module]
        if (factors.a[1], factors.b[0]) != (layer.num_inputs, layer.num_outputs):
            raise AdapterConflict(
                f"Made for {base}: {module!r} is {layer.num_inputs} x {layer.num_outputs} here, "
                f"{factors.a[1]} x {factors.b[0]} in the adapter."
            )


def plain(changes: Mapping[str, Factors]) -> dict[str, Factors]:
    """Without the experts of mixtures, which checkpoints stack in several ways."""
    return {module: pair for module, pair in changes.items() if ".experts" not in module}
