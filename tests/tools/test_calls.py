import json
import re
from typing import Any

import jsonschema_rs
import pytest

from app.errors import GenerationFailed, InvalidRequest
from app.tools.calls import OfferedTools, constrain_schema
from schemas.generate import Tool
from tests.fake_engine import FakeCompletion, FakeOutput

WEATHER = Tool(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = Tool(name="get_time", parameters={"type": "object", "properties": {}})

SCHEMAS: list[tuple[dict[str, Any], list[Any], list[str]]] = [
    (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
            "required": ["a"],
        },
        [{"a": 1}, {"a": -20, "b": False}],
        ['{"b": true}', '{"a": 1.5}', '{"a": 1, "c": 2}', '{"a": 1}{"a": 1}'],
    ),
    (
        {"type": "array", "items": {"enum": ["x", 1, None, 'q"\\']}, "maxItems": 3},
        [[], ["x"], [1, None, 'q"\\']],
        ['["y"]', "[1, 1, 1, 1]", '["q"\\"]'],
    ),
    (
        {"type": "object", "properties": {"when": {"type": "string", "format": "date"}}},
        [{"when": "2026-11-21"}],
        ['{"when": "yesterday"}'],
    ),
    ({"type": ["string", "null"], "maxLength": 3}, ["abc", "你好", None], ['"abcd"', '"a', '"\n"']),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), SCHEMAS)
def test_pattern_takes_what_the_schema_takes(
    schema: dict[str, Any], valid: list[Any], invalid: list[str]
) -> None:
    pattern = re.compile(constrain_schema(schema, "s").pattern)

    for instance in valid:
        jsonschema_rs.validate(schema, instance)
        assert pattern.fullmatch(json.dumps(instance, ensure_ascii=False))
    for text in invalid:
        assert not pattern.fullmatch(text)


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [("<tool_call>", "<tool_call>\n", "\n</tool_call>"), ("plain", "", ""), (None, "", "")],
)
def test_call_is_held_to_the_templates_form(template: str | None, before: str, after: str) -> None:
    pattern = re.compile(OfferedTools([WEATHER, CLOCK]).constraint(template).pattern)

    weather = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
    assert pattern.fullmatch(before + weather + after)
    assert pattern.fullmatch(before + '{"name": "get_time", "arguments": {}}' + after)
    assert not pattern.fullmatch(
        before + '{"name": "get_time", "arguments": {"city": "a"}}' + after
    )
    assert not pattern.fullmatch(before + '{"name": "other", "arguments": {}}' + after)


def test_tools_share_one_budget() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 100}}}
    tools = [Tool(name=f"f{i}", parameters=parameters) for i in range(3)]

    assert OfferedTools(tools[:2])
    with pytest.raises(InvalidRequest, match="together") as error:
        OfferedTools(tools)
    assert error.value.code == "schema_too_complex"


def test_schema_of_a_tool_is_refused_by_its_place() -> None:
    wrong = Tool(name="f", parameters={"type": "object", "minProperties": 1, "properties": {}})

    with pytest.raises(InvalidRequest, match=r"tools\[1\].parameters: .* at /minProperties"):
        OfferedTools([WEATHER, wrong])


def output(text: str, finish_reason: str = "stop") -> FakeOutput:
    return FakeOutput([FakeCompletion(0, text, [1], None, finish_reason)], [1], True)


def test_reply_carries_the_arguments_of_the_chosen_tool() -> None:
    reply = OfferedTools([WEATHER, CLOCK]).reply(output('{"name": "get_time", "arguments": {}}'))

    assert reply.content == "{}"
    assert reply.tool_calls[0].function.name == "get_time"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_weather", "arguments": {"city": 5}}',
        '{"name": "get_weather", "arguments": {}}',
        '{"name": "get_weather", "arguments": {"city": "a}}',
        "Sunny.",
    ],
)
def test_reply_that_breaks_the_promise_is_an_error(text: str) -> None:
    with pytest.raises(GenerationFailed) as error:
        OfferedTools([WEATHER]).reply(output(text))

    assert error.value.code == "tool_call_invalid"


def test_cut_off_call_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="max_new_tokens"):
        OfferedTools([WEATHER]).reply(output('{"name": "get_weather", "argu', "length"))
