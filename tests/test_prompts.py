import pytest

from app.engine.base import Limits
from app.errors import InvalidRequest, PromptTooLong
from app.images.loader import ImageLoader
from app.prompts import INLINE_CHARS, Renderer, chat_prompt, check_length, text_prompt
from app.settings import Settings
from schemas.messages import AssistantMessage, CalledFunction, EarlierToolCall, UserMessage
from tests.fake_engine import FakeEngine


def renderer(engine: FakeEngine) -> Renderer:
    return Renderer(engine, ImageLoader(Settings()))


async def test_a_rendered_prompt_tells_how_it_ends() -> None:
    engine = FakeEngine()
    prompt = chat_prompt(engine, [UserMessage(content="x" * 100 + "<think>")])

    assert (await renderer(engine).rendered(prompt)).ending == "x" * 57 + "<think>"


@pytest.mark.parametrize("length", [INLINE_CHARS, INLINE_CHARS + 1], ids=["here", "in a thread"])
async def test_text_is_encoded_alike_wherever_the_work_is_done(length: int) -> None:
    engine = FakeEngine(Limits(10**6, 256, 1))

    rendered = await renderer(engine).rendered(text_prompt(engine, "a" * length))

    assert rendered.token_ids == [97] * length


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

    function = CalledFunction(name="f", arguments="1" * 41)
    earlier = EarlierToolCall(id="1", function=function)

    with pytest.raises(PromptTooLong):
        chat_prompt(engine, [AssistantMessage(tool_calls=[earlier])])
