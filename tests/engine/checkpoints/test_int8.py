import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from app.engine.checkpoints.int8 import (
        LARGEST,
        METHOD,
        Int8Config,
        Int8Linear,
        quantized,
        register_int8,
    )


def test_weights_are_off_by_half_a_step_of_their_output_at_most() -> None:
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)) * torch.logspace(
        -3, 3, 64
    ).unsqueeze(1)

    found, scale = quantized(weight)

    assert found.dtype == torch.int8
    assert scale.shape == (64, 1)
    assert torch.all((found * scale - weight).abs() <= 0.501 * scale)
    assert torch.equal(found.abs().amax(dim=1), torch.full((64,), LARGEST, dtype=torch.int8))


def test_outputs_without_weights_stay_zero() -> None:
    found, scale = quantized(torch.zeros(2, 4, dtype=torch.bfloat16))

    assert not found.any()
    assert torch.isfinite(scale).all()


def test_vllm_quantizes_linear_layers_when_it_is_told_int8() -> None:
    from vllm.model_executor.layers.linear import RowParallelLinear
    from vllm.model_executor.layers.quantization import get_quantization_config

    register_int8()

    assert get_quantization_config(METHOD) is Int8Config
    found = Int8Config().resolve_quant_method_cls(RowParallelLinear, "model.layers.0.mlp.down_proj")
    assert found[-1] is Int8Linear
