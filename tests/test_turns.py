from app.turns import function, turn, turns_of
from schemas.messages import (
    AssistantMessage,
    CalledFunction,
    EarlierToolCall,
    FunctionMessage,
    ImagePart,
    ImageURL,
    TextPart,
    ToolMessage,
    UserMessage,
)
from schemas.tools import FunctionDefinition


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


def test_what_openais_client_adds_to_a_call_is_not_for_the_template() -> None:
    function = CalledFunction(name="f", arguments="{}", parsed_arguments={"a": 1})
    earlier = EarlierToolCall(id="1", function=function, index=0)

    assert turn(AssistantMessage(tool_calls=[earlier], parsed={"a": 1}))["tool_calls"] == [
        {"type": "function", "id": "1", "function": {"name": "f", "arguments": {}}}
    ]


def test_answers_of_tools_get_the_tools_name() -> None:
    answer = ToolMessage(content="5", tool_call_id="1")

    *_, told, unknown = turns_of([AssistantMessage(tool_calls=[call("{}")]), answer, answer])
    assert told == {"role": "tool", "tool_call_id": "1", "content": "5", "name": "f"}
    assert unknown == told
    (alone,) = turns_of([answer])
    assert "name" not in alone


def test_older_calls_become_newer_ones() -> None:
    called = AssistantMessage(function_call=CalledFunction(name="f", arguments='{"a": 1}'))

    first, answer = turns_of([called, FunctionMessage(name="f", content="5")])

    function = {"name": "f", "arguments": {"a": 1}}
    assert first == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "id": "call00000", "function": function}],
    }
    assert answer == {"role": "tool", "tool_call_id": "call00000", "name": "f", "content": "5"}


def test_tools_have_the_fields_that_templates_take_as_given() -> None:
    assert function(FunctionDefinition(name="f", strict=True)) == {
        "type": "function",
        "function": {
            "name": "f",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
        },
    }


def test_absent_fields_are_absent_for_the_template() -> None:
    assert turn(UserMessage(content="a")) == {"role": "user", "content": "a"}


def test_deep_arguments_stay_text() -> None:
    deep = "[" * 100_000

    assert turn(AssistantMessage(tool_calls=[call(deep)]))["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": deep,
    }


def test_texts_are_lines_and_pictures_marks_between_them() -> None:
    picture = ImagePart(image_url=ImageURL(url="data:"))
    parts = [TextPart(text="a"), TextPart(text="b"), picture, TextPart(text="c"), picture]

    assert turn(UserMessage(content=parts))["content"] == "a\nb\ufdd0c\ufdd0"
