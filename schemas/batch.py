"""`POST /batch`: many prompts at once."""

from typing import Annotated

from msgspec import Meta

from schemas.base import ReplyStruct
from schemas.messages import ContentPart
from schemas.sampling import NativeSampling
from schemas.usage import Usage

BatchPrompt = (
    Annotated[str, Meta(min_length=1)]
    | Annotated[list[ContentPart], Meta(min_length=1, max_length=1024)]
)


class BatchRequest(NativeSampling, kw_only=True):
    """Prompts that share their sampling parameters; each is text, or parts with pictures."""

    prompts: Annotated[list[BatchPrompt], Meta(min_length=1)]
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
