"""A model's configuration to its linear layers, under the names that checkpoints give them."""

import logging
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from app.engine.base import Layer

logger = logging.getLogger(__name__)


def linear_layers(config: Any, *, reads_images: bool) -> dict[str, Layer]:
    """Build the model without memory for its weights, as transformers knows it.

    Adapters are made on transformers' models, so theirs are the names. Empty for a class that
    transformers does not have; vLLM is the only judge of adapters then.
    """
    auto = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        logger.warning("adapters' modules cannot be checked beforehand: %s", error)
        return {}
    return {
        name: Layer(module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
