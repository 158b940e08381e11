from typing import Any

import pytest

from app.errors import InvalidRequest
from app.tools.gate.admitted import admit
from app.tools.gate.cost import Refusal
from app.tools.gate.normalise import Document, canonical


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("dict", "object"), ("HashMap", "object"), ("map", "object"), ("Object", "object")),
        *(("float", "number"), ("double", "number"), ("Decimal", "number"), ("NUMBER", "number")),
        *(("int", "integer"), ("long", "integer"), ("str", "string"), ("String", "string")),
        *(("char", "string"), ("text", "string"), ("list", "array"), ("tuple", "array")),
        *(("Array", "array"), ("ArrayList", "array"), ("set", "array"), ("bool", "boolean")),
    ],
)
def test_loose_names_of_types_are_read_and_reported(name: str, meant: str) -> None:
    document = Document({"type": name})

    assert document.root == {"type": meant}
    assert document.aliases == {f"{name}={meant}"}


@pytest.mark.parametrize(("name", "alias"), [("any", {"any=*"}), ("", {"empty=*"})])
def test_any_type_is_no_type(name: str, alias: set[str]) -> None:
    document = Document({"type": name, "description": "d"})

    assert document.root == {"description": "d"}
    assert document.aliases == alias


def test_the_names_in_a_list_of_types_are_read_too() -> None:
    assert Document({"type": ["str", "null"]}).root == {"type": ["string", "null"]}
    assert Document({"type": ["any", "null"]}).root == {}


def test_only_schemas_are_read_and_not_what_looks_like_one() -> None:
    schema = {"properties": {"type": {"type": "int"}}, "default": {"type": "int"}}

    assert Document(schema).root == {
        "properties": {"type": {"type": "integer"}},
        "default": {"type": "int"},
    }


def test_the_clients_schema_is_not_changed() -> None:
    schema = {"type": "dict", "properties": {"a": {"type": "float", "nullable": True}}}
    before = canonical(schema)

    admit(schema, "s")

    assert canonical(schema) == before


@pytest.mark.parametrize(
    ("schema", "normal"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a", None]}),
        ({"const": 1, "nullable": True}, {"anyOf": [{"const": 1}, {"type": "null"}]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"dependencies": {"a": ["b"]}}, {"dependentRequired": {"a": ["b"]}}),
        ({"dependencies": {"a": False}}, {"dependentSchemas": {"a": False}}),
    ],
)
def test_older_keywords_become_todays(schema: dict[str, Any], normal: dict[str, Any]) -> None:
    assert Document(schema).root == normal


REFERENCES = {
    "#/$defs/a": "/$defs/a",
    "#/$defs/b~1c~0d": "/$defs/b~1c~0d",
    "#/$defs/e%25f": "/$defs/e%f",
    "#/properties/p/items": "/properties/p/items",
    "#here": "/$defs/a",
    "#": "",
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_references_inside_the_schema_are_followed(reference: str) -> None:
    document = Document(
        {
            "properties": {"p": {"items": {"type": "null"}}},
            "$defs": {"a": {"$anchor": "here"}, "b/c~d": {"type": "null"}, "e%f": True},
        }
    )

    assert document.resolve(reference, "/x").pointer == REFERENCES[reference]


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "/$ref"),
        ({"items": {"$ref": "other.json#/a"}}, "/items/$ref"),
        ({"$ref": "#/$defs/none"}, "/$ref"),
        ({"$ref": "#/default", "default": {"type": "string"}}, "/$ref"),
        ({"$dynamicRef": "#a"}, "/$dynamicRef"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$id": "http://x/y"}}}, "/$defs/a/$id"),
        ({"allOf": [{"$anchor": "a"}, {"$anchor": "a"}]}, "/allOf/1/$anchor"),
        ({"properties": []}, "/properties"),
        ({"properties": {"a~b/c": {"minLength": "3"}}}, "/properties/a~0b~1c/minLength"),
        ({"required": "x"}, "/required"),
        ({"type": "stsring"}, "/type"),
        ({"type": 3}, "/type"),
        ({"items": [{"type": "string"}]}, "/items"),
        ({"anyOf": []}, "/anyOf"),
        ({"minimum": 3, "exclusiveMinimum": True}, "/exclusiveMinimum"),
        ({"maxLength": -1}, "/maxLength"),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"nullable": "yes"}, "/nullable"),
        ({"properties": {"a": 3}}, "/properties/a"),
        ({"$defs": {"a": {"type": "wrong"}}}, "/$defs/a/type"),
    ],
)
def test_what_is_malformed_is_refused_at_its_place(schema: Any, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        admit(schema, "tools[0].parameters")

    assert refusal.value.code == "unsupported_schema"
    assert refusal.value.param == "tools[0].parameters"
    assert f" at {pointer}: " in refusal.value.message


@pytest.mark.parametrize("schema", [None, 3, "string", ["type"], {"a": float("nan")}, {"a": {1}}])
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(Refusal):
        canonical(schema)


def test_size_and_nesting_are_limited() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"items": nested}

    for schema in (nested, {"description": "d" * 70_000}):
        with pytest.raises(InvalidRequest) as refusal:
            admit(schema, "s")
        assert refusal.value.code == "schema_too_complex"


@pytest.mark.parametrize("name", ["$defs", "definitions"])
def test_references_reach_the_definitions_of_a_nullable_schema(name: str) -> None:
    choice = {"anyOf": [{"$ref": f"#/{name}/a"}], "nullable": True, name: {"a": {"const": 1}}}
    single = {"$ref": f"#/{name}/a", "nullable": True, name: {"a": {"const": 1}}}

    for schema in (choice, single):
        admitted = admit(schema, "s")
        assert admitted.verify("1") == 1
        assert admitted.verify("null") is None
