"""Tools that may be called or must be, and the constraint that binds a reply to them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from app.engine.base import END, Choice, Constraint, Match, Segment, Text
from app.errors import InvalidRequest
from app.tools.dialects import END_THINK, GAPS, THINK, Dialect, Thinking, thinking_segments
from app.tools.gate.admitted import AdmittedSchema, admit
from app.tools.gate.cost import MAX_REQUEST_COST
from app.tools.gate.normalise import ANY_TYPE, LOOSE
from app.tools.parts import Called
from app.tools.turn import Turn
from schemas.tools import FunctionDefinition

NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
BEFORE_PATTERNS = 3
"""Segments of calls before those of their arguments."""

ESCAPES = {"}": r"\}", "\n": r"\n"}


class CallableTool(msgspec.Struct, frozen=True):
    """A function that may be called; `param` is where its schema stands in the request."""

    schema: AdmittedSchema
    param: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is shown, and what it may do with it."""

    dialect: Dialect
    definitions: tuple[FunctionDefinition, ...]
    """All that the prompt tells of."""

    callables: Mapping[str, CallableTool]
    required: bool
    single: bool
    """At most one call."""

    legacy: bool = False
    """Answered as `function_call`."""

    def turn(self, thinking: Thinking) -> Turn:
        """A reader of one reply."""
        perhaps = thinking == "perhaps" and not self.required
        return Turn(thinking, self.dialect, self.callables, thoughts_may_call=perhaps)

    def verify(self, call: Called) -> None:
        """What is promised is checked, not trusted. Raises SchemaViolation."""
        self.callables[call.name].schema.verify(call.arguments)

    def constraint(self, thinking: Thinking) -> Constraint:
        """What a reply may be from its first token on."""
        lead = self._thinking(thinking)
        return Constraint((*lead, *self._start(len(lead), bool(lead)), *self._calls(len(lead) + 1)))

    def constraint_from_name(self, *, is_first: bool) -> Constraint:
        """What a reply may be behind the mark of a call; `is_first`: there was none before."""
        dialect = self.dialect
        opening = dialect.opening if is_first else dialect.reopening
        return Constraint((self._heads(opening, 1 + BEFORE_PATTERNS), *self._calls(1)))

    def _thinking(self, thinking: Thinking) -> tuple[Segment, ...]:
        """Segments before the one that `_start` makes, which come right behind them."""
        if thinking == "perhaps" and self.required:
            calls = 3
            block = Text(until=END_THINK, then=2, may_end=False)
            return (Choice(then={THINK: 1, self.dialect.begin: calls}), block)
        return thinking_segments(thinking)

    def _start(self, at: int, is_after_thinking: bool) -> tuple[Segment, ...]:
        begin, calls = self.dialect.begin, at + 1
        if not self.required:
            return (Text(until=begin, then=calls, may_end=True),)
        gaps = GAPS if is_after_thinking else GAPS[:1]
        return (Choice(then={gap + begin: calls for gap in gaps}),)

    def _calls(self, at: int) -> tuple[Segment, ...]:
        """Calls from behind the mark on; the first of these segments has the number `at`."""
        dialect = self.dialect
        after, again, patterns = at + 1, at + 2, at + BEFORE_PATTERNS
        ends = self.single and not dialect.tail
        return (
            self._heads(dialect.opening, patterns),
            self._after(again),
            self._heads(dialect.reopening, patterns),
            *(
                Match(
                    pattern=f"{dialect.space}(?:{each.schema.pattern}){literal(dialect.closing)}",
                    param=each.param,
                    then=END if ends else after,
                )
                for each in self.callables.values()
            ),
        )

    def _heads(self, opening: str, patterns: int) -> Choice:
        """The name of a function, and its pattern's number counted from `patterns`."""
        between = self.dialect.between
        return Choice(
            then={
                opening + name + between: patterns + number
                for number, name in enumerate(self.callables)
            }
        )

    def _after(self, again: int) -> Choice:
        """What follows a call: another one, or the end."""
        dialect = self.dialect
        then = {} if self.single else {dialect.end + dialect.separator: again}
        if dialect.tail:
            then[dialect.tail] = END
        return Choice(then=then or {dialect.separator: again}, may_end=not dialect.tail)


def literal(text: str) -> str:
    """A dialect's text as a pattern."""
    return "".join(ESCAPES.get(char, char) for char in text)


def make_offer(
    definitions: Sequence[FunctionDefinition],
    place: str,
    dialect: Dialect,
    allowed: Sequence[str] | None = None,
    *,
    choice_param: str = "tool_choice",
    required: bool,
    single: bool,
    legacy: bool = False,
) -> Offer:
    """`place` is a definition's own in the request, its number left open. Raises InvalidRequest."""
    numbers = {each.name: number for number, each in enumerate(definitions)}
    if len(numbers) < len(definitions):
        param = place.partition("[")[0]
        raise InvalidRequest(f"{param}: two tools have the same name.", param=param)
    for name in allowed or ():
        if name not in numbers:
            raise InvalidRequest(
                f"{choice_param}: {name!r} is not among the offered tools.", param=choice_param
            )
    names = dict.fromkeys(numbers if allowed is None else allowed)
    callables = {
        name: admit_function(definitions[numbers[name]], place.format(numbers[name]))
        for name in names
    }
    check_cost(callables.values(), place.partition("[")[0])
    return Offer(
        dialect=dialect,
        definitions=tuple(definitions),
        callables=callables,
        required=required,
        single=single,
        legacy=legacy,
    )


def without_calls(dialect: Dialect) -> Offer:
    """Tools that are neither shown nor called: text in which the mark of a call cannot come.

    A model may call what earlier turns tell it of, and a call is no text.
    """
    return Offer(dialect=dialect, definitions=(), callables={}, required=False, single=False)


def check_cost(tools: Iterable[CallableTool], param: str) -> None:
    """One constraint has the schemas of all tools in it. Raises InvalidRequest."""
    if sum(each.schema.cost for each in tools) > MAX_REQUEST_COST:
        raise InvalidRequest(
            f"{param}: their schemas together are too complex; offer fewer or smaller ones.",
            param=param,
            code="schema_too_complex",
        )


def admit_function(definition: FunctionDefinition, place: str) -> CallableTool:
    """Raises InvalidRequest for a schema that cannot be guaranteed."""
    param = f"{place}.parameters"
    return CallableTool(admit(schema_of(definition, param), param), param)


def schema_of(definition: FunctionDefinition, param: str) -> dict[str, Any]:
    """The schema of a function's arguments, which are an object also where it does not say so.

    Null is left out where it is allowed, as a call has no room for it. Raises InvalidRequest
    where it says that they are something else.
    """
    given = definition.parameters or NO_ARGUMENTS
    schema = {
        name: value for name, value in given.items() if name != "nullable" or value is not True
    }
    asked = schema.get("type", "object")
    kinds = [
        LOOSE.get(str(kind).lower()) for kind in (asked if isinstance(asked, list) else [asked])
    ]
    if kinds == ["object"] and "type" in schema:
        return schema
    if "object" in kinds or ANY_TYPE in kinds:
        return {**schema, "type": "object"}
    raise InvalidRequest(
        f"{param}: the arguments of a function are an object, so that must be its type.",
        param=param,
        code="unsupported_schema",
    )
