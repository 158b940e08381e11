"""`POST /v1/completions`: OpenAI's text completion."""

from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Raw, UnsetType, field

from schemas.base import Refusal, ReplyStruct, unread
from schemas.chat_completions import MAX_TOP_LOGPROBS, StreamOptions
from schemas.sampling import MAX_CHOICES, OpenAISampling, TokenId
from schemas.structured import ResponseFormat, StructuredOutputs
from schemas.usage import Usage

TokenIds = Annotated[list[TokenId], Meta(min_length=1, max_length=2**20)]


class CompletionRequest(OpenAISampling, kw_only=True):
    """A prompt as text or token ids, or several of either, continued without a chat template."""

    ignored: ClassVar[tuple[str, ...]] = ("user",)
    refused: ClassVar[dict[str, Refusal]] = {
        "echo": Refusal(
            "The prompt is not echoed; put it before the reply yourself",
            frozenset({b"null", b"false"}),
        ),
        "suffix": Refusal("Text cannot be inserted before a suffix", frozenset({b"null", b'""'})),
    }

    prompt: str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1, max_length=2**20)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    user: str | None = None

    best_of: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    echo: Raw = field(default_factory=unread)
    suffix: Raw = field(default_factory=unread)


class CompletionLogprobs(ReplyStruct, kw_only=True):
    """Parallel lists, one entry a token; `text_offset` counts characters of the reply."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(ReplyStruct, kw_only=True):
    """One reply to one prompt, or a piece of it in a stream."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class Completion(ReplyStruct, tag_field="object", tag="text_completion", kw_only=True):
    """The whole reply, and also each event of a stream."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: None = None
