"""Messages as clients send them to turns as chat templates know them.

A picture is a mark in the text of its turn; what stands there in its place is the engine's matter.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from app.engine.base import PICTURE
from schemas.messages import (
    AssistantMessage,
    Content,
    FunctionMessage,
    ImagePart,
    ImageURL,
    Message,
)
from schemas.tools import FunctionDefinition


def size_of(message: Message) -> int:
    """Characters of everything in a message that a template may write."""
    chars = len(text_of(message.content or ""))
    if isinstance(message, AssistantMessage):
        chars += sum(len(call.function.arguments) for call in message.tool_calls or ())
        chars += len(message.function_call.arguments) if message.function_call else 0
        chars += len(message.reasoning_content or "")
    return chars


def text_of(content: Content) -> str:
    """All of it as one text: a mark for each picture, a line for each of several texts."""
    if isinstance(content, str):
        return unmarked(content)
    text, after_text = "", False
    for part in content:
        is_text = not isinstance(part, ImagePart)
        text += "\n" if is_text and after_text else ""
        text += PICTURE if isinstance(part, ImagePart) else unmarked(part.text)
        after_text = is_text
    return text


def unmarked(text: str) -> str:
    """Without what would pass for a picture; Unicode has no such character for texts."""
    return text.replace(PICTURE, "")


def images_of(messages: Sequence[Message]) -> Iterator[ImageURL]:
    """The pictures of a conversation in their order."""
    for message in messages:
        if message.content is not None and not isinstance(message.content, str):
            yield from (p.image_url for p in message.content if isinstance(p, ImagePart))


def turns_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates know them; a tool's answer has the tool's name, as some want."""
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    latest = ""
    for number, message in enumerate(messages):
        fields = turn(message)
        if isinstance(message, FunctionMessage):
            fields |= {"role": "tool", "tool_call_id": latest}
        elif isinstance(message, AssistantMessage) and message.function_call:
            fields = with_call(fields, f"call{number:05d}")
        elif fields["role"] == "tool" and fields["tool_call_id"] in names:
            fields = {"name": names[fields["tool_call_id"]], **fields}
        for call in fields.get("tool_calls", ()):
            latest = call["id"]
            names[latest] = call["function"]["name"]
        turns.append(fields)
    return turns


def with_call(fields: dict[str, Any], call_id: str) -> dict[str, Any]:
    """An older message's one call, as newer ones have it; the id has the length Mistral wants."""
    function = fields.pop("function_call")
    call = {"type": "function", "id": call_id, "function": called(function)}
    return fields | {"tool_calls": [call]}


def turn(message: Message) -> dict[str, Any]:
    """A message as chat templates know it: plain text, and no role that they do not have."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    if fields["role"] == "developer":
        fields["role"] = "system"
    if "tool_calls" in fields:
        calls = ({**call, "function": called(call["function"])} for call in fields["tool_calls"])
        fields["tool_calls"] = [without(call, "index") for call in calls]
    return without(fields, "parsed") | {"content": text_of(message.content or "")}


def called(function: dict[str, Any]) -> dict[str, Any]:
    return {"name": function["name"], "arguments": parsed(function["arguments"])}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def parsed(arguments: str) -> Any:
    """A call's arguments as an object, which templates write as JSON themselves."""
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments


def function(tool: FunctionDefinition) -> dict[str, Any]:
    """A tool in the shape that chat templates expect, with the fields that they take as given."""
    fields = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": fields}
