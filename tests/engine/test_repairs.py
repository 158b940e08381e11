import pytest
import torch

pytestmark = pytest.mark.engine


def test_rows_of_the_base_model_are_not_changed_by_the_last_slots_adapter() -> None:
    from vllm.lora.ops.torch_ops import lora_ops

    from app.engine.repairs.base_rows import without_base_rows

    inputs, weights = torch.ones(4, 3), torch.arange(1.0, 13.0).reshape(2, 2, 3)
    slots = torch.tensor([0, -1, 1, -1])
    output = torch.zeros(4, 2)

    without_base_rows(lora_ops.bgmv_shrink)(inputs, weights, output, slots, 2.0)

    assert output.tolist() == [[12.0, 30.0], [0.0, 0.0], [48.0, 66.0], [0.0, 0.0]]
    expanded = torch.ones(4, 5)
    narrow = torch.ones(4, 3)
    without_base_rows(lora_ops.bgmv_expand_slice)(narrow, weights, expanded, slots, 1, 2, True)
    assert expanded[[1, 3]].tolist() == [[1.0] * 5] * 2
    assert expanded[0].tolist() == [1.0, 7.0, 16.0, 1.0, 1.0]
