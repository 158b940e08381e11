"""Tools as clients offer and choose them, and the calls that they get back."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import ReplyStruct, RequestStruct

MAX_TOOLS = 128

FunctionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$(?!\n)")]
"""In Python `$` also stands before a last line end."""


class FunctionDefinition(RequestStruct, kw_only=True):
    """A function the model may call; `strict` or not, its calls satisfy `parameters`."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of an object; absent or empty, the function takes no arguments."""

    strict: bool | None = None


Functions = Annotated[list[FunctionDefinition], Meta(min_length=1, max_length=MAX_TOOLS)]


class FunctionTool(RequestStruct, tag_field="type", tag="function", kw_only=True):
    """A function as `tools` list it."""

    function: FunctionDefinition


class FunctionReference(RequestStruct, kw_only=True):
    """A function by its name."""

    name: FunctionName


class NamedTool(RequestStruct, tag_field="type", tag="function", kw_only=True):
    """The one tool that must be called."""

    function: FunctionReference


class AllowedTool(RequestStruct, tag_field="type", tag="function", kw_only=True):
    """One of the tools that may be called."""

    function: FunctionReference


class AllowedTools(RequestStruct, kw_only=True):
    """A part of the offered tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(min_length=1, max_length=MAX_TOOLS)]


class AllowedToolsChoice(RequestStruct, tag_field="type", tag="allowed_tools", kw_only=True):
    """All tools are shown to the model, these may be called."""

    allowed_tools: AllowedTools


ToolMode = Literal["none", "auto", "required"]
ToolChoice = ToolMode | NamedTool | AllowedToolsChoice


class ToolFunction(ReplyStruct, kw_only=True):
    """The function that was called; `arguments` is JSON text that satisfies its schema."""

    name: str
    arguments: str


class ToolCall(ReplyStruct, kw_only=True):
    """One verified call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: ToolFunction


class FunctionDelta(ReplyStruct, kw_only=True):
    """What a chunk adds to a call."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDelta(ReplyStruct, kw_only=True):
    """A call, or a piece of one; the first piece has its id and its name."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta
