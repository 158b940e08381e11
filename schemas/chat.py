"""`POST /chat` and `POST /`: the native conversation routes."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from schemas.base import ReplyStruct
from schemas.messages import Message, Messages
from schemas.sampling import NativeSampling
from schemas.usage import Usage


class ChatRequest(NativeSampling, kw_only=True):
    """A conversation to continue; the system prompt is a `system` message."""

    messages: Messages
    stream: bool = False
    model: str | None = None


class ChatReply(ReplyStruct, kw_only=True):
    """The assistant's next turn."""

    response: str
    usage: Usage
    model: str


class PromptRequest(NativeSampling, kw_only=True):
    """One prompt; with `history` the earlier turns are taken along and given back."""

    prompt: Annotated[str, Meta(min_length=1)]
    history: Annotated[list[Message], Meta(max_length=4096)] | None = None
    model: str | None = None


class PromptReply(ReplyStruct, kw_only=True):
    """The answer to `POST /`; `history` is there if the request had one."""

    response: str
    history: list[Message] | UnsetType = UNSET
    status: int = 200
    time: str


class Delta(ReplyStruct, kw_only=True):
    """One event of a native stream: the text that came since the last one."""

    delta: str


class StreamEnd(ReplyStruct, kw_only=True):
    """The event that closes a native stream, before `[DONE]`."""

    finish_reason: str
    usage: Usage
    model: str
