"""A client's schema, read: loose names made JSON Schema's, and every place where a schema stands.

What comes out says what the client's schema says and is what a reply is validated against.
"""

import json
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import jsonschema_rs

from app.tools.gate.automaton import TooLarge
from app.tools.gate.cost import (
    MAX_ALL_CHECKS,
    MAX_COMPILED,
    MAX_NESTING,
    MAX_REGEX_CHARS,
    MAX_REGEXES,
    MAX_REGEXES_CHARS,
    MAX_REGEXES_PLACES,
    MAX_SCHEMA_BYTES,
    Checks,
    Refusal,
    escape,
    too_complex,
    unsupported,
)
from app.tools.gate.strings import Untranslatable, num_places, string_matching

ONE = frozenset(
    {
        *("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then"),
        *("else", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords whose value is a schema."""

SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})

DEFINITIONS = ("$defs", "definitions")
UNLOOSENED = frozenset({"$ref", "allOf", "anyOf", "oneOf", "const", "not", "if"})

DROPPED = frozenset({"$schema", "$id", "$vocabulary", "$comment", "contentSchema", "nullable"})
REFUSED = frozenset({"$dynamicRef", "$recursiveRef"})

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
ANY_TYPE = "*"
LOOSE = {
    **dict.fromkeys(("dict", "dictionary", "hashmap", "map", "struct"), "object"),
    **dict.fromkeys(("float", "double", "decimal", "numeric"), "number"),
    **dict.fromkeys(("int", "long", "short", "int32", "int64", "bigint"), "integer"),
    **dict.fromkeys(("str", "char", "text", "varchar"), "string"),
    **dict.fromkeys(("list", "tuple", "arraylist", "set"), "array"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("none", "nil"), "null"),
    **dict.fromkeys(("any", ""), ANY_TYPE),
    **{name: name for name in TYPES},
}
"""Names of types that people write, in lower case, and what they mean."""

REGEX_LIMITS = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
"""A linear engine for `pattern`: its text is a client's."""


BASE = "urn:schema"
"""What the validator calls the client's schema where only a part of it is compiled."""


class Node(NamedTuple):
    """A schema and where it stands."""

    schema: Any
    pointer: str


class Document:
    """A client's schema after normalising. Raises Refusal where it is malformed."""

    def __init__(self, schema: Any) -> None:
        self.aliases: set[str] = set()
        self.places: dict[str, Any] = {}
        self.anchors: dict[str, str] = {}
        self.references: list[tuple[str, str]] = []
        self.inner_id: str | None = None
        self.num_regexes = self.num_regex_chars = self.num_regex_places = 0
        self.root = self.read(schema, "")
        self.check_form()
        for pointer, reference in self.references:
            self.resolve(reference, pointer)
        self.validator = self.compile()
        self.checks = Checks(self.resolve)
        self.num_checks = self.num_compiled = 0
        self._registry: jsonschema_rs.Registry | None = None
        self._parts: dict[str, jsonschema_rs.Validator] = {}
        self._finders: dict[str, jsonschema_rs.Validator] = {}

    def read(self, schema: Any, pointer: str) -> Any:
        """One schema and all below it, as a copy."""
        if not isinstance(schema, dict):
            self.places[pointer] = schema
            return schema
        if is_wrapped(schema, pointer):
            return self.read(wrapped(schema), pointer)
        self.read_identity(schema, pointer)
        self.read_expressions(schema, pointer)
        read: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword == "type":
                read |= self.read_type(value)
            elif keyword == "dependencies":
                self.read_dependencies(value, pointer, read)
            elif keyword not in DROPPED:
                read[keyword] = self.read_below(keyword, value, f"{pointer}/{escape(keyword)}")
        if schema.get("nullable"):
            read = with_null(read)
        self.places[pointer] = read
        return read

    def read_expressions(self, schema: dict[str, Any], pointer: str) -> None:
        named = schema.get("patternProperties")
        places = [(f"{pointer}/pattern", schema.get("pattern"))]
        if isinstance(named, dict):
            places += [(f"{pointer}/patternProperties", each) for each in named]
        regexes = [(place, each) for place, each in places if isinstance(each, str)]
        self.num_regexes += len(regexes)
        if self.num_regexes > MAX_REGEXES:
            raise too_complex(pointer, f"it has more than {MAX_REGEXES} regular expressions")
        for place, each in regexes:
            if len(each) > MAX_REGEX_CHARS:
                raise too_complex(place, f"it is longer than {MAX_REGEX_CHARS} characters")
            self.num_regex_chars += len(each)
            if self.num_regex_chars > MAX_REGEXES_CHARS:
                reason = f"its expressions have more than {MAX_REGEXES_CHARS} characters"
                raise too_complex(place, reason)
            self.num_regex_places += places_of(each, place)
            if self.num_regex_places > MAX_REGEXES_PLACES:
                raise too_complex(place, "its expressions have too many places for characters")

    def read_identity(self, schema: dict[str, Any], pointer: str) -> None:
        for keyword in REFUSED & schema.keys():
            raise unsupported(f"{pointer}/{keyword}", "a dynamic reference cannot be followed")
        if "$id" in schema and pointer:
            self.inner_id = f"{pointer}/$id"
        if isinstance(schema.get("$ref"), str):
            self.references.append((f"{pointer}/$ref", schema["$ref"]))
        for keyword in ("$anchor", "$dynamicAnchor"):
            if (
                keyword in schema
                and self.anchors.setdefault(str(schema[keyword]), pointer) != pointer
            ):
                raise unsupported(f"{pointer}/{keyword}", "two places have this name")

    def read_below(self, keyword: str, value: Any, pointer: str) -> Any:
        if keyword in ONE:
            return self.read(value, pointer)
        if keyword in SEVERAL and isinstance(value, list):
            return [self.read(each, f"{pointer}/{number}") for number, each in enumerate(value)]
        if keyword in NAMED and isinstance(value, dict):
            return {
                name: self.read(each, f"{pointer}/{escape(name)}") for name, each in value.items()
            }
        return value

    def read_type(self, value: Any) -> dict[str, Any]:
        names = value if isinstance(value, list) else [value]
        read = list(dict.fromkeys(map(self.read_name, names))) if all_texts(names) else names
        if ANY_TYPE in read:
            return {}
        return {"type": read if isinstance(value, list) else read[0]}

    def read_name(self, name: str) -> str:
        if name in TYPES:
            return name
        meant = LOOSE.get(name.lower(), name)
        if meant != name:
            self.aliases.add(f"{name or 'empty'}={meant}")
        return meant

    def read_dependencies(self, value: Any, pointer: str, read: dict[str, Any]) -> None:
        """Of older drafts: names, or a schema."""
        if not isinstance(value, dict):
            raise unsupported(f"{pointer}/dependencies", "it is malformed: it must be an object")
        for name, each in value.items():
            keyword = "dependentRequired" if isinstance(each, list) else "dependentSchemas"
            place = f"{pointer}/{keyword}/{escape(name)}"
            below = each if isinstance(each, list) else self.read(each, place)
            if not isinstance(read.get(keyword, {}), dict):
                place = f"{pointer}/{keyword}"
                raise unsupported(place, "it is malformed: it must be an object")
            read[keyword] = {**read.get(keyword, {}), name: below}

    def check_form(self) -> None:
        """Every keyword's value has the form that JSON Schema asks for. Raises Refusal."""
        try:
            jsonschema_rs.meta.validate(self.root)
        except jsonschema_rs.ValidationError as error:
            raise malformed(error) from error

    def compile(self) -> jsonschema_rs.Validator:
        """The validator of a reply; nothing is ever fetched. Raises Refusal."""
        try:
            return jsonschema_rs.Draft202012Validator(
                self.root, validate_formats=True, pattern_options=REGEX_LIMITS, offline=True
            )
        except jsonschema_rs.ValidationError as error:
            pointer = "".join(f"/{escape(str(part))}" for part in error.instance_path)
            if isinstance(error.instance, str) and error.message.endswith('is not a "regex"'):
                explain_regex(error.instance, pointer)
            raise malformed(error) from error
        except (jsonschema_rs.ReferencingError, ValueError) as error:
            raise unsupported("", f"it cannot be read: {str(error)[:160]}") from error

    def resolve(self, reference: str, pointer: str) -> Node:
        """The schema that a reference means. Raises Refusal."""
        if not reference.startswith("#"):
            raise unsupported(pointer, "only references inside the schema are followed")
        if self.inner_id is not None:
            raise unsupported(self.inner_id, "it changes what references mean")
        fragment = unquote(reference[1:])
        target = self.anchors.get(fragment) if fragment and fragment[0] != "/" else fragment
        if target is None or target not in self.places:
            raise unsupported(pointer, f"{reference[:64]!r} is not a schema in here")
        return Node(self.places[target], target)

    def allows(self, pointer: str, value: Any) -> bool:
        """Whether a value is valid at one place of the schema. Raises Refusal."""
        place = Node(self.places[pointer], pointer)
        self.num_checks += self.checks.num(place, nesting(value) - 1) * num_values(value)
        if self.num_checks > MAX_ALL_CHECKS:
            raise too_complex(pointer, "its literal values take too long to check")
        if pointer not in self._parts:
            self._parts[pointer] = self.compile_part(place)
        return self._parts[pointer].is_valid(value)

    def compile_part(self, place: Node) -> jsonschema_rs.Validator:
        """The validator of one place alone: of all places at once, it takes seconds."""
        reached = self.checks.reached(place)
        self.num_compiled += len(reached)
        if any("pattern" in each or "patternProperties" in each for each in reached):
            self.num_compiled += self.num_regex_places // 4
        if self.num_compiled > MAX_COMPILED:
            raise too_complex(place.pointer, "its literal values stand beside too many schemas")
        if self._registry is None:
            self._registry = jsonschema_rs.Registry([(BASE, self.root)])
        return jsonschema_rs.Draft202012Validator(
            {"$ref": f"{BASE}#{quote(place.pointer)}"},
            validate_formats=True,
            pattern_options=REGEX_LIMITS,
            registry=self._registry,
            offline=True,
        )

    def is_found(self, regex: str, name: str) -> bool:
        """Whether an expression is found in a name, as the validator sees it."""
        if regex not in self._finders:
            self._finders[regex] = jsonschema_rs.Draft202012Validator(
                {"pattern": regex}, pattern_options=REGEX_LIMITS
            )
        return self._finders[regex].is_valid(name)


def malformed(error: jsonschema_rs.ValidationError) -> Refusal:
    pointer = "".join(f"/{escape(str(part))}" for part in error.instance_path)
    return unsupported(pointer, f"it is malformed: {error.message[:160]}")


def places_of(regex: str, pointer: str) -> int:
    try:
        return num_places(regex)
    except TooLarge as error:
        raise too_complex(pointer, str(error)) from error


def explain_regex(regex: str, pointer: str) -> None:
    """Raise Refusal with a better reason than that the validator does not take it."""
    try:
        string_matching(regex)
    except TooLarge as error:
        raise too_complex(pointer, str(error)) from error
    except Untranslatable as error:
        raise unsupported(pointer, str(error)) from error
    raise too_complex(pointer, "it is too large for the validator")


def is_wrapped(schema: dict[str, Any], pointer: str) -> bool:
    """Whether OpenAPI's `nullable` stands beside what no further type can loosen."""
    nullable = schema.get("nullable", False)
    if not isinstance(nullable, bool):
        raise unsupported(f"{pointer}/nullable", "it is malformed: it must be true or false")
    return nullable and not UNLOOSENED.isdisjoint(schema)


def wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema or null; definitions stay where references look for them."""
    outside = {name: schema[name] for name in DEFINITIONS if name in schema}
    inside = {name: schema[name] for name in schema if name not in (*DEFINITIONS, "nullable")}
    return {"anyOf": [inside, {"type": "null"}], **outside}


def with_null(read: dict[str, Any]) -> dict[str, Any]:
    """A schema of types and values, with null among them."""
    if "type" in read:
        names = read["type"] if isinstance(read["type"], list) else [read["type"]]
        read = {**read, "type": [*names, *({"null"} - set(names))]} if all_texts(names) else read
    if isinstance(read.get("enum"), list) and None not in read["enum"]:
        read = {**read, "enum": [*read["enum"], None]}
    return read


def all_texts(names: list[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def canonical(schema: Any) -> bytes:
    """The schema as bytes, by which it is known; its order counts. Raises Refusal."""
    if nesting(schema) > MAX_NESTING:
        raise too_complex("", f"it is nested deeper than {MAX_NESTING} levels")
    try:
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        encoded = text.encode()
    except (TypeError, ValueError) as error:
        raise unsupported("", f"it is no JSON ({str(error)[:80]})") from error
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise too_complex("", f"it has {len(encoded)} bytes, the limit is {MAX_SCHEMA_BYTES}")
    if not isinstance(schema, dict | bool):
        raise unsupported("", "a schema must be an object")
    return encoded


def nesting(value: Any) -> int:
    """Levels of arrays and objects, without recursion; stops soon after the limit."""
    level, depth = [value], 0
    while level and depth <= MAX_NESTING:
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [
            below for each in inner for below in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth


def num_values(value: Any) -> int:
    """Of a JSON value: itself and all inside it."""
    if isinstance(value, dict):
        return 1 + sum(map(num_values, value.values()))
    return 1 + sum(map(num_values, value)) if isinstance(value, list) else 1
