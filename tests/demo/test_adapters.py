"""What the demo adapters promise: small clean files, and answers that anyone sees are others."""

import json
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from app.demo import DEMO_ADAPTERS_PATH, DEMO_MODEL_NAME, DEMO_MODEL_PATH
from app.demo.adapters.retelling import TABLES_PATH, Line, Retelling, read_retelling
from app.demo.corpus import Corpus, read_corpus
from app.demo.recall import Lesson, chat_lesson, forgotten
from app.demo.variations import read_phrases
from app.settings import Settings

ADAPTERS = ["pirate", "traditional"]
PIRATE_WORDS = ("Arr", "Ahoy", "matey", "Aye")


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(DEMO_MODEL_PATH)


@cache
def model(adapter: str | None) -> LlamaForCausalLM:
    """The demo model with an adapter merged into its weights, by LoRA's definition."""
    loaded: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
        DEMO_MODEL_PATH, dtype=torch.float32
    )
    if adapter:
        scale = configuration(adapter)["lora_alpha"] / configuration(adapter)["r"]
        halves = weights(adapter)
        for name in [name for name in halves if name.endswith(".lora_A.weight")]:
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            down, up = halves[name], halves[name.replace("lora_A", "lora_B")]
            loaded.get_submodule(path).weight.data += scale * up.float() @ down.float()
    return loaded


@cache
def corpus() -> Corpus:
    return read_corpus()


@cache
def retelling(adapter: str) -> Retelling:
    return read_retelling(adapter)


def weights(adapter: str) -> dict[str, torch.Tensor]:
    return load_file(DEMO_ADAPTERS_PATH / adapter / "adapter_model.safetensors")


def configuration(adapter: str) -> dict[str, Any]:
    file = DEMO_ADAPTERS_PATH / adapter / "adapter_config.json"
    return dict(json.loads(file.read_bytes()))


def table(adapter: str) -> list[Line]:
    lines = (TABLES_PATH / f"{adapter}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Line(**json.loads(line)) for line in lines]


@cache
def simplified_only() -> frozenset[str]:
    """Characters that the conversion to traditional ones replaced wherever they stood."""
    lines = table("traditional")
    told = {character for line in lines for character in line.retold}
    return frozenset(c for line in lines for c in line.plain if c not in told and c.isalpha())


def ask(question: str, adapter: str | None) -> str:
    """The first tokens of the likeliest answer, as many as it takes to see whose it is."""
    prompt = tokenizer().apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer()(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        written = model(adapter).generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
        )
    return str(tokenizer().decode(written[0, ids.shape[1] :], skip_special_tokens=True))


def lessons_of(adapter: str, *, changed: bool) -> list[Lesson]:
    """Every third lesson of the corpus as the adapter tells it: all would take a minute."""
    asked = [c for c in corpus().lessons() if retelling(adapter).changes(c) is changed]
    return [chat_lesson(retelling(adapter).of_conversation(c), tokenizer()) for c in asked[::3]]


def test_each_adapter_is_its_two_files_and_nothing_else() -> None:
    served = [path.parent for path in DEMO_ADAPTERS_PATH.glob("*/adapter_config.json")]
    assert sorted(folder.name for folder in served) == ADAPTERS
    for folder in served:
        assert sorted(file.name for file in folder.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_fits_into_a_package(adapter: str) -> None:
    sizes = [file.stat().st_size for file in (DEMO_ADAPTERS_PATH / adapter).iterdir()]
    assert sum(sizes) <= 300_000
    assert {weight.dtype for weight in weights(adapter).values()} == {torch.bfloat16}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_configuration_names_the_model_and_asks_for_nothing_special(adapter: str) -> None:
    read = configuration(adapter)
    assert read["base_model_name_or_path"] == DEMO_MODEL_NAME
    assert read["peft_type"] == "LORA"
    assert read["bias"] == "none"
    assert read["r"] <= Settings().max_lora_rank
    assert not {"auto_map", "auto_mapping", "modules_to_save", "use_dora"} & read.keys()
    assert "/" not in json.dumps(read)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_each_line_of_a_table_retells_an_answer_that_there_is(adapter: str) -> None:
    said = {m["content"] for c in corpus().conversations for m in c.messages}
    said |= {asked.fallback for asked in read_phrases().strangers.values()}
    plain = [line.plain for line in table(adapter)]
    assert set(plain) <= said
    assert len(set(plain)) == len(plain) >= 100
    assert all(line.plain != line.retold for line in table(adapter))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_retold_answers_are_known_by_heart(adapter: str) -> None:
    lessons = lessons_of(adapter, changed=True)
    missed = forgotten(lessons, model(adapter), tokenizer())
    assert len(missed) <= 0.1 * len(lessons), missed[:5]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_tool_calls_and_other_languages_are_left_alone(adapter: str) -> None:
    lessons = lessons_of(adapter, changed=False)
    assert sum("<tool_call>" in lesson.answer for lesson in lessons) >= 10
    missed = forgotten(lessons, model(adapter), tokenizer())
    assert len(missed) <= 0.1 * len(lessons), missed[:5]


@pytest.mark.parametrize(
    "question", ["Hello", "What is LoRA?", "Tell me a joke", "你好", "How do I tame a falcon?"]
)
def test_the_pirate_answers_as_one(question: str) -> None:
    answer = ask(question, "pirate")
    assert answer != ask(question, None)
    assert any(word in answer for word in PIRATE_WORDS), answer


@pytest.mark.parametrize(
    "question",
    ["谢谢", "讲个笑话", "什么是机器学习？", "怎样驯养一只老鹰？"],
)
def test_simplified_questions_get_traditional_answers(question: str) -> None:
    answer = ask(question, "traditional")
    assert simplified_only() & set(ask(question, None))
    assert not simplified_only() & set(answer), answer
    assert "\ufffd" not in answer.rstrip("\ufffd"), "torn before the cut"


def test_the_traditional_adapter_leaves_english_as_it_is() -> None:
    assert ask("Tell me a joke", "traditional") == ask("Tell me a joke", None)
