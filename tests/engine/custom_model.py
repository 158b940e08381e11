"""A model class of one's own: a Llama that cannot say one of its tokens."""

from typing import Any

from vllm import ModelRegistry
from vllm.model_executor.models.llama import LlamaForCausalLM

UNSAID = 3  # "!", in the demo model's vocabulary


class MildLlama(LlamaForCausalLM):
    def compute_logits(self, hidden_states: Any) -> Any:
        logits = super().compute_logits(hidden_states)
        logits[:, UNSAID] = float("-inf")
        return logits


def register() -> None:
    # As a string: the class is imported in the worker alone, which may use a GPU.
    ModelRegistry.register_model("MildLlama", f"{__name__}:MildLlama")
