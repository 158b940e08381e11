"""`POST /batch`: many prompts at once."""

from typing import Annotated

from msgspec import Meta

from schemas.base import ReplyStruct
from schemas.sampling import NativeSampling
from schemas.usage import Usage


class BatchRequest(NativeSampling, kw_only=True):
    """Prompts that share their sampling parameters."""

    prompts: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    stream: bool = False
    model: str | None = None


class BatchReply(ReplyStruct, kw_only=True):
    """The answers in the order of the prompts, and their summed usage."""

    results: list[str]
    usage: Usage
    model: str


class BatchResult(ReplyStruct, kw_only=True):
    """One event of a streamed batch: a finished answer and the place of its prompt."""

    index: int
    result: str


class BatchEnd(ReplyStruct, kw_only=True):
    """The event that closes a streamed batch, before `[DONE]`."""

    usage: Usage
    model: str
