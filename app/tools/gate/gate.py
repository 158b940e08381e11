"""The gate: a client's JSON schema in, the pattern of its instances out, or a refusal with a place.

A place in the schema is read as a conjunction of nodes: itself, what it refers to, and `allOf`.
`anyOf` and `oneOf` multiply it into cases, whose keywords are then read together for each type.
What no pattern can say is noted in `checked`: the validator decides it afterwards.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from outlines.types import dsl

from app.tools.gate.array_keywords import array_piece
from app.tools.gate.automaton import MAX_EFFORT, TooLarge, measure
from app.tools.gate.case import Case, Nodes, Unsatisfiable, branches_of
from app.tools.gate.cost import (
    BUDGET,
    MAX_DEPTH,
    MAX_PARTS,
    MAX_PATTERN_CHARS,
    Refusal,
    too_complex,
    unsupported,
)
from app.tools.gate.grammar import BOOLEAN, NULL, Piece, any_value, either, literal_values
from app.tools.gate.normalise import Document, Node, nesting, num_values
from app.tools.gate.number_keywords import number_piece
from app.tools.gate.object_keywords import object_piece, property_nodes, required_names
from app.tools.gate.string_keywords import string_piece

RECURSION = (3, 2, 1)
"""How often a schema may be inside itself: the most that fits into the budget."""

ANY_DEPTH = 1
"""Levels of arrays and objects in a value of which the schema says nothing."""

KINDS = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
TOUCHING = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "array": (
        *("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"),
        *("unevaluatedItems", "minContains", "maxContains"),
    ),
    "object": (
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("propertyNames", "minProperties", "maxProperties", "dependentRequired"),
        *("dependentSchemas", "unevaluatedProperties"),
    ),
}
"""Keywords that show which type is meant where none is named."""

CHECKED = (
    *("not", "if", "contains", "uniqueItems", "dependentRequired", "dependentSchemas"),
    *("unevaluatedItems", "unevaluatedProperties"),
)

SPENDABLE = 2 * BUDGET
"""By leaves, of which some may turn out not to be needed."""


class Gate:
    """One walk through one schema, within its budgets. Raises Refusal."""

    def __init__(self, document: Document, recursion: int) -> None:
        self.document = document
        self.recursion = recursion
        self.recursed = False
        self.parts = 0
        self.effort = 0
        self.levels = 0
        self.spent = 0.0
        self.checked: set[str] = set()
        self.exclusive: set[str] = set()
        self.dead: Unsatisfiable | None = None
        self.path: list[tuple[str, ...]] = []

    def root(self) -> Piece:
        try:
            return self.value((Node(self.document.root, ""),))
        except Unsatisfiable as error:
            raise unsupported(error.pointer, error.reason) from error

    def value(self, nodes: Nodes) -> Piece:
        """Every value that all of the nodes allow. Raises Unsatisfiable."""
        pieces, self.dead = [], None
        for case in self.cases(nodes):
            try:
                pieces.append(self.within(self.piece_of, case))
            except Unsatisfiable as error:
                self.dead = error
        if not pieces:
            place = nodes[0].pointer if nodes else ""
            raise self.dead or Unsatisfiable(place, "no type satisfies all of it")
        piece = either(pieces)
        return self.affordable(piece._replace(cost=max(piece.cost, self.overlap(pieces))), nodes)

    def overlap(self, pieces: list[Piece]) -> float:
        """The cost of several expressions in one place, whose states may multiply."""
        expressions = [piece.expression for piece in pieces if piece.expression is not None]
        if len(expressions) < 2:
            return 0.0
        try:
            cost, effort = measure(dsl.Alternatives(expressions))
        except TooLarge as error:
            raise too_complex("", f"alternative patterns: {error}") from error
        self.try_hard(effort, "")
        return cost

    def within(self, build: Any, case: Case) -> Piece:
        """Build a case one level deeper."""
        places = tuple(case.nodes) or (self.path[-1][:1] if self.path else ("",))
        if len(self.path) >= MAX_DEPTH:
            raise too_complex(case.pointer, f"its instances have more than {MAX_DEPTH} levels")
        if any(sum(place in level for level in self.path) > self.recursion for place in places):
            self.recursed = True
            raise Unsatisfiable(case.pointer, "it contains itself without an end")
        self.path.append(places)
        try:
            piece: Piece = build(case)
        finally:
            self.path.pop()
        return piece

    def affordable(self, piece: Piece, nodes: Nodes) -> Piece:
        pointer = nodes[0].pointer if nodes else ""
        if piece.cost > BUDGET:
            raise too_complex(pointer, f"it would cost {piece.cost:.4g}, the budget is {BUDGET}")
        if piece.chars > MAX_PATTERN_CHARS:
            reason = f"its pattern would be longer than {MAX_PATTERN_CHARS} characters"
            raise too_complex(pointer, reason)
        return piece

    def count(self, pointer: str, parts: int = 1) -> None:
        self.parts += parts
        if self.parts > MAX_PARTS:
            raise too_complex(pointer, f"it has more than {MAX_PARTS} parts, references inlined")

    def reach(self, levels: int) -> None:
        """Levels of arrays and objects in a value that stands here."""
        self.levels = max(self.levels, len(self.path) - 1 + levels)

    def is_found(self, regex: str, name: str, pointer: str) -> bool:
        self.count(pointer)
        return self.document.is_found(regex, name)

    def try_hard(self, effort: int, pointer: str) -> None:
        """Regular expressions are measured within one limit for all of them together."""
        self.effort += effort
        if self.effort > MAX_EFFORT:
            raise too_complex(pointer, "the automata of its expressions grow too fast")

    def cases(self, nodes: Nodes) -> Iterator[Case]:
        """All cases of which a value satisfies at least one; none where nothing can."""
        try:
            case = self.join(Case({}, []), nodes)
        except Unsatisfiable as error:
            self.dead = error
            return
        yield from self.choose(case)

    def choose(self, case: Case) -> Iterator[Case]:
        if not self.kinds(case):
            return
        if not case.choices or case.values("const") or case.values("enum"):
            yield case
            return
        branches, *rest = case.choices
        for branch in branches:
            try:
                yield from self.choose(self.join(Case(case.nodes, rest), (branch,)))
            except Unsatisfiable as error:
                self.dead = error

    def join(self, case: Case, nodes: Iterable[Node]) -> Case:
        """The case with more nodes, and all that hold because of them."""
        joined = Case(dict(case.nodes), list(case.choices))
        self.parts += len(case.nodes) // 4
        waiting = list(nodes)
        while waiting:
            node = waiting.pop(0)
            self.count(node.pointer)
            if node.schema is False:
                raise Unsatisfiable(node.pointer, "false allows nothing")
            if node.schema is True or node.pointer in joined.nodes:
                continue
            joined.nodes[node.pointer] = node
            waiting = [*self.implied(node), *waiting]
            joined.choices.extend(self.choices(node))
        return joined

    def implied(self, node: Node) -> Iterator[Node]:
        if "$ref" in node.schema:
            yield self.document.resolve(node.schema["$ref"], f"{node.pointer}/$ref")
        yield from branches_of(node, "allOf")

    def choices(self, node: Node) -> Iterator[list[Node]]:
        if "anyOf" in node.schema:
            yield branches_of(node, "anyOf")
        if "oneOf" in node.schema:
            branches = branches_of(node, "oneOf")
            if node.pointer not in self.exclusive:
                self.exclusive.add(node.pointer)
                if not self.are_apart(branches):
                    self.checked.add(f"{node.pointer}/oneOf")
            yield branches

    def are_apart(self, branches: list[Node]) -> bool:
        """Whether it is plain to see that no value satisfies two of the branches."""
        cases = [list(self.cases((branch,))) for branch in branches]
        return all(
            self.differ(one, other, 3)
            for number, ones in enumerate(cases)
            for one in ones
            for others in cases[number + 1 :]
            for other in others
        )

    def differ(self, one: Case, other: Case, levels: int) -> bool:
        """Whether two cases differ in type, in literal values, or in a property that both need."""
        self.count(one.pointer)
        for case, against in ((one, other), (other, one)):
            values = self.literals(case)
            if values is not None:
                return not any(self.all_allow(against, value) for value in values)
        kinds = self.kinds(one) & self.kinds(other)
        if kinds != {"object"} or not levels:
            return not kinds
        shared = required_names(one).keys() & required_names(other).keys()
        return any(self.property_differs(one, other, name, levels - 1) for name in shared)

    def property_differs(self, one: Case, other: Case, name: str, levels: int) -> bool:
        ways = [list(self.cases(property_nodes(self, case, name))) for case in (one, other)]
        return all(self.differ(each, against, levels) for each in ways[0] for against in ways[1])

    def kinds(self, case: Case) -> frozenset[str]:
        """The types that every node allows."""
        kinds = KINDS
        for names, _ in case.values("type"):
            allowed = {names} if isinstance(names, str) else set(names)
            kinds &= allowed | ({"integer"} if "number" in allowed else set())
        return kinds

    def literals(self, case: Case) -> list[Any] | None:
        """The only values, where the schema lists them, without those that it forbids."""
        lists = [[value] for value, _ in case.values("const")]
        lists += [values for values, _ in case.values("enum")]
        if not lists:
            return None
        if [] in lists:
            raise unsupported(f"{case.pointer}/enum", "it has no values")
        self.count(case.pointer, sum(map(num_values, lists)))
        return [value for value in min(lists, key=len) if self.all_allow(case, value)]

    def all_allow(self, case: Case, value: Any) -> bool:
        return all(self.document.allows(place, value) for place in case.nodes)

    def name(self, nodes: Nodes) -> Piece:
        """Every name of a property that all of the nodes allow. Raises Unsatisfiable."""
        pieces = []
        for case in self.cases(nodes):
            literals = self.literals(case)
            if literals is not None:
                names = [each for each in literals if isinstance(each, str)]
                pieces += [literal_values(names)] if names else []
            elif "string" in self.kinds(case):
                self.note(case)
                pieces.append(string_piece(self, case))
        if not pieces:
            raise Unsatisfiable(nodes[0].pointer, "it allows no name")
        return either(pieces)

    def piece_of(self, case: Case) -> Piece:
        """Every value of one case. Raises Unsatisfiable."""
        literals = self.literals(case)
        if literals is not None:
            if not literals:
                _, place = (case.values("const") + case.values("enum"))[0]
                raise Unsatisfiable(place, "none of its values satisfies the rest")
            self.reach(max(map(nesting, literals)) - 1)
            return self.leaf(literal_values(literals), case)
        self.note(case)
        self.reach(0)
        kinds = self.narrowed(case)
        if kinds == KINDS:
            self.reach(ANY_DEPTH)
            self.checked.update(self.path[-1][:1])
            return any_value(ANY_DEPTH)
        pieces, reason = [], None
        for kind in sorted(kinds - ({"integer"} if "number" in kinds else set())):
            try:
                pieces.append(self.typed(kind, case))
            except Unsatisfiable as error:
                reason = error
        if not pieces:
            raise reason or Unsatisfiable(f"{case.pointer}/type", "no type is allowed")
        return either(pieces)

    def leaf(self, piece: Piece, case: Case) -> Piece:
        self.spend(piece.cost, case.pointer)
        return piece

    def spend(self, cost: float, pointer: str) -> None:
        """What all leaves cost bounds the time until the whole is found to be too dear."""
        self.spent += cost
        if self.spent > SPENDABLE:
            reason = f"its parts would cost {self.spent:.4g}, the budget is {BUDGET}"
            raise too_complex(pointer, reason)

    def note(self, case: Case) -> None:
        for keyword in CHECKED:
            found = case.values(keyword)
            if keyword == "uniqueItems":
                found = [each for each in found if each[0]]
            self.checked.update(place for _, place in found)

    def narrowed(self, case: Case) -> frozenset[str]:
        """Without a type, only those types of which a keyword speaks."""
        kinds = self.kinds(case)
        if case.values("type"):
            return kinds
        touched = {
            kind
            for kind, keywords in TOUCHING.items()
            if any(case.values(keyword) for keyword in keywords)
        }
        return frozenset(touched & kinds) or kinds

    def typed(self, kind: str, case: Case) -> Piece:
        match kind:
            case "null":
                return self.leaf(NULL, case)
            case "boolean":
                return self.leaf(BOOLEAN, case)
            case "integer" | "number":
                return self.leaf(number_piece(self, case, kind), case)
            case "string":
                return self.leaf(string_piece(self, case), case)
            case "array":
                return array_piece(self, case)
            case _:
                return object_piece(self, case)


def admit_document(document: Document) -> tuple[Piece, Gate]:
    """The pattern of a schema, and the walk that found it. Raises Refusal."""
    for recursion in RECURSION:
        gate = Gate(document, recursion)
        try:
            piece = gate.root()
            document.checks.num(Node(document.root, ""), gate.levels)
        except Refusal:
            if not gate.recursed or recursion == RECURSION[-1]:
                raise
        else:
            return piece, gate
    raise AssertionError("the last recursion returns or raises")
