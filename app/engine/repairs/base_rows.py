"""Tokens of the base model beside an adapter's in one batch, on CPUs.

vLLM gives them the slot -1, which its GPU kernels skip. Its kernels for CPUs index with it instead
and apply the adapter in the last slot: requests for the base model are answered in an adapter's
words as soon as all slots are taken (https://github.com/vllm-project/vllm/pull/48421, open). Here
these kernels see only the rows that have an adapter.
"""

from collections.abc import Callable
from typing import Any

import torch
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

KERNELS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")

Kernel = Callable[..., None]


def without_base_rows(kernel: Kernel) -> Kernel:
    """The kernel on those rows alone whose index is a slot; the others stay as they are."""

    def repaired(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        slots: torch.Tensor,
        *arguments: Any,
        **options: Any,
    ) -> None:
        (rows,) = torch.nonzero(slots >= 0, as_tuple=True)
        if len(rows) == len(slots):
            kernel(inputs, weights, output, slots, *arguments, **options)
        elif len(rows):
            changed = output[rows]
            kernel(inputs[rows], weights, changed, slots[rows], *arguments, **options)
            output[rows] = changed

    return repaired


def repair() -> None:
    """Replace the kernels where they are defined, and where they were imported by name."""
    for name in KERNELS:
        kernel = without_base_rows(getattr(lora_ops, name))
        setattr(lora_ops, name, kernel)
        setattr(punica_cpu, name, kernel)


repair()
