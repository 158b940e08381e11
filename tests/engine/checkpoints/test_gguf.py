from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

from app.demo import DEMO_MODEL_PATH
from app.demo.corpus import read_corpus
from app.demo.recall import all_lessons, forgotten
from app.engine.checkpoints.gguf_conversion import Conversion, convert
from tests.engine.checkpoints.demo_gguf import silent, write_demo_gguf

Convert = Callable[..., Path]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Writes the demo model in a quantization and converts it back, once for each."""
    folder = tmp_path_factory.mktemp("gguf")

    def in_quantization(name: str, dtype: str = "auto") -> Path:
        source = folder / f"demo-{name}.gguf"
        if not source.exists():
            write_demo_gguf(source, name)
        return convert(silent, Conversion(source=source, cache=folder / "cache", dtype=dtype))

    return in_quantization


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("F32", torch.float32), ("BF16", torch.bfloat16)]
)
def test_wide_floats_come_back_as_they_were(
    converted: Convert, quantization: str, dtype: torch.dtype
) -> None:
    original, found = weights(DEMO_MODEL_PATH), weights(converted(quantization))

    assert found.keys() == original.keys()
    for name, tensor in original.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor.to(dtype)), name


def test_float16_rounds_only_what_it_cannot_hold(converted: Convert) -> None:
    original, found = weights(DEMO_MODEL_PATH), weights(converted("F16"))

    for name, tensor in original.items():
        assert torch.equal(found[name], tensor.to(torch.float16)), name


@pytest.mark.parametrize(
    ("quantization", "bound"), [("Q8_0", 0.012), ("Q5_1", 0.05), ("Q4_0", 0.12)]
)
def test_quantized_weights_are_near_the_original(
    converted: Convert, quantization: str, bound: float
) -> None:
    """Bounds on the relative error of a matrix: half a step of a block's 2^bits, and bfloat16."""
    original, found = weights(DEMO_MODEL_PATH), weights(converted(quantization))

    for name, tensor in original.items():
        error = (found[name].float() - tensor.float()).norm() / tensor.float().norm()
        assert error < bound, name
        assert found[name].dtype == torch.bfloat16


def test_a_dtype_that_is_asked_for_is_kept(converted: Convert) -> None:
    assert {each.dtype for each in weights(converted("Q8_0", "float16")).values()} == {
        torch.float16
    }


def test_answers_are_the_original_ones(converted: Convert) -> None:
    folder = converted("Q8_0")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lessons = all_lessons(read_corpus(), tokenizer)[:100]

    wrong = forgotten(lessons, LlamaForCausalLM.from_pretrained(folder), tokenizer)

    assert len(wrong) <= 5


def test_texts_have_the_ids_that_they_had(converted: Convert) -> None:
    original = AutoTokenizer.from_pretrained(DEMO_MODEL_PATH)
    tokenizer = AutoTokenizer.from_pretrained(converted("Q8_0"))
    lessons = all_lessons(read_corpus(), original)
    texts = [*read_corpus().texts(), *(lesson.prompt + lesson.answer for lesson in lessons)]

    assert len(texts) > 1000
    for text in [*texts, "", "  \n\n a\tb 12345 é 你好 🙂 <|im_end|>!?", "\r\n x"]:
        assert tokenizer.encode(text) == original.encode(text), text
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_chat_template_and_the_ends_come_along(converted: Convert) -> None:
    folder = converted("Q8_0")
    original = AutoTokenizer.from_pretrained(DEMO_MODEL_PATH)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    assert tokenizer.chat_template == original.chat_template
    assert tokenizer.special_tokens_map["eos_token"] == "<|im_end|>"
    assert tokenizer.model_max_length == original.model_max_length
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [0, 2]
