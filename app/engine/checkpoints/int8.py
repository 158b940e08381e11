"""Weights in 8 bits, quantized while they are loaded: `LLM_QUANTIZATION=int8`.

vLLM 0.32 quantizes to 8-bit integers while loading only the experts of a mixture
(`int8_per_channel_weight_only` leaves all other layers as they are and says nothing). This adds
its linear layers, with the kernels that vLLM has for checkpoints of such weights: one scale per
output channel, activations quantized per token. No calibration, as with bitsandbytes of old.
"""

import ctypes
from typing import Any, Final

import torch
from vllm.config.quantization import QuantizationConfigArgs, QuantSpec
from vllm.model_executor.kernels.linear import init_int8_linear_kernel
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.online.base import (
    OnlineQuantizationConfig,
    OnlineQuantizationSource,
)
from vllm.model_executor.layers.quantization.online.fp8 import OnlineLinearBase
from vllm.model_executor.layers.quantization.utils.quant_utils import kInt8StaticChannelSym
from vllm.model_executor.utils import replace_parameter

METHOD: Final = "int8"
LARGEST: Final = 127
"""Symmetric: -128 is left out, so that a weight and its negative round alike."""


class Int8Linear(OnlineLinearBase):  # type: ignore[misc]
    """A linear layer whose weights become int8 as soon as they are complete."""

    def create_weights(self, layer: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        super().create_weights(layer, *args, **kwargs)
        self.kernel = init_int8_linear_kernel(
            is_channelwise=True,
            is_static_input_scheme=False,
            input_symmetric=True,
            module_name=type(self).__name__,
        )

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        if getattr(layer, "_already_called_process_weights_after_loading", False):
            return
        weight, scale = quantized(self.get_weight_for_quantization(layer))
        replace_parameter(layer, "weight", weight)
        replace_parameter(layer, "weight_scale", scale)
        layer.input_scale = layer.input_zero_point = layer.azp_adj = None
        self.kernel.process_weights_after_loading(layer)
        if layer.weight is None:
            # oneDNN keeps the weights itself; adapters ask the layer's for their device.
            layer.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)
        layer._already_called_process_weights_after_loading = True
        if weight.device.type == "cpu":
            return_freed_memory()

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        output: torch.Tensor = self.kernel.apply_weights(layer, x, bias)
        return output


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (outputs x inputs) as int8, and the scale of each output (outputs x 1)."""
    largest = weight.abs().amax(dim=1, keepdim=True).float()
    scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
    return (weight / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def return_freed_memory() -> None:
    """Give what the wide weights took back to the system.

    glibc keeps it: without this a model of 406 M parameters saved 54 MiB, with it all of 404.
    """
    ctypes.CDLL(None).malloc_trim(0)


class Int8Config(OnlineQuantizationConfig):  # type: ignore[misc]
    """Linear layers as above, experts as vLLM does; embeddings and the head stay as they are."""

    def __init__(self) -> None:
        super().__init__(QuantizationConfigArgs(moe=QuantSpec(weight=kInt8StaticChannelSym)))

    @classmethod
    def get_name(cls) -> str:
        return METHOD

    def resolve_quant_method_cls(self, layer_cls: type[torch.nn.Module], prefix: str) -> Any:
        if issubclass(layer_cls, LinearBase):
            spec = QuantSpec(weight=kInt8StaticChannelSym)
            return OnlineQuantizationSource.linear, METHOD, None, spec, Int8Linear
        return super().resolve_quant_method_cls(layer_cls, prefix)


def register_int8() -> None:
    """Make `quantization="int8"` known to vLLM.

    Call it before the engine's arguments are made; its workers unpickle the config and so import
    this module themselves.
    """
    register_quantization_config(METHOD)(Int8Config)
