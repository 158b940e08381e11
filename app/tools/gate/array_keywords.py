"""What the keywords of a case say about arrays, as a pattern."""

from collections.abc import Iterable

from app.tools.gate import grammar
from app.tools.gate.case import (
    CHEAP_ITEM,
    MAX_COUNTED_ITEMS,
    Builder,
    Case,
    Nodes,
    Unsatisfiable,
    below,
    branches_of,
    limits,
)
from app.tools.gate.grammar import Piece
from app.tools.gate.normalise import Node


def array_piece(gate: Builder, case: Case) -> Piece:
    least, most = limits(case, "minItems", "maxItems")
    nodes = list(case.nodes.values())
    if any("contains" in node.schema and node.schema.get("minContains", 1) for node in nodes):
        least = max(least, 1)
    prefix: list[Piece] = []
    for number in range(max(len(node.schema.get("prefixItems", ())) for node in nodes)):
        if most is not None and number >= most:
            break
        try:
            prefix.append(gate.value(item_nodes(nodes, number)))
        except Unsatisfiable:
            most = number
    rest = rest_of_items(gate, case, len(prefix), most, least)
    if rest is None:
        most = len(prefix)
    if most is not None and most < least:
        raise Unsatisfiable(case.pointer, f"it allows {most} items and asks for {least}")
    if (
        rest is not None
        and most is not None
        and most > MAX_COUNTED_ITEMS
        and rest.cost < CHEAP_ITEM
    ):
        gate.checked.update(place for _, place in case.values("maxItems"))
        most = None
    return grammar.array_of(prefix, rest, least, most)


def item_nodes(nodes: Iterable[Node], number: int) -> Nodes:
    """What holds for the item at one place."""
    found: list[Node] = []
    for node in nodes:
        prefix = branches_of(node, "prefixItems")
        if number < len(prefix):
            found.append(prefix[number])
        else:
            found += below(node, "items")
            if "items" not in node.schema and not prefix:
                found += below(node, "unevaluatedItems")
    return tuple(found)


def rest_of_items(
    gate: Builder, case: Case, begun: int, most: int | None, least: int
) -> Piece | None:
    """The items behind the prefix. After a prefix there are more only where the schema says so."""
    if most is not None and most <= begun:
        return None
    nodes = item_nodes(case.nodes.values(), 10**9)
    if begun and not nodes and least <= begun:
        return None
    try:
        return gate.value(nodes)
    except Unsatisfiable:
        return None
