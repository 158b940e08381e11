import warnings
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from app.engine.template import plain_template
    from app.engine.tokenizer import EngineTokenizer

from app.demo import DEMO_MODEL_PATH
from app.errors import InvalidRequest


class Wrapper:
    """As much of transformers' tokenizer as ours reads."""

    def __init__(self, pattern: str) -> None:
        self.backend_tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
        self.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")


def test_text_on_which_the_tokenizer_panics_is_refused() -> None:
    tokenizer = EngineTokenizer(Wrapper("(a|aa)+b"), None)

    assert tokenizer.encode("a", add_special_tokens=False) == [0]
    with pytest.raises(InvalidRequest, match="cannot be split"):
        tokenizer.encode("a" * 60, add_special_tokens=False)
    assert tokenizer.encode("a", add_special_tokens=False) == [0]


def test_what_is_no_panic_is_not_taken_for_one() -> None:
    tokenizer = EngineTokenizer(Wrapper("a"), None)

    with pytest.raises(TypeError):
        tokenizer.encode(None, add_special_tokens=False)  # type: ignore[arg-type]


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "<b>Be brief.</b>"}, {"role": "user", "content": "你好"}],
    [
        {"role": "user", "content": [{"type": "text", "text": "Add."}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "content": "3"},
    ],
]


@pytest.fixture(scope="module")
def pooled() -> Any:
    """The demo model's, as vLLM hands it out."""
    from vllm.tokenizers import cached_get_tokenizer
    from vllm.tokenizers.hf import maybe_make_thread_pool

    tokenizer = cached_get_tokenizer(str(DEMO_MODEL_PATH))
    maybe_make_thread_pool(tokenizer)
    return tokenizer


@pytest.mark.filterwarnings("ignore")  # of vLLM's imports
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize(
    "arguments",
    [
        {"add_generation_prompt": True},
        {"add_generation_prompt": False},
        {"add_generation_prompt": False, "continue_final_message": True},
        {"add_generation_prompt": True, "bos_token": "!", "enable_thinking": True},
        {},
    ],
)
def test_a_chat_is_rendered_as_transformers_render_it(
    pooled: Any, chat: list[dict[str, Any]], tools: list[Any] | None, arguments: dict[str, Any]
) -> None:
    source = (
        "{{ bos_token }}{{ messages | tojson }}{{ tools }}{{ add_generation_prompt }}{# content #}"
    )
    for template in (pooled.chat_template, source):
        expected = pooled.apply_chat_template(
            chat, tools=tools, chat_template=template, tokenize=False, **arguments
        )

        tokenizer = EngineTokenizer(pooled, template)

        assert plain_template(pooled, template) is not None
        assert tokenizer.render(chat, tools, **arguments) == expected


@pytest.mark.filterwarnings("ignore")  # of vLLM's imports
def test_a_template_that_cannot_be_read_is_told_to_who_wants_it(pooled: Any) -> None:
    tokenizer = EngineTokenizer(pooled, "{% if %}")

    with pytest.raises(InvalidRequest, match="template refuses"):
        tokenizer.render(CHATS[0], None, add_generation_prompt=True)


@pytest.mark.filterwarnings("ignore")  # of vLLM's imports
def test_a_tokenizer_with_a_way_of_its_own_keeps_it(pooled: Any) -> None:
    kind = type(
        "Own", (type(pooled).__mro__[1],), {"apply_chat_template": lambda *_, **__: "its own"}
    )
    own = object.__new__(kind)
    own.__dict__ = pooled.__dict__

    assert EngineTokenizer(own, "x").render(CHATS[0], None) == "its own"
