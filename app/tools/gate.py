"""The schema gate: a client's JSON schema in, one that the pattern can enforce out, or a refusal.

outlines-core silently ignores many keywords and explodes on others, so only keywords that were
shown to be enforced pass; a refusal names the place in the schema by JSON pointer.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from app.errors import InvalidRequest
from app.tools.cost import BUDGET, FORMATS, cost

MAX_NODES = 500
MAX_DEPTH = 12
MAX_LENGTH = 1000

ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment", "$defs", "definitions", "strict"),
    }
)
ENFORCED = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "integer": frozenset[str](),
    "number": frozenset[str](),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
}
UNSAFE_IN_NAMES = frozenset('"\\')


def admit_schema(
    schema: Mapping[str, Any], param: str, *, at_start: bool = False
) -> dict[str, Any]:
    """The schema with references inlined and annotations dropped.

    `at_start`: nothing stands before it in the pattern, which makes counted strings dear.
    Raises InvalidRequest with code `unsupported_schema` or `schema_too_complex`.
    """
    gate = Gate(schema, param)
    admitted = gate.admit(schema, "", 0)
    if cost(admitted, at_start=at_start) > BUDGET:
        gate.too_complex("its optional properties, lengths and item counts multiply to too much")
    return admitted


class Gate:
    """One walk through one schema, within its budgets."""

    def __init__(self, root: Mapping[str, Any], param: str) -> None:
        self.root = root
        self.param = param
        self.nodes = 0

    def admit(self, node: Any, pointer: str, depth: int) -> dict[str, Any]:
        """One node and all below it, in a form without references."""
        self.count(1)
        if depth > MAX_DEPTH:
            self.too_complex(f"more than {MAX_DEPTH} levels")
        if not isinstance(node, Mapping):
            self.refuse(pointer, "a schema must be an object")
        bare = {key: value for key, value in node.items() if key not in ANNOTATIONS}
        for keyword, admit in (
            ("$ref", self.reference),
            ("anyOf", self.any_of),
            ("enum", self.enum),
            ("const", self.const),
        ):
            if keyword in bare:
                return admit(bare, pointer, depth)
        return self.typed(bare, pointer, depth)

    def count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.too_complex(f"more than {MAX_NODES} parts")

    def reference(self, node: dict[str, Any], pointer: str, depth: int) -> dict[str, Any]:
        self.only(node, {"$ref"}, pointer)
        return self.admit(*self.resolve(node, pointer), depth + 1)

    def resolve(self, node: Mapping[str, Any], pointer: str) -> tuple[Any, str]:
        reference = node["$ref"]
        kind, _, name = str(reference).removeprefix("#/").partition("/")
        target = self.root.get(kind, {}) if kind in ("$defs", "definitions") else {}
        if not isinstance(target, Mapping) or name not in target:
            self.refuse(f"{pointer}/$ref", f"{str(reference)[:64]!r} is not in #/$defs")
        return target[name], f"/{kind}/{name}"

    def any_of(self, node: dict[str, Any], pointer: str, depth: int) -> dict[str, Any]:
        self.only(node, {"anyOf"}, pointer)
        branches = node["anyOf"]
        if not isinstance(branches, list) or not branches:
            self.refuse(f"{pointer}/anyOf", "it must be a list of schemas")
        admitted = [
            self.admit(branch, f"{pointer}/anyOf/{i}", depth + 1)
            for i, branch in enumerate(branches)
        ]
        return {"anyOf": admitted}

    def enum(self, node: dict[str, Any], pointer: str, *_: int) -> dict[str, Any]:
        self.only(node, {"enum", "type"}, pointer)
        values = node["enum"]
        if not isinstance(values, list) or not values:
            self.refuse(f"{pointer}/enum", "it must be a list of values")
        self.count(len(values))
        for value in values:
            self.scalar(value, node.get("type"), f"{pointer}/enum")
        return {"enum": values}

    def const(self, node: dict[str, Any], pointer: str, *_: int) -> dict[str, Any]:
        self.only(node, {"const", "type"}, pointer)
        self.scalar(node["const"], node.get("type"), f"{pointer}/const")
        return {"enum": [node["const"]]}

    def typed(self, node: dict[str, Any], pointer: str, depth: int) -> dict[str, Any]:
        kind = node.get("type", "object" if "properties" in node else None)
        if isinstance(kind, list):
            self.count(len(kind))
            branches = [{**node, "type": each} for each in kind]
            kept = [{k: v for k, v in each.items() if self.applies(k, each)} for each in branches]
            return self.any_of({"anyOf": kept}, pointer, depth)
        if not isinstance(kind, str) or kind not in ENFORCED:
            self.refuse(f"{pointer}/type", f"it must be one of {', '.join(ENFORCED)}")
        self.only(node, ENFORCED[kind] | {"type"}, pointer)
        admit = {"object": self.object, "array": self.array, "string": self.string}.get(kind)
        return admit(node, pointer, depth) if admit else {"type": kind}

    def applies(self, keyword: str, node: dict[str, Any]) -> bool:
        """Whether a keyword beside a list of types is about this one of them."""
        about = [kind for kind, keywords in ENFORCED.items() if keyword in keywords]
        return not about or node["type"] in about

    def object(self, node: dict[str, Any], pointer: str, depth: int) -> dict[str, Any]:
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            self.refuse(pointer, "properties must be an object and required a list")
        if "properties" not in node:
            self.refuse(pointer, "an object needs its properties listed")
        if not isinstance(node.get("additionalProperties", False), bool):
            self.refuse(f"{pointer}/additionalProperties", "only true and false are enforced")
        if not is_selection(required, properties):
            self.refuse(f"{pointer}/required", "it must name each of some of the properties once")
        admitted = {
            self.name(name, pointer): self.admit(each, f"{pointer}/properties/{name}", depth + 1)
            for name, each in properties.items()
        }
        return {"type": "object", "properties": admitted, "required": required}

    def name(self, name: str, pointer: str) -> str:
        if not name.isprintable() or UNSAFE_IN_NAMES & set(name):
            self.refuse(f"{pointer}/properties", f"the name {name[:64]!r} needs escaping in JSON")
        return name

    def array(self, node: dict[str, Any], pointer: str, depth: int) -> dict[str, Any]:
        if "items" not in node:
            self.refuse(pointer, "an array needs items")
        least, most = self.bounds(node, "minItems", "maxItems", pointer)
        items = self.admit(node["items"], f"{pointer}/items", depth + 1)
        sizes = {"minItems": least, "maxItems": most}
        return {"type": "array", "items": items} | {k: v for k, v in sizes.items() if v is not None}

    def string(self, node: dict[str, Any], pointer: str, _: int) -> dict[str, Any]:
        if "format" in node:
            self.only(node, {"type", "format"}, pointer)
            if not isinstance(node["format"], str) or node["format"] not in FORMATS:
                self.refuse(f"{pointer}/format", f"only {', '.join(sorted(FORMATS))} are enforced")
            return {"type": "string", "format": node["format"]}
        least, most = self.bounds(node, "minLength", "maxLength", pointer)
        sizes = {"minLength": least, "maxLength": most}
        return {"type": "string"} | {k: v for k, v in sizes.items() if v is not None}

    def bounds(
        self, node: dict[str, Any], least: str, most: str, pointer: str
    ) -> tuple[int | None, int | None]:
        low, high = node.get(least), node.get(most)
        for keyword, value in ((least, low), (most, high)):
            if value is not None and (type(value) is not int or not 0 <= value <= MAX_LENGTH):
                self.refuse(f"{pointer}/{keyword}", f"it must be an integer from 0 to {MAX_LENGTH}")
        if low is not None and high is not None and low > high:
            self.refuse(f"{pointer}/{least}", f"it is larger than {most}")
        return low, high

    def scalar(self, value: Any, kind: Any, pointer: str) -> None:
        if isinstance(value, dict | list):
            self.refuse(pointer, "only strings, numbers, booleans and null are enforced")
        kinds = kind if isinstance(kind, list) else [kind]
        if kind is not None and not any(is_of_kind(value, each) for each in kinds):
            self.refuse(pointer, f"{str(value)[:64]!r} is not of type {kind!r}")

    def only(self, node: dict[str, Any], allowed: set[str] | frozenset[str], pointer: str) -> None:
        for keyword in node:
            if keyword not in allowed:
                beside = f" beside {', '.join(sorted(allowed - {'type'}))}" if allowed else ""
                self.refuse(f"{pointer}/{keyword[:64]}", f"it is not enforced{beside}")

    def refuse(self, pointer: str, reason: str) -> NoReturn:
        raise InvalidRequest(
            f"{self.param}: the schema cannot be guaranteed at {pointer or '/'}: {reason}.",
            param=self.param,
            code="unsupported_schema",
        )

    def too_complex(self, budget: str) -> NoReturn:
        raise InvalidRequest(
            f"{self.param}: the schema is too complex: {budget}.",
            param=self.param,
            code="schema_too_complex",
        )


def is_selection(names: list[Any], properties: Mapping[str, Any]) -> bool:
    """Whether each name is a property's and none stands twice."""
    known = all(isinstance(name, str) and name in properties for name in names)
    return known and len(set(names)) == len(names)


def is_of_kind(value: Any, kind: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case _:
            return kind == "null" and value is None
