import pytest

from app.engine.base import Limits
from app.errors import InvalidRequest, PromptTooLong
from app.prompts import INLINE_CHARS, chat_prompt, check_length, rendered, text_prompt, turn
from schemas.messages import AssistantMessage, CalledFunction, EarlierToolCall, UserMessage
from tests.fake_engine import FakeEngine


def call(arguments: str) -> EarlierToolCall:
    return EarlierToolCall(id="1", function=CalledFunction(name="f", arguments=arguments))


def test_earlier_call_reaches_the_template_as_an_object() -> None:
    message = AssistantMessage(tool_calls=[call('{"city": "Paris"}'), call("not json")])

    assert turn(message) == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "id": "1", "function": {"name": "f", "arguments": arguments}}
            for arguments in ({"city": "Paris"}, "not json")
        ],
    }


def test_absent_fields_are_absent_for_the_template() -> None:
    assert turn(UserMessage(content="a")) == {"role": "user", "content": "a"}


@pytest.mark.parametrize("length", [INLINE_CHARS, INLINE_CHARS + 1], ids=["here", "in a thread"])
async def test_text_is_encoded_alike_wherever_the_work_is_done(length: int) -> None:
    engine = FakeEngine(Limits(10**6, 256, 1))

    assert await rendered(text_prompt(engine, "a" * length)) == [97] * length


def test_hopeless_text_is_not_even_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(Limits(10, 256, 4))
    monkeypatch.setattr(engine.tokenizer, "encode", None)

    with pytest.raises(PromptTooLong, match=r"41 characters; .* 10 tokens holds at most 40"):
        text_prompt(engine, "a" * 41)


def test_a_prompt_must_leave_room_for_one_token() -> None:
    limits = Limits(3, 256, 1)

    assert check_length([1, 2], limits, "prompt") == [1, 2]
    with pytest.raises(PromptTooLong, match=r"3 tokens; .* holds 3"):
        check_length([1, 2, 3], limits, "prompt")
    with pytest.raises(InvalidRequest, match=r"empty"):
        check_length([], limits, "prompt")


def test_arguments_of_earlier_calls_count_too() -> None:
    engine = FakeEngine(Limits(10, 256, 4))

    with pytest.raises(PromptTooLong):
        chat_prompt(engine, [AssistantMessage(tool_calls=[call("1" * 41)])])


def test_deep_arguments_stay_text() -> None:
    deep = "[" * 100_000

    assert turn(AssistantMessage(tool_calls=[call(deep)]))["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": deep,
    }
