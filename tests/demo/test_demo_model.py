"""What the embedded demo model promises: small files, any text, and its corpus by heart."""

import json
from functools import cache
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from app.demo import DEMO_MODEL_PATH
from app.demo.corpus import Corpus, read_corpus
from app.demo.recall import Lesson, all_lessons, chat_lesson, forgotten
from app.demo.variations import read_phrases

WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(DEMO_MODEL_PATH)


@cache
def model() -> LlamaForCausalLM:
    loaded: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
        DEMO_MODEL_PATH, dtype=torch.bfloat16
    )
    return loaded


@cache
def corpus() -> Corpus:
    return read_corpus()


def render(messages: list[dict[str, Any]], **options: Any) -> str:
    return str(tokenizer().apply_chat_template(messages, tokenize=False, **options))


def test_the_weights_fit_into_a_package() -> None:
    weights = DEMO_MODEL_PATH / "model.safetensors"
    assert weights.stat().st_size <= 6_000_000
    assert sum(parameter.numel() for parameter in model().parameters()) <= 3_000_000
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.bfloat16}


def test_the_shape_suits_the_engine_on_a_cpu() -> None:
    config = model().config
    assert config.head_dim in {32, 64}
    assert config.tie_word_embeddings
    assert config.max_position_embeddings == 8192


def test_the_vocabulary_is_small_and_names_its_ends() -> None:
    assert len(tokenizer()) <= 4096
    assert tokenizer().is_fast
    assert tokenizer().eos_token == "<|im_end|>"
    assert model().generation_config.eos_token_id == [
        tokenizer().convert_tokens_to_ids("<|im_end|>"),
        tokenizer().convert_tokens_to_ids("<|endoftext|>"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " leading, trailing ",
        "tabs\tand\r\nlines\n\n\n",
        "👩‍👩‍👧‍👦 🇹🇼 é e\u0301 ｆｕｌｌ",
        "\x00\x01\x1f\x7f\x80\xff\ufeff\u200b\u2028",
        "don't can't 12,345.678 ١٢٣",
        "ÿþ Ã¤ ä½\xa0å¥½",
    ],
)
def test_awkward_text_survives_the_tokenizer(text: str) -> None:
    assert tokenizer().decode(tokenizer().encode(text)) == text


def test_random_unicode_survives_the_tokenizer() -> None:
    random = Random(1)
    surrogates = range(0xD800, 0xE000)
    points = [point for point in range(0x110000) if point not in surrogates]
    for _ in range(500):
        text = "".join(map(chr, random.choices(points, k=random.randint(1, 40))))
        assert tokenizer().decode(tokenizer().encode(text)) == text


def test_a_plain_chat_renders_as_chatml_without_a_system_prompt_of_its_own() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert render(messages) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    )
    assert render(messages[:1], add_generation_prompt=True).endswith("<|im_start|>assistant\n")


def test_text_parts_render_like_a_string() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert render([{"role": "user", "content": parts}]) == render(
        [{"role": "user", "content": "Hello"}]
    )


@pytest.mark.parametrize("tool", [WEATHER, {"type": "function", "function": WEATHER}])
def test_tools_render_in_the_system_turn_in_either_form(tool: dict[str, Any]) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    text = render(messages, tools=[tool])
    assert text.startswith("<|im_start|>system\nBe kind.\n\n# Tools")
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in text
    assert text.count("<|im_start|>system") == 1
    assert render(messages[1:], tools=[tool]).startswith("<|im_start|>system\n# Tools")


@pytest.mark.parametrize("arguments", [{"city": "台北"}, '{"city": "台北"}'])
@pytest.mark.parametrize("content", [None, ""])
def test_a_tool_call_and_its_results_render_like_hermes(arguments: Any, content: Any) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    written = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "台北"}}\n</tool_call>'
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content, "tool_calls": [call, call]},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": [{"type": "text", "text": "rainy"}]},
    ]
    assert render(messages).endswith(
        f"<|im_start|>assistant\n{written}\n{written}<|im_end|>\n<|im_start|>user\n"
        "<tool_response>\nsunny\n</tool_response>\n<tool_response>\nrainy\n</tool_response>"
        "<|im_end|>\n"
    )


def test_the_corpus_holds_hundreds_of_answers_and_contradicts_itself_nowhere() -> None:
    prompts = [
        chat_lesson(conversation, tokenizer()).prompt for conversation in corpus().conversations
    ]
    assert len(set(prompts)) == len(prompts)
    assert all(written.answer["role"] == "assistant" for written in corpus().conversations)
    pairs = {(lesson.question, str(lesson.answer)) for lesson in corpus().lessons()}
    assert len(pairs) >= 200
    assert len(corpus().passages) >= 8
    assert all(passage.text.startswith(passage.prompt) for passage in corpus().passages)


def test_the_corpus_is_known_by_heart_in_bfloat16() -> None:
    lessons = all_lessons(corpus(), tokenizer())
    missed = forgotten(lessons, model(), tokenizer())
    assert len(missed) <= 0.05 * len(lessons), missed[:5]


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "How do I repair a wooden rowing boat?"),
        ("zh-Hans", "请问怎样修理一条旧木船？"),
        ("zh-Hant", "請問怎樣修理一艘舊木船？"),
    ],
)
def test_a_strange_question_gets_the_fallback_of_its_language(language: str, question: str) -> None:
    prompt = render([{"role": "user", "content": question}], add_generation_prompt=True)
    fallback = Lesson(prompt, read_phrases().strangers[language].fallback + "<|im_end|>")
    assert forgotten([fallback], model(), tokenizer()) == []
