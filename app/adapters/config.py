"""`adapter_config.json`: read, and refused where vLLM could not apply what it says.

https://huggingface.co/docs/peft/main/en/developer_guides/checkpoint has the format.
"""

import math
import re
from pathlib import Path
from typing import Any

import msgspec

from app.adapters.source import CONFIG_FILE
from app.errors import AdapterUnusable

MAX_CONFIG_BYTES = 2**20
MAX_SCALING = 1024.0
"""Of alpha to rank; real adapters have 0.5 to 64. Infinities in one batch spoil what is cached."""

PATTERN_KEY = re.compile(r"\^?[\w.\\-]{1,256}\$?", re.ASCII)
"""vLLM takes the keys of patterns for regular expressions and matches them in the engine's worker:
without repetitions and choices there is nothing in them that could go on for hours."""

HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
"""Others have changed the base model's weights as well (vLLM 0.32, `PEFTHelper`)."""


class AdapterConfig(msgspec.Struct):
    """The fields that decide whether the engine can apply it."""

    r: int
    lora_alpha: float
    target_modules: list[str] | str
    peft_type: str = "LORA"
    bias: str = "none"
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    use_qalora: bool = False
    use_bdlora: Any = None
    alora_invocation_tokens: Any = None
    layer_replication: Any = None
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    base_model_name_or_path: str | None = None

    @property
    def ranks(self) -> set[int]:
        return {self.r, *(self.rank_pattern or {}).values()}

    @property
    def scaling(self) -> float:
        """The largest factor by which a change is multiplied."""
        alphas = [self.lora_alpha, *(self.alpha_pattern or {}).values()]
        least = min(self.ranks)
        return max(map(abs, alphas)) / (math.sqrt(least) if self.use_rslora else least)


def read_config(path: Path, max_rank: int) -> AdapterConfig:
    """Raises AdapterUnusable."""
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise AdapterUnusable(f"{CONFIG_FILE} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        config = msgspec.json.decode(path.read_bytes(), type=AdapterConfig)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterUnusable(f"{CONFIG_FILE} cannot be read: {error}.") from error
    check_kind(config)
    check_numbers(config, max_rank)
    return config


def check_kind(config: AdapterConfig) -> None:
    """Raises AdapterUnusable for what vLLM has no code for."""
    if config.peft_type != "LORA":
        raise AdapterUnusable(f"peft_type is {config.peft_type[:64]!r}; only LORA is served.")
    init = config.init_lora_weights
    unsupported = {
        "use_dora": config.use_dora,
        "lora_bias": config.lora_bias,
        "bias": config.bias != "none",
        "modules_to_save": config.modules_to_save,
        "use_qalora": config.use_qalora,
        "use_bdlora": config.use_bdlora,
        "alora_invocation_tokens": config.alora_invocation_tokens,
        "layer_replication": config.layer_replication,
        "init_lora_weights": isinstance(init, str) and init.lower() not in HARMLESS_INITS,
    }
    for name, is_used in unsupported.items():
        if is_used:
            raise AdapterUnusable(f"{CONFIG_FILE}: {name} is not supported.")
    for key in {**(config.rank_pattern or {}), **(config.alpha_pattern or {})}:
        if not PATTERN_KEY.fullmatch(key):
            raise AdapterUnusable(f"{CONFIG_FILE}: the pattern {key[:100]!r} is no module's name.")


def check_numbers(config: AdapterConfig, max_rank: int) -> None:
    """Raises AdapterUnusable."""
    if not all(1 <= rank <= max_rank for rank in config.ranks):
        raise AdapterUnusable(
            f"The adapter's rank is {max(config.ranks)}; expected 1 to {max_rank} "
            "(LLM_MAX_LORA_RANK)."
        )
    if not config.scaling <= MAX_SCALING:
        raise AdapterUnusable(
            f"{CONFIG_FILE}: alpha is {config.scaling:g} times the rank; at most {MAX_SCALING:g}."
        )
