"""What the keywords of a case say about objects, as a pattern."""

from app.tools.gate import grammar, strings
from app.tools.gate.case import (
    CHEAP_ITEM,
    MAX_COUNTED_ITEMS,
    Builder,
    Case,
    Nodes,
    Unsatisfiable,
    below,
    limits,
)
from app.tools.gate.cost import escape, unsupported
from app.tools.gate.grammar import COLON, Member, Piece
from app.tools.gate.normalise import Node
from app.tools.gate.string_keywords import try_pattern


def required_names(case: Case) -> dict[str, None]:
    """In the order in which they are named."""
    return dict.fromkeys(name for names, _ in case.values("required") for name in names)


def property_nodes(gate: Builder, case: Case, name: str) -> Nodes:
    """What holds for one property."""
    found: list[Node] = []
    for node in case.nodes.values():
        own = []
        if name in node.schema.get("properties", {}):
            schema = node.schema["properties"][name]
            own.append(Node(schema, f"{node.pointer}/properties/{escape(name)}"))
        for each in pattern_nodes(node):
            if gate.is_found(each[0], name, node.pointer):
                own.append(each[1])
        found += own or below(node, "additionalProperties")
    return tuple(found)


def pattern_nodes(node: Node) -> list[tuple[str, Node]]:
    return [
        (regex, Node(schema, f"{node.pointer}/patternProperties/{escape(regex)}"))
        for regex, schema in node.schema.get("patternProperties", {}).items()
    ]


def object_piece(gate: Builder, case: Case) -> Piece:
    least, most = limits(case, "minProperties", "maxProperties")
    required = required_names(case)
    listed = [name for names, _ in case.values("properties") for name in names]
    names = list(dict.fromkeys([*listed, *required]))
    more = case.values("additionalProperties") + case.values("patternProperties")
    if not names and (more or not case.values("properties")):
        return map_piece(gate, case, least, most)
    members = [
        member for name in names if (member := member_of(gate, case, name, name in required))
    ]
    return grammar.object_of(*sized(gate, case, members, least, most))


def member_of(gate: Builder, case: Case, name: str, required: bool) -> Member | None:
    """One property; None if it can never be there and need not. Raises Unsatisfiable."""
    gate.spend(len(name) + 2 * COLON.cost, case.pointer)
    try:
        for _, place in case.values("propertyNames"):
            if not gate.document.allows(place, name):
                raise Unsatisfiable(place, f"it forbids {name[:64]!r}")
        return Member(name, gate.value(property_nodes(gate, case, name)), required)
    except Unsatisfiable:
        if required:
            raise
        return None


def sized(
    gate: Builder, case: Case, members: list[Member], least: int, most: int | None
) -> tuple[list[Member], int]:
    """The members within the counts, as far as a pattern can say that."""
    required = [member for member in members if member.required]
    if least > len(members) or (most is not None and most < len(required)):
        raise Unsatisfiable(case.pointer, "it cannot have as many properties as it must")
    if least > 1 and least == len(members):
        return [member._replace(required=True) for member in members], least
    if most is not None and most == len(required):
        return required, least
    if least > max(len(required), 1):
        gate.checked.update(place for _, place in case.values("minProperties"))
    if most is not None and most < len(members):
        gate.checked.update(place for _, place in case.values("maxProperties"))
    return members, least


def map_piece(gate: Builder, case: Case, least: int, most: int | None) -> Piece:
    """An object whose names the schema does not list. The same name twice is noticed after."""
    try:
        if most == 0:
            raise Unsatisfiable(case.pointer, "it allows no properties")
        entry = grammar.either(entries(gate, case))
    except Unsatisfiable:
        if least:
            raise
        return grammar.object_of([], 0)
    gate.checked.add(case.pointer)
    if most is not None and most > MAX_COUNTED_ITEMS and entry.cost < 2 * CHEAP_ITEM:
        gate.checked.update(place for _, place in case.values("maxProperties"))
        most = None
    return grammar.map_of(entry, least, most)


def entries(gate: Builder, case: Case) -> list[Piece]:
    """The kinds of properties that a map may have."""
    patterns = [each for node in case.nodes.values() for each in pattern_nodes(node)]
    if not patterns:
        values = tuple(
            found
            for node in case.nodes.values()
            for found in (
                below(node, "additionalProperties") or below(node, "unevaluatedProperties")
            )
        )
        return [grammar.sequence(key_piece(gate, case), COLON, gate.value(values))]
    if len(patterns) > 1:
        gate.checked.update(place for _, place in case.values("patternProperties"))
    gate.checked.update(place for _, place in case.values("propertyNames"))
    return [pattern_entry(gate, case, *each) for each in patterns]


def pattern_entry(gate: Builder, case: Case, regex: str, node: Node) -> Piece:
    matching = try_pattern(gate, regex, strings.ANY_LENGTH, node.pointer)
    if matching is None:
        raise unsupported(node.pointer, "names that match this cannot be enforced")
    others = [
        found
        for each in case.nodes.values()
        if "patternProperties" not in each.schema
        for found in below(each, "additionalProperties")
    ]
    return grammar.sequence(matching.piece, COLON, gate.value((node, *others)))


def key_piece(gate: Builder, case: Case) -> Piece:
    """The names that `propertyNames` allows."""
    nodes = tuple(found for node in case.nodes.values() for found in below(node, "propertyNames"))
    return gate.name(nodes) if nodes else grammar.STRING
