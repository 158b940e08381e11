"""A LoRA adapter made on the spot: random weights for every attention query and value."""

from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file

from app.demo import DEMO_MODEL_PATH

RANK = 8


def make_adapter(folder: Path) -> Path:
    """Write an adapter for the demo model; strong enough to change what it says."""
    config = msgspec.json.decode((DEMO_MODEL_PATH / "config.json").read_bytes())
    hidden, generator = config["hidden_size"], torch.Generator().manual_seed(0)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, width in widths(config).items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(RANK, hidden, generator=generator)
            weights[f"{prefix}.lora_B.weight"] = torch.randn(width, RANK, generator=generator)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(adapter_config()))
    return folder


def widths(config: dict[str, int]) -> dict[str, int]:
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {
        "q_proj": config["num_attention_heads"] * head,
        "v_proj": config["num_key_value_heads"] * head,
    }


def adapter_config() -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "slipstream-demo",
        "r": RANK,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
