import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.tools.gate import admitted as admission
from app.tools.gate.admitted import AdmittedSchema, SchemaViolation, admit, json_object
from app.tools.gate.cost import BUDGET, MAX_REQUEST_COST
from tests.bench.standin.calls import CallCounter
from tests.tools.gate.walking import walk

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
MOST_CALLS = 300_000
"""Of a schema that is made to be a burden; 104,000 were counted at most."""


def objects(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def spell(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def matches(admitted: AdmittedSchema, value: Any) -> bool:
    return re.fullmatch(admitted.pattern, spell(value)) is not None


def is_valid(admitted: AdmittedSchema, value: Any) -> bool:
    try:
        admitted.verify(spell(value))
    except SchemaViolation:
        return False
    return True


@contextmanager
def little_work() -> Iterator[None]:
    """Told in calls: how long they take, the machine and its other work decide."""
    counter = CallCounter()
    counter.start()
    try:
        yield
    finally:
        calls = counter.stop()
    assert calls.num_python + calls.num_builtin < MOST_CALLS


ENFORCED: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": ["string", "null"]}, ["a", None], [1, {}]),
    ({"type": "integer", "minimum": 3}, [3, 99], [2, -1]),
    ({"type": "integer", "maximum": 3}, [3, -99], [4]),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, [4], [3, 5]),
    ({"type": "number", "minimum": -0.5, "maximum": 1.25}, [-0.5, 0.3, 1.25], [-0.51, 1.3]),
    ({"type": "integer", "multipleOf": 100}, [0, 300, -100], [10, 150]),
    ({"type": "number", "multipleOf": 1}, [3], [3.5]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "日本語"], ["a", "abcd"]),
    ({"type": "string", "pattern": "^a.c$"}, ["abc", 'a"c'], ["ab", 'a"b"c']),
    ({"type": "string", "format": "email"}, ["a@b.c"], ['"@b.c', "a"]),
    ({"type": "string", "format": "uri"}, ["https://a.b/c"], ['https://"']),
    ({"type": "string", "format": "time"}, ["10:00:00Z"], ["10:00"]),
    ({"enum": ['a"b', "c\\", "\n", 1, None, True]}, ['a"b', "c\\", "\n", 1, None, True], ["a"]),
    ({"const": {"a.b*": [1, "("]}}, [{"a.b*": [1, "("]}], [{"axb": [1, "("]}]),
    ({"type": "integer", "enum": [1, "a", 2]}, [1, 2], ["a"]),
    (objects({'a"\\b\n\x07': INTEGER}, 'a"\\b\n\x07'), [{'a"\\b\n\x07': 1}], [{}]),
    (
        objects({"a": INTEGER}, "a", "b", additionalProperties=STRING),
        [{"a": 1, "b": "x"}],
        [{"a": 1}],
    ),
    (objects({"a": INTEGER}, depth=12), [{"a": 1}, {}], [{"a": {}}]),
    ({"allOf": [objects({"a": INTEGER}, "a"), objects({"b": STRING})]}, [{"a": 1, "b": ""}], [{}]),
    ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, [3], [2, "a"]),
    ({"anyOf": [STRING, INTEGER], "maxLength": 2}, ["ab", 3], ["abc"]),
    (
        objects({"a": INTEGER, "b": INTEGER}, anyOf=[{"required": ["a"]}, {"required": ["b"]}]),
        [{"a": 1}, {"b": 2}, {"a": 1, "b": 2}],
        [{}],
    ),
    ({"oneOf": [STRING, INTEGER]}, ["a", 1], [None]),
    (
        {"oneOf": [objects({"k": {"const": each}}, "k") for each in ("x", "y")]},
        [{"k": "x"}, {"k": "y"}],
        [{"k": "z"}],
    ),
    (
        {"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 2},
        [[1], [1, 2]],
        [[], [1] * 3],
    ),
    ({"type": "array", "prefixItems": [INTEGER, STRING], "items": False}, [[1, "a"]], [[1, 2]]),
    ({"type": "array", "prefixItems": [INTEGER, False]}, [[1], []], [[1, 2]]),
    ({"type": "array", "items": False}, [[]], [[1]]),
    (objects({"a": INTEGER, "b": False}), [{"a": 1}], [{"b": 1}]),
    (objects({"a": INTEGER, "b": INTEGER}, minProperties=1), [{"a": 1}], [{}]),
    (objects({"a": INTEGER, "b": INTEGER}, minProperties=2), [{"a": 1, "b": 2}], [{"a": 1}]),
    (objects({}, additionalProperties=False), [{}], [{"a": 1}]),
    ({"$ref": "#/$defs/a", "maxLength": 2, "$defs": {"a": STRING}}, ["ab"], ["abc"]),
    ({"type": "string", "nullable": True}, ["a", None], [1]),
    (
        {"properties": {"ab": {}}, "patternProperties": {"^a": INTEGER}, "type": "object"},
        [{"ab": 1}],
        [{"ab": "x"}],
    ),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), ENFORCED)
def test_a_keyword_is_enforced_by_the_pattern(
    schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    admitted = admit(schema, "s")

    assert set(admitted.checked) <= {"/format"}
    for value in valid:
        assert matches(admitted, value), value
        assert is_valid(admitted, value), value
    for value in invalid:
        assert not matches(admitted, value), value


CHECKED: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "integer", "multipleOf": 7}, "/multipleOf", 8),
    ({"type": "number", "multipleOf": 0.25}, "/multipleOf", 0.3),
    ({"type": "array", "items": INTEGER, "uniqueItems": True}, "/uniqueItems", [1, 1]),
    ({"type": "array", "items": INTEGER, "contains": {"const": 1}}, "/contains", [2]),
    ({"type": "string", "not": {"const": "a"}}, "/not", "a"),
    (
        objects(
            {"a": INTEGER, "b": INTEGER}, **{"if": {"required": ["a"]}, "then": {"required": ["b"]}}
        ),
        "/if",
        {"a": 1},
    ),
    (
        objects({"a": INTEGER, "b": INTEGER}, dependentRequired={"a": ["b"]}),
        "/dependentRequired",
        {"a": 1},
    ),
    (
        objects({"a": INTEGER, "b": INTEGER}, dependencies={"a": ["b"]}),
        "/dependentRequired",
        {"a": 1},
    ),
    (
        objects({"a": INTEGER, "b": INTEGER}, dependentSchemas={"a": {"required": ["b"]}}),
        "/dependentSchemas",
        {"a": 1},
    ),
    (objects(dict.fromkeys("abc", INTEGER), minProperties=2), "/minProperties", {"a": 1}),
    (objects(dict.fromkeys("abc", INTEGER), maxProperties=1), "/maxProperties", {"a": 1, "b": 1}),
    (
        {"allOf": [{"properties": {"a": INTEGER}}, {"unevaluatedProperties": False}]},
        "/allOf/1/unevaluatedProperties",
        {"a": 1},
    ),
    ({"oneOf": [{"type": "number"}, INTEGER]}, "/oneOf", 1),
    ({"type": "array", "items": INTEGER, "maxItems": 100}, "/maxItems", [1] * 101),
    ({"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "/allOf/1/pattern", "a"),
    ({"type": "object", "additionalProperties": INTEGER}, "", None),
    ({}, "", None),
]


@pytest.mark.parametrize(("schema", "pointer", "invalid"), CHECKED)
def test_a_keyword_that_no_pattern_has_is_checked_after(
    schema: dict[str, Any], pointer: str, invalid: Any
) -> None:
    admitted = admit(schema, "s")

    assert pointer in admitted.checked
    if invalid is not None:
        assert matches(admitted, invalid)
        assert not is_valid(admitted, invalid)


REFUSED: list[tuple[Any, str]] = [
    (False, "/"),
    ({"enum": []}, "/enum"),
    (objects({"a": {"enum": []}}), "/properties/a/enum"),
    ({"type": "integer", "enum": ["a"]}, "/enum"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "/minLength"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "/minItems"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "/minimum"),
    ({"type": "number", "exclusiveMinimum": 3, "maximum": 3}, "/exclusiveMinimum"),
    ({"type": "object", "minProperties": 2, "maxProperties": 1}, "/minProperties"),
    (objects({"a": False}, "a"), "/properties/a"),
    (objects({}, "a", additionalProperties=False), "/additionalProperties"),
    (objects({"a": {"$ref": "#"}}, "a"), "/"),
    ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "/"),
    ({"type": "string", "pattern": "(?=a)"}, "/pattern"),
    ({"type": "object", "patternProperties": {r"\p{L}": {}}}, r"/patternProperties/\p{L}"),
]


@pytest.mark.parametrize(("schema", "pointer"), REFUSED)
def test_what_cannot_be_satisfied_or_enforced_is_refused_at_its_place(
    schema: Any, pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        admit(schema, "tools[1].parameters")

    assert refusal.value.code == "unsupported_schema"
    assert refusal.value.param == "tools[1].parameters"
    assert refusal.value.message.startswith("tools[1].parameters: ")
    assert f" at {pointer}" in refusal.value.message


def fan_out(levels: int, width: int) -> dict[str, Any]:
    schemas: dict[str, Any] = {
        f"l{level}": objects({f"p{i}": {"$ref": f"#/$defs/l{level + 1}"} for i in range(width)})
        for level in range(levels)
    }
    return {"$ref": "#/$defs/l0", "$defs": {**schemas, f"l{levels}": STRING}}


def tree(depth: int, width: int) -> dict[str, Any]:
    if depth == 0:
        return STRING
    return objects({f"p{i}": tree(depth - 1, width) for i in range(width)})


def arrays(depth: int) -> dict[str, Any]:
    return {"type": "array", "items": arrays(depth - 1)} if depth else STRING


def choices(depth: int) -> dict[str, Any]:
    if depth == 0:
        return STRING
    return {
        "oneOf": [
            {"type": "array", "items": choices(depth - 1)},
            objects({"a": choices(depth - 1)}),
        ]
    }


BOMBS: dict[str, Any] = {
    "references that fan out": fan_out(12, 10),
    "references that fan out little": fan_out(20, 2),
    "four levels of references": fan_out(4, 10),
    "a tree of optional properties": tree(4, 7),
    "a smaller tree": tree(3, 10),
    "a long enum": {"enum": [f"value {i}" for i in range(3000)]},
    "a deep const": {"const": [[[[[[1]]]]]] * 3000},
    "a long string": objects({"a": {"type": "string", "maxLength": 2000}}),
    "an endless string": {"type": "string", "maxLength": 1e300},
    "long strings in an array": {
        "type": "array",
        "maxItems": 20,
        "items": {"type": "string", "maxLength": 500},
    },
    "many items": {"type": "array", "items": {"type": "string", "minLength": 9}, "minItems": 10**9},
    "nested arrays": arrays(14),
    "nested choices": choices(9),
    "choices that multiply": {
        "allOf": [{"anyOf": [{"minLength": i}, {"maxLength": 100 + i}]} for i in range(40)]
    },
    "many properties": objects({f"p{i}": {"type": "null"} for i in range(1500)}),
    "alternative patterns whose states multiply": {
        "anyOf": [{"type": "string", "pattern": f"^(a{{{i}}})*$"} for i in (7, 11, 13, 17)]
    },
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_a_pattern_is_built(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(admission, "to_regex", built.append)

    with pytest.raises(InvalidRequest) as refusal:
        admit(BOMBS[name], "s")

    assert refusal.value.code == "schema_too_complex"
    assert built == []


def test_what_was_a_bomb_for_others_is_small_here() -> None:
    deep_choice: dict[str, Any] = STRING
    for _ in range(20):
        deep_choice = {"oneOf": [deep_choice, INTEGER]}

    for schema in (
        {"type": "object", "depth": 12},
        deep_choice,
        {"type": "string", "maxLength": 24},
    ):
        assert len(admit(schema, "s").pattern) < 4096


def test_undocumented_keywords_of_outlines_have_no_effect() -> None:
    plain = admit({"type": "number"}, "s").pattern

    assert (
        admit({"type": "number", "minDigitsInteger": 99, "maxDigitsExponent": 99}, "s").pattern
        == plain
    )


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": objects(
            {
                "value": INTEGER,
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "value",
            "children",
            "next",
        )
    },
}


def test_recursion_ends_where_it_may() -> None:
    admitted = admit(TREE, "s")
    leaf = {"value": 1, "children": [], "next": None}

    assert admitted.checked == ()
    assert matches(admitted, leaf)
    assert matches(admitted, {"value": 1, "children": [leaf, leaf], "next": leaf})


def test_a_schema_of_any_json_value_is_admitted() -> None:
    values: list[dict[str, Any]] = [
        STRING,
        {"type": "number"},
        {"type": "null"},
        {"type": "boolean"},
    ]
    values += [{"type": "array", "items": {"$ref": "#"}}]
    values += [{"type": "object", "additionalProperties": {"$ref": "#"}}]

    assert matches(admit({"anyOf": values}, "s"), {"a": [1, {"b": None}]})


def test_loose_names_are_reported() -> None:
    schema = {"type": "dict", "properties": {"a": {"type": "float"}, "b": {"type": "float"}}}

    assert admit(schema, "s").aliases == ("dict=object", "float=number")


def test_the_order_of_properties_is_the_schemas() -> None:
    forwards = admit(objects({"a": INTEGER, "b": INTEGER}, "a", "b"), "s")
    backwards = admit(objects({"b": INTEGER, "a": INTEGER}, "a", "b"), "s")

    assert matches(forwards, {"a": 1, "b": 2}) and not matches(backwards, {"a": 1, "b": 2})


def test_what_was_found_once_is_kept_and_names_each_callers_field() -> None:
    assert admit({"type": "string", "title": "x"}, "a") is admit(
        {"type": "string", "title": "x"}, "b"
    )

    for param in ("a", "b"):
        with pytest.raises(InvalidRequest, match=f"^{param}: ") as refusal:
            admit({"enum": []}, param)
        assert refusal.value.param == param


def test_json_object_is_any_object() -> None:
    admitted = json_object("response_format")

    assert matches(admitted, {"a": [1, {"b": None}], "c": {}})
    assert not matches(admitted, [1])
    assert admitted.verify('{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        "{",
        "NaN",
        '{"a": Infinity}',
        "[" * 100_000,
        '"\ud800"',
        "",
        "{} {}",
        "[]",
    ],
)
def test_what_is_no_instance_is_a_violation_in_one_short_sentence(text: str) -> None:
    with pytest.raises(SchemaViolation) as violation:
        json_object("s").verify(text)

    assert 0 < len(str(violation.value)) <= 200
    assert "\n" not in str(violation.value)


def test_very_large_numbers_are_numbers() -> None:
    admitted = admit({"type": "number"}, "s")

    for text in ("9" * 5000, "9" * 400 + ".5e99"):
        assert re.fullmatch(admitted.pattern, text)
        admitted.verify(text)


WALKED: list[dict[str, Any]] = [
    *(schema for schema, _, _ in ENFORCED),
    TREE,
    objects({f"p{i}": [STRING, INTEGER, {"type": "number"}][i % 3] for i in range(12)}),
    objects({f"p{i}": INTEGER for i in range(9)}, "p4"),
    objects({f"p{i}": INTEGER for i in range(9)}, "p0", "p8"),
    objects(
        {"a": objects({"b": {"type": "array", "items": objects({"c": STRING}, "c")}}, "b")}, "a"
    ),
    {"type": "array", "items": {"anyOf": [STRING, {"type": "null"}, INTEGER]}, "maxItems": 5},
    {"type": "array", "prefixItems": [INTEGER, STRING], "items": {"type": "null"}, "minItems": 3},
    {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}},
    {"type": "number", "minimum": 0.001, "maximum": 0.1},
    {"type": "number", "exclusiveMinimum": -3, "exclusiveMaximum": 3.5},
    {"type": "integer", "minimum": -17, "maximum": 1234, "multipleOf": 10},
    {"type": "string", "pattern": "^(ab|cd)*$"},
    {"type": "string", "pattern": "[0-9]+-[a-z]"},
    {"type": "string", "pattern": "^[A-Z]{3}$", "maxLength": 9},
    {"anyOf": [{"type": "string", "pattern": "^a+$"}, {"type": "string", "format": "date"}]},
    {"type": "string", "format": "date-time", "nullable": True},
    {"enum": [{"a": [1, 2.5, None]}, "é\x7f", -0.5, [], ""]},
    {"oneOf": [{"type": "null"}, objects({"type": {"const": "a"}, "x": INTEGER}, "type")]},
    {"allOf": [objects({"a": {"minimum": 3}}), objects({"a": INTEGER, "b": STRING}, "a")]},
    objects({"é": STRING, "日本": INTEGER, "~/": {"type": "boolean"}}, "日本"),
    objects({"a": STRING, "b": INTEGER}, propertyNames={"maxLength": 1}),
    objects({"a": STRING, "bb": INTEGER}, propertyNames={"maxLength": 1}),
    {
        "type": "HashMap",
        "properties": {
            "x": {"type": "double"},
            "y": {"type": "ArrayList", "items": {"type": "str"}},
        },
    },
]


@pytest.mark.parametrize("schema", WALKED)
def test_whatever_the_pattern_allows_is_valid(schema: dict[str, Any]) -> None:
    admitted = admit(schema, "s")

    for seed in range(40):
        text = walk(admitted.pattern, random.Random(seed))
        if "/format" not in admitted.checked:
            admitted.verify(text)


def chained(length: int) -> dict[str, Any]:
    """Definitions of which each refers to the next one."""
    chain = {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(length)}
    return {**chain, f"d{length}": {}}


def doubled(keyword: str, depth: int = 40) -> dict[str, Any]:
    """Definitions of which each refers to the next one twice."""
    definitions: dict[str, Any] = {f"d{depth}": {"type": "integer"}}
    for number in range(depth):
        ref = {"$ref": f"#/$defs/d{number + 1}"}
        definitions[f"d{number}"] = {
            "if": {"if": ref, "then": ref},
            "dependentSchemas": {"dependentSchemas": {"a": ref, "b": ref}},
            "unevaluatedProperties": {"anyOf": [ref], "unevaluatedProperties": False},
            "not": {"not": {"allOf": [ref, ref]}},
        }.get(keyword, {keyword: [ref, ref]})
    return definitions


@pytest.mark.parametrize(
    "keyword",
    ["allOf", "anyOf", "oneOf", "if", "not", "dependentSchemas", "unevaluatedProperties"],
)
@pytest.mark.parametrize(
    "place",
    [
        {"type": "integer", "not": {"not": {"$ref": "#/$defs/d0"}}},
        {"enum": [1], "not": {"not": {"$ref": "#/$defs/d0"}}},
        {"type": "array", "items": INTEGER, "contains": {"$ref": "#/$defs/d0"}},
        {"type": "array", "items": INTEGER, "unevaluatedItems": {"$ref": "#/$defs/d0"}},
        {"enum": [{"a": 1}], "additionalProperties": {"$ref": "#/$defs/d0"}},
        {"enum": [{"a": 1}], "propertyNames": {"$ref": "#/$defs/d0"}},
        {"type": "integer", "if": {"$ref": "#/$defs/d0"}, "else": False},
    ],
)
def test_references_that_keep_the_validator_busy_are_refused(
    place: dict[str, Any], keyword: str
) -> None:
    schema = objects({"x": place}, **{"$defs": doubled(keyword)})

    with little_work(), pytest.raises(InvalidRequest) as refusal:
        admit(schema, "s")
    assert refusal.value.code == "schema_too_complex"


def test_recursion_that_multiplies_with_each_level_is_refused() -> None:
    node: dict[str, Any] = {"type": "array", "items": {"$ref": "#/$defs/n"}}
    node["not"] = {"not": {"allOf": [{"items": {"$ref": "#/$defs/n"}}] * 200}}
    deep: Any = 1
    for _ in range(30):
        deep = [deep]

    twice = {"allOf": [{"items": {"$ref": "#/$defs/n"}}] * 2}
    schemas = [
        objects({"x": {"$ref": "#/$defs/n"}}, **{"$defs": {"n": node}}),
        {"enum": [deep], "not": {"not": twice}, "$defs": {"n": twice}},
    ]

    for schema in schemas:
        with pytest.raises(InvalidRequest) as refusal:
            admit(schema, "s")
        assert refusal.value.code == "schema_too_complex"


def test_ordinary_recursion_with_many_choices_is_admitted() -> None:
    ref = {"$ref": "#/$defs/e"}
    branches = [objects({"op": {"const": op}, "l": ref, "r": ref}, "op") for op in "+-*/"]
    schema = objects({"e": ref}, **{"$defs": {"e": {"anyOf": [*branches, {"type": "number"}]}}})

    admit(schema, "s").verify('{"e": {"op": "+", "l": 1, "r": 2}}')


@pytest.mark.parametrize("keyword", ["not", "allOf", "if"])
def test_a_schema_that_refers_to_itself_in_place_is_refused(keyword: str) -> None:
    ref = {"$ref": "#/$defs/a"}
    schema = {keyword: [ref] if keyword == "allOf" else ref}

    with pytest.raises(InvalidRequest, match="refers to itself") as refusal:
        admit({"type": "integer", **ref, "$defs": {"a": schema}}, "s")
    assert refusal.value.code == "unsupported_schema"


def test_a_reply_deeper_than_the_pattern_is_no_instance() -> None:
    admitted = admit(objects({"a": {}}), "s")

    admitted.verify('{"a": [1]}')
    with pytest.raises(SchemaViolation, match="levels"):
        admitted.verify('{"a": [[1]]}')


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "required": [f"p{number}" for number in range(200)],
            "patternProperties": {f"z{number}[^a]{{1,400}}": {} for number in range(10)},
        },
        {
            "type": "object",
            "required": [f"p{number}" for number in range(300)],
            "patternProperties": {f"z{number}": {} for number in range(100)},
        },
        {"patternProperties": {f"z{number}\\p{{L}}{{1,900}}": {} for number in range(100)}},
    ],
)
def test_many_names_and_expressions_are_refused_soon(schema: dict[str, Any]) -> None:
    with little_work(), pytest.raises(InvalidRequest) as refusal:
        admit(schema, "s")
    assert refusal.value.code == "schema_too_complex"


@pytest.mark.parametrize("minimum", [1e29, 10**29 + 7, 1.5e29])
def test_bounds_too_large_to_write_out_are_refused_at_their_place(minimum: float) -> None:
    with pytest.raises(InvalidRequest, match="at /minimum: ") as refusal:
        admit({"type": "number", "minimum": minimum}, "s")
    assert refusal.value.code == "schema_too_complex"


KEYWORDS = [
    *("$ref", "$anchor", "$dynamicAnchor", "$dynamicRef", "$id"),
    *("$schema", "$defs", "definitions", "$comment", "$vocabulary"),
    *("type", "enum", "const", "nullable", "minimum"),
    *("maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "format", "items"),
    *("prefixItems", "contains", "minContains", "maxContains", "minItems"),
    *("maxItems", "uniqueItems", "unevaluatedItems", "properties"),
    *("required", "additionalProperties", "minProperties"),
    *("patternProperties", "propertyNames", "maxProperties"),
    *("dependentRequired", "dependentSchemas", "dependencies"),
    *("unevaluatedProperties", "not", "if", "then", "else", "allOf"),
    *("anyOf", "oneOf", "title", "description", "default", "examples"),
    *("contentSchema", "contentEncoding", "contentMediaType"),
    *("deprecated", "readOnly"),
]
VALUES: list[Any] = [
    *(1, True, "x", [], {}, None, [1], {"a": 1}, -1, 0.5, 10**400, 1e300, {"a": ["b"]}, [[]]),
    *({"a": {"a": 1}}, [{}, 1], {"a": None}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: spell(value)[:20])
@pytest.mark.parametrize("keyword", KEYWORDS)
def test_no_value_of_a_keyword_is_our_mistake(keyword: str, value: Any) -> None:
    """Each is admitted or refused, alone and beside others."""
    kinds = ("object", "array", "string", "number", "integer")
    schemas: list[dict[str, Any]] = [{"type": kind, keyword: value} for kind in kinds]
    schemas += [{keyword: value}, {"nullable": True, "anyOf": [{}], keyword: value}]
    schemas += [{keyword: value, "dependencies": {"a": ["b"], "c": {}}}, {"not": {keyword: value}}]
    schemas += [objects({"a": {keyword: value}}, **{"if": {keyword: value}})]
    for schema in schemas:
        try:
            admit(schema, "s")
        except InvalidRequest as error:
            assert error.code in ("unsupported_schema", "schema_too_complex")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"patternProperties": True}, "/patternProperties"),
        ({"dependentRequired": 1, "dependencies": {"a": ["b"]}}, "/dependentRequired"),
    ],
)
def test_a_malformed_map_is_refused_at_its_place(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest, match=f"at {place}: ") as refusal:
        admit(schema, "s")
    assert refusal.value.code == "unsupported_schema"


def test_a_schema_says_what_its_pattern_costs() -> None:
    small, large = (admit({"enum": ["a" * size]}, "s") for size in (5, 50))

    assert 0 < small.cost < large.cost <= BUDGET < MAX_REQUEST_COST


def test_literal_values_beside_long_chains_are_refused_soon() -> None:
    place = {"enum": [1], "not": {"not": {"$ref": "#/$defs/d0"}}}
    properties = {f"p{number}": {**place, "title": str(number)} for number in range(200)}
    one = objects({"x": place}, **{"$defs": chained(900)})
    many = objects(properties, **{"$defs": chained(300)})

    with little_work():
        assert admit(one, "s").verify('{"x": 1}') == {"x": 1}
    with little_work(), pytest.raises(InvalidRequest) as refusal:
        admit(many, "s")
    assert refusal.value.code == "schema_too_complex"


def test_literal_values_are_checked_at_places_with_strange_names() -> None:
    names = ["a b", "a%41", 'a~/"é\u2028', "", "a#?"]
    schema = objects({name: {"enum": [1, "x"], "type": "integer"} for name in names}, *names)
    admitted = admit(schema, "s")

    assert matches(admitted, dict.fromkeys(names, 1))
    assert not matches(admitted, dict.fromkeys(names, "x"))
