"""Schemas as clients might write them: sound ones, contradictory ones, and keywords gone wrong."""

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "city", "x y", 'q"', "é", "", "$ref", "a/b~c"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 5, 10, 100, 0.5, -2.5, 1e9, 2**63, 1e300])
COUNTS = st.integers(0, 6)
PATTERNS = st.sampled_from(
    [
        *("a*", "^a|b$", "[a-z]{2,4}", "(ab|cd)+", r"\d{3}-\d{4}", "[^a]", ".", "", "^$", "é+"),
        *("(", "[", "a{5,2}", "(?=a)", r"(a)\1", r"\bx", "(a|b)*a(a|b){14}", ".{0,100000}"),
    ]
)
FORMATS = st.sampled_from(["date", "date-time", "time", "email", "uuid", "ipv4", "uri", "odd"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
TYPES = st.sampled_from(
    [*("string", "integer", "number", "boolean", "null", "array", "object"), "dict", "float", "any"]
)


def keywords(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Every keyword with what belongs there."""
    schemas = st.lists(inner, min_size=1, max_size=3)
    properties = st.dictionaries(NAMES, inner, max_size=4)
    return {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=2),
        "enum": st.lists(VALUES, min_size=1, max_size=4),
        "const": VALUES,
        "minimum": NUMBERS,
        "maximum": NUMBERS,
        "exclusiveMinimum": NUMBERS,
        "multipleOf": NUMBERS,
        "minLength": COUNTS,
        "maxLength": COUNTS | st.just(500),
        "pattern": PATTERNS,
        "format": FORMATS,
        "items": inner,
        "prefixItems": schemas,
        "minItems": COUNTS,
        "maxItems": COUNTS | st.just(1000),
        "uniqueItems": st.booleans(),
        "contains": inner,
        "properties": properties,
        "required": st.lists(NAMES, max_size=3, unique=True),
        "additionalProperties": st.booleans() | inner,
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "minProperties": COUNTS,
        "maxProperties": COUNTS,
        "anyOf": schemas,
        "oneOf": schemas,
        "allOf": schemas,
        "not": inner,
        "if": inner,
        "then": inner,
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/properties/a", "#/nowhere", "http://a/b"]),
        "$defs": st.dictionaries(st.just("a"), inner, max_size=1),
        "description": st.text(max_size=4),
        "depth": COUNTS,
        "nullable": st.booleans(),
    }


@st.composite
def schema(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Schema:
    """Some keywords together, now and then with a value that does not belong there."""
    known = keywords(inner)
    names = draw(st.lists(st.sampled_from(sorted(known)), max_size=4, unique=True))
    strange = draw(st.integers(0, 19)) == 0
    return {name: draw(VALUES if strange else known[name]) for name in names}


PARTS = st.recursive(st.booleans() | TYPES.map(lambda name: {"type": name}), schema, max_leaves=8)
SCHEMAS = schema(PARTS)
