"""`POST /generate` and `POST /generate_with_function`."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from schemas.base import ReplyStruct, RequestStruct
from schemas.messages import Messages
from schemas.sampling import NativeSampling
from schemas.usage import Usage


class GenerateRequest(NativeSampling, kw_only=True):
    """Either `prompt` or `messages`; which one decides the shape of the reply."""

    prompt: Annotated[str, Meta(min_length=1)] | None = None
    messages: Messages | None = None
    stream: bool = False
    model: str | None = None


class GenerateReply(ReplyStruct, kw_only=True):
    """The answer to a `prompt`."""

    generated_text: str
    usage: Usage
    model: str


class AssistantReply(ReplyStruct, kw_only=True):
    """The answer to `messages`: the next turn, ready to be appended to them."""

    role: Literal["assistant"] = "assistant"
    content: str


class Tool(RequestStruct, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema of an object."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any]


class FunctionRequest(NativeSampling, kw_only=True):
    """A conversation and the tools of which one must be called."""

    messages: Messages
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=128)]
    model: str | None = None


class ToolFunction(ReplyStruct, kw_only=True):
    """The function that was called; `arguments` is JSON text that satisfies its schema."""

    name: str
    arguments: str


class ToolCall(ReplyStruct, kw_only=True):
    """One verified call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: ToolFunction


class FunctionReply(ReplyStruct, kw_only=True):
    """The call: its arguments as JSON text in `content`, and in OpenAI's shape beside it."""

    role: Literal["assistant"] = "assistant"
    content: str
    tool_calls: list[ToolCall]
