"""LoRA adapters made on the spot: random weights for every attention query and value."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save_file

from app.demo import DEMO_MODEL_PATH

RANK = 8


def make_adapter(
    folder: Path,
    *,
    seed: int = 0,
    rank: int = RANK,
    hidden: int = 0,
    module: str = "",
    as_embedding: bool = False,
    spoilt_by: float | None = None,
    **config: object,
) -> Path:
    """Write an adapter for the demo model; strong enough to change what it says.

    `hidden` and `module` make it one for a model of another width or with other modules,
    `as_embedding` one that takes linear layers for embeddings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = demo_config()
    weights = random_weights(base | {"hidden_size": hidden or base["hidden_size"]}, rank, seed)
    if module:
        weights = {re.sub(r"[qv]_proj", module, name): each for name, each in weights.items()}
    if as_embedding:
        weights = {
            re.sub(r"lora_([AB]).weight", r"lora_embedding_\1", n): w for n, w in weights.items()
        }
    if spoilt_by is not None:
        next(iter(weights.values()))[0, 0] = spoilt_by
    # Whole or not at all: who watches the folder must not read half of it.
    save_file(weights, folder / ".weights")
    (folder / ".weights").replace(folder / "adapter_model.safetensors")
    fields = adapter_config(rank) | config
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(fields))
    return folder


def demo_config() -> dict[str, int]:
    config: dict[str, int] = msgspec.json.decode((DEMO_MODEL_PATH / "config.json").read_bytes())
    return config


def random_weights(config: dict[str, int], rank: int, seed: int) -> dict[str, Any]:
    hidden, generator = config["hidden_size"], np.random.default_rng(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, width in widths(config).items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            for factor, shape in {"A": (rank, hidden), "B": (width, rank)}.items():
                values = generator.standard_normal(shape, dtype=np.float32)
                weights[f"{prefix}.lora_{factor}.weight"] = values
    return weights


def widths(config: dict[str, int]) -> dict[str, int]:
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {
        "q_proj": config["num_attention_heads"] * head,
        "v_proj": config["num_key_value_heads"] * head,
    }


def adapter_config(rank: int) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "slipstream-demo",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
