"""One call of one tool: the pattern that the model is held to, and the verified reply.

A model trained on Hermes-style calls is held to that form, any other to plain JSON.
"""

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import msgspec
from outlines.types import JsonSchema
from outlines.types.dsl import String, Term, either, to_regex

from app.engine.base import Constraint, Output
from app.errors import GenerationFailed, InvalidRequest
from app.tools.cost import BUDGET, cost
from app.tools.gate import admit_schema
from schemas.generate import FunctionReply, Tool, ToolCall, ToolFunction

HERMES_MARK = "<tool_call>"
WHITESPACE = "[ ]?"
"""At most one space between JSON tokens, so that an undecided model cannot fill up on them."""

MAX_PATTERN_CHARS = 64 * 1024
CALL = re.compile(
    r'(?:<tool_call>\n)?\{"name": (?P<name>"[^"]*"), "arguments": (?P<arguments>.*)\}'
)


class OfferedTools:
    """Tools of one request whose schemas can be guaranteed. Raises InvalidRequest if one cannot."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._schemas = {
            tool.name: admit_schema(tool.parameters, f"tools[{number}].parameters")
            for number, tool in enumerate(tools)
        }
        if len(self._schemas) < len(tools):
            raise InvalidRequest("tools: two tools have the same name.", param="tools")
        if sum(map(cost, self._schemas.values())) > BUDGET:
            raise InvalidRequest(
                "tools: their schemas together are too complex; offer fewer or smaller ones.",
                param="tools",
                code="schema_too_complex",
            )

    def constraint(self, chat_template: str | None) -> Constraint:
        """Hold the whole reply to one call of one of the tools. Raises InvalidRequest."""
        call = either(*(call_term(*each) for each in self._schemas.items()))
        if chat_template is not None and HERMES_MARK in chat_template:
            call = String(f"{HERMES_MARK}\n") + call + String("\n</tool_call>")
        return Constraint(pattern_of(call, "tools"))

    def reply(self, output: Output) -> FunctionReply:
        """The call, verified. Raises InvalidRequest and GenerationFailed."""
        completion = output.outputs[0]
        if completion.finish_reason == "length":
            raise InvalidRequest(
                "max_new_tokens: the call was not complete when its tokens were used up.",
                param="max_new_tokens",
            )
        name, arguments = parse_call(completion.text)
        self.verify(name, arguments)
        function = ToolFunction(name=name, arguments=arguments)
        call = ToolCall(id=f"call_{secrets.token_hex(12)}", function=function)
        return FunctionReply(content=arguments, tool_calls=[call])

    def verify(self, name: str, arguments: str) -> None:
        """What is promised is checked, not trusted. Raises GenerationFailed.

        The schema is the gate's: it has no reference that a validator would follow elsewhere.
        """
        try:
            jsonschema_rs.validate(self._schemas[name], msgspec.json.decode(arguments))
        except (KeyError, msgspec.DecodeError, jsonschema_rs.ValidationError) as error:
            raise GenerationFailed(
                f"The call of {name} does not satisfy its schema.", code="tool_call_invalid"
            ) from error


def call_term(name: str, schema: dict[str, Any]) -> Term:
    opening = f'{{"name": {json.dumps(name)}, "arguments": '
    return String(opening) + JsonSchema(schema, WHITESPACE) + String("}")


def constrain_schema(schema: dict[str, Any], param: str) -> Constraint:
    """Hold the whole reply to a schema. Raises InvalidRequest."""
    admitted = admit_schema(schema, param, at_start=True)
    return Constraint(pattern_of(JsonSchema(admitted, WHITESPACE), param))


def pattern_of(term: Term, param: str) -> str:
    """The term as a regular expression of bounded length. Raises InvalidRequest."""
    pattern: str = to_regex(term)
    if len(pattern) > MAX_PATTERN_CHARS:
        raise InvalidRequest(
            f"{param}: the schema is too complex: its pattern has {len(pattern)} characters, "
            f"the limit is {MAX_PATTERN_CHARS}.",
            param=param,
            code="schema_too_complex",
        )
    return pattern


def parse_call(text: str) -> tuple[str, str]:
    match = CALL.match(text)
    if match is None:
        raise GenerationFailed("The model's reply is not a tool call.", code="tool_call_invalid")
    return msgspec.json.decode(match["name"], type=str), match["arguments"]
