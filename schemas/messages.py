"""The turns of a conversation as clients send them, one struct a role."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from schemas.base import RequestStruct


class TextPart(RequestStruct, tag_field="type", tag="text", kw_only=True):
    """A piece of text inside a message."""

    text: str


class ImageURL(RequestStruct, kw_only=True):
    """Where a picture is and how closely to look at it."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(RequestStruct, tag_field="type", tag="image_url", kw_only=True):
    """A picture inside a message."""

    image_url: ImageURL


ContentPart = TextPart | ImagePart
Content = str | Annotated[list[ContentPart], Meta(min_length=1, max_length=1024)]


class CalledFunction(RequestStruct, kw_only=True):
    """The function of an earlier tool call; `arguments` is JSON text.

    `parsed_arguments` is what openai-python's `parse` adds; it is not read.
    """

    name: str
    arguments: str
    parsed_arguments: Any = None


class EarlierToolCall(RequestStruct, tag_field="type", tag="function", kw_only=True):
    """A tool call that the assistant made in an earlier turn."""

    id: str
    function: CalledFunction
    index: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class SystemMessage(RequestStruct, tag_field="role", tag="system", kw_only=True):
    """Instructions that stand above the conversation."""

    content: Content
    name: str | None = None


class DeveloperMessage(RequestStruct, tag_field="role", tag="developer", kw_only=True):
    """OpenAI's newer name for a system message."""

    content: Content
    name: str | None = None


class UserMessage(RequestStruct, tag_field="role", tag="user", kw_only=True):
    """What the person said."""

    content: Content
    name: str | None = None


class AssistantMessage(RequestStruct, tag_field="role", tag="assistant", kw_only=True):
    """What the model said; takes back a reply's message as it was sent, null fields included.

    `parsed` is what openai-python's `parse` adds; it is not read.
    """

    content: Content | None = None
    name: str | None = None
    tool_calls: list[EarlierToolCall] | None = None
    refusal: str | None = None
    annotations: list[None] | None = None
    audio: None = None
    function_call: CalledFunction | None = None
    reasoning_content: str | None = None
    parsed: Any = None


class ToolMessage(RequestStruct, tag_field="role", tag="tool", kw_only=True):
    """What a tool answered."""

    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(RequestStruct, tag_field="role", tag="function", kw_only=True):
    """What a function answered, in OpenAI's older spelling."""

    content: Content
    name: str


Message = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)
Messages = Annotated[list[Message], Meta(min_length=1, max_length=4096)]
