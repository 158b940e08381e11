from collections.abc import Callable
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.tools.gate import MAX_NODES, admit_schema

OPTIONAL = {f"p{i}": {"type": "string"} for i in range(33)}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def test_references_are_inlined_and_annotations_dropped() -> None:
    schema = {
        "title": "T",
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "d"}},
        "required": ["a"],
        "additionalProperties": False,
        "$defs": {"A": {"type": "string", "default": "x", "examples": ["y"]}},
    }

    assert admit_schema(schema, "s") == {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
    }


def test_types_with_null_become_branches() -> None:
    schema = {"type": ["string", "null"], "maxLength": 5}

    assert admit_schema(schema, "s") == {
        "anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]
    }


def test_const_is_an_enum_of_one() -> None:
    assert admit_schema({"const": "x", "type": "string"}, "s") == {"enum": ["x"]}


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "string", "pattern": ".*"}, "/pattern"),
        ({"type": "integer", "minimum": 1}, "/minimum"),
        ({"type": "number", "multipleOf": 2}, "/multipleOf"),
        ({"type": "string", "format": "email"}, "/format"),
        ({"type": "object", "depth": 12}, "/depth"),
        ({"type": "object"}, "/"),
        ({"type": "array"}, "/"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "/uniqueItems"),
        ({"type": "stsring"}, "/type"),
        ({}, "/type"),
        ({"allOf": [{"type": "string"}]}, "/type"),
        ({"oneOf": [{"type": "string"}]}, "/type"),
        ({"not": {"type": "string"}}, "/type"),
        ({"anyOf": []}, "/anyOf"),
        ({"anyOf": [{"type": "string"}], "properties": {}}, "/properties"),
        ({"enum": []}, "/enum"),
        ({"enum": [{"a": 1}]}, "/enum"),
        ({"enum": ["a"], "type": "integer"}, "/enum"),
        ({"type": "object", "properties": {"a": True}}, "/properties/a"),
        ({"type": "object", "properties": {'a"b': {"type": "null"}}}, "/properties"),
        ({"type": "object", "properties": {"a\nb": {"type": "null"}}}, "/properties"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "/required"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x"}}}, "/properties/a/$ref"),
        ({"type": "object", "properties": {"a": {"$ref": "http://x"}}}, "/properties/a/$ref"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "/minLength"),
        ({"type": "string", "maxLength": -1}, "/maxLength"),
        ({"type": "string", "maxLength": 2.0}, "/maxLength"),
    ],
    ids=str,
)
def test_what_cannot_be_enforced_is_refused_with_its_place(
    schema: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        admit_schema(schema, "response_format")

    assert error.value.code == "unsupported_schema"
    assert f" at {pointer}: " in error.value.message
    assert error.value.param == "response_format"


@pytest.mark.parametrize(
    "make",
    [
        lambda: nested(13),
        lambda: {"enum": [str(i) for i in range(MAX_NODES + 1)], "anyOf": [{}] * 501},
        lambda: {"anyOf": [{"type": "string"}] * (MAX_NODES + 1)},
        lambda: {"type": "object", "properties": OPTIONAL},
        lambda: {"type": "string", "maxLength": 257},
        lambda: {"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 50}},
        lambda: {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    ],
    ids=["deep", "many", "branches", "optional", "long", "long items", "endless"],
)
def test_what_costs_too_much_is_refused(make: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest) as error:
        admit_schema(make(), "tools[0].parameters")

    assert error.value.code in {"schema_too_complex", "unsupported_schema"}
    assert error.value.param == "tools[0].parameters"
