"""A model's configuration to the layers that adapters may change, as checkpoints name them."""

import logging
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from app.engine.base import EXPERTS, Layer

logger = logging.getLogger(__name__)


def layers_of(config: Any, *, reads_images: bool) -> dict[str, Layer]:
    """Build the model without memory for its weights, as transformers knows it.

    Adapters are made on transformers' models, so theirs are the names. Empty for a class that
    transformers does not have; vLLM is the only judge of adapters then.
    """
    auto = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except Exception as error:  # noqa: BLE001 - of any model's own code
        logger.warning("adapters' modules cannot be checked beforehand: %r", error)
        return {}
    layers = {name: layer_of(name, module) for name, module in model.named_modules()}
    return {name: layer for name, layer in layers.items() if layer is not None}


def layer_of(name: str, module: torch.nn.Module) -> Layer | None:
    """Its inputs and outputs, if adapters may have factors for it."""
    match module:
        case torch.nn.Linear():
            return Layer(module.in_features, module.out_features)
        case torch.nn.Embedding():
            return Layer(module.num_embeddings, module.embedding_dim)
    return Layer(0, 0) if name.endswith(EXPERTS) else None
