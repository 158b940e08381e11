"""What an admitted schema costs to compile, before anything is built from it.

The unit is about one state of the automaton and sixty characters of the pattern; with a
vocabulary of 130,000 tokens a budget of 1024 takes some seconds.
"""

import math
from typing import Any

BUDGET = 1024
PER_COUNTED_CHAR = 4
"""22 ms and 2.3 MB each, four times a free string's."""

CHARS_PER_UNIT = 16
SCALARS: dict[str, float] = {"integer": 2, "number": 4, "boolean": 1, "null": 1}
FORMATS: dict[str, float] = {"date": 10, "date-time": 30, "uuid": 36}
UNBOUNDED_REPEATS = 2
"""The pattern of an array holds its items twice."""


def cost(schema: dict[str, Any], *, at_start: bool = False) -> float:
    """The cost of a schema that came through the gate.

    `at_start`: the pattern begins with it. The automaton is also built for searching, where a
    bounded string that can begin anywhere doubles with every character.
    """
    if "anyOf" in schema:
        return sum(cost(branch, at_start=at_start) for branch in schema["anyOf"])
    if "enum" in schema:
        return cost_of_text(*schema["enum"])
    kind: str = schema["type"]
    match kind:
        case "object":
            return cost_of_object(schema)
        case "array":
            repeats = max(schema.get("maxItems", UNBOUNDED_REPEATS), schema.get("minItems", 1), 1)
            return 1 + float(repeats) * cost(schema["items"])
        case "string":
            return cost_of_string(schema, at_start)
        case _:
            return SCALARS[kind]


def cost_of_object(schema: dict[str, Any]) -> float:
    """Without a required property, each of them may come first: the pattern has all the ways."""
    properties = schema["properties"]
    children = sum(cost_of_text(name) + cost(each) for name, each in properties.items())
    ways = 1 if schema["required"] else max(len(properties), 1)
    return 1 + ways * children


def cost_of_string(schema: dict[str, Any], at_start: bool) -> float:
    if "format" in schema:
        return FORMATS[schema["format"]]
    counted: int = max(schema.get("minLength", 0), schema.get("maxLength", 0))
    if at_start and counted:
        return math.inf if counted > BUDGET else 2.0**counted
    return 1.0 + PER_COUNTED_CHAR * counted


def cost_of_text(*values: Any) -> float:
    return sum(1 + len(str(value)) / CHARS_PER_UNIT for value in values)
