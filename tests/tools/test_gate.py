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
        ({"type": "object", "properties": {}, "required": [["a"]]}, "/required"),
        (
            {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a", "a"]},
            "/required",
        ),
        (
            {"type": "object", "properties": {}, "additionalProperties": "yes"},
            "/additionalProperties",
        ),
        ({"type": "string", "format": []}, "/format"),
        ({"$ref": "#/$defs/a", "maxLength": 3, "$defs": {"a": {"type": "string"}}}, "/maxLength"),
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


def chain(optional: int, levels: int) -> dict[str, Any]:
    """Optional properties at each level, one of which holds the next."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        leaves = {f"p{i}": {"type": "string"} for i in range(optional - 1)}
        schema = {"type": "object", "properties": {**leaves, "next": schema}}
    return schema


def array(items: dict[str, Any], **limits: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **limits}


STRING: dict[str, Any] = {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        nested(13),
        {"enum": [str(i) for i in range(MAX_NODES + 1)]},
        {"enum": ["x" * 20_000]},
        {"anyOf": [STRING] * (MAX_NODES + 1)},
        {"type": ["string"] * (MAX_NODES + 1)},
        {"type": "object", "properties": OPTIONAL},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 257}}},
        {"type": "string", "maxLength": 12},
        array({"type": "string", "maxLength": 50}, maxItems=20),
        array({"type": "string", "maxLength": 200}, minItems=1000),
        array(array({"type": "boolean"}, maxItems=1000), maxItems=1000),
        array({"type": "string", "format": "date-time"}, maxItems=1000),
        chain(4, 11),
        chain(5, 11),
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_what_costs_too_much_is_refused_before_a_pattern_is_built(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        admit_schema(schema, "tools[0].parameters", at_start=True)

    assert error.value.code == "schema_too_complex"
    assert error.value.param == "tools[0].parameters"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {f"p{i}": STRING for i in range(20)}},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 200}}},
        array({"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["a"]}),
        array(STRING, maxItems=100),
        {"enum": [f"choice {i}" for i in range(300)]},
        chain(3, 3),
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_what_people_write_is_within_the_budget(schema: dict[str, Any]) -> None:
    assert admit_schema(schema, "s", at_start=True)
