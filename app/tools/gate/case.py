"""A case: nodes of a schema that hold together, without references and choices.

And what whoever reads its keywords may ask of the walk through the schema.
"""

from typing import Any, NamedTuple, Protocol

from app.tools.gate.cost import unsupported
from app.tools.gate.grammar import Piece
from app.tools.gate.normalise import Document, Node

MAX_COUNTED_ITEMS = 24
CHEAP_ITEM = 64
"""More items than these, if each is cheap, are counted after and not by the pattern."""

UNREACHABLE = 10**12
"""Counts beyond it are as good as it: all are beyond the budget, and a float holds it."""

Nodes = tuple[Node, ...]


class Unsatisfiable(Exception):
    """No finite text satisfies this place of the schema."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(pointer, reason)
        self.pointer = pointer
        self.reason = reason


class Case(NamedTuple):
    """Nodes that hold together, without references and choices, by their places."""

    nodes: dict[str, Node]
    choices: list[list[Node]]

    def values(self, keyword: str) -> list[tuple[Any, str]]:
        """The keyword's values and their places, in all nodes that have it."""
        return [
            (node.schema[keyword], f"{node.pointer}/{keyword}")
            for node in self.nodes.values()
            if keyword in node.schema
        ]

    @property
    def pointer(self) -> str:
        return next(iter(self.nodes), "")


class Builder(Protocol):
    """The walk through a schema; everything it does raises Refusal and Unsatisfiable."""

    document: Document
    checked: set[str]
    """Places that the validator decides afterwards."""

    def value(self, nodes: Nodes) -> Piece:
        """Every value that all of the nodes allow."""
        ...

    def name(self, nodes: Nodes) -> Piece:
        """Every name of a property that all of the nodes allow."""
        ...

    def spend(self, cost: float, pointer: str) -> None: ...

    def try_hard(self, effort: int, pointer: str) -> None: ...

    def is_found(self, regex: str, name: str, pointer: str) -> bool: ...


def branches_of(node: Node, keyword: str) -> list[Node]:
    return [
        Node(branch, f"{node.pointer}/{keyword}/{number}")
        for number, branch in enumerate(node.schema.get(keyword, ()))
    ]


def below(node: Node, keyword: str) -> list[Node]:
    """The schema that is a keyword's value."""
    has = keyword in node.schema
    return [Node(node.schema[keyword], f"{node.pointer}/{keyword}")] if has else []


def limits(case: Case, least: str, most: str) -> tuple[int, int | None]:
    """The strongest of two keywords that count. Raises Unsatisfiable."""
    low, low_at = max(case.values(least), key=lambda each: each[0], default=(0, ""))
    high, high_at = min(case.values(most), key=lambda each: each[0], default=(None, ""))
    if high is not None and low > high:
        refuse_empty(low_at, high_at, least, most)
    return min(int(low), UNREACHABLE), None if high is None else min(int(high), UNREACHABLE)


def refuse_empty(low_at: str, high_at: str, least: str, most: str) -> None:
    """A contradiction in one place is the client's mistake, between places a case that is not."""
    reason = f"{least} is larger than {most}"
    if low_at.rpartition("/")[0] == high_at.rpartition("/")[0]:
        raise unsupported(low_at, reason)
    raise Unsatisfiable(low_at, reason)
