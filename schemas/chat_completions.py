"""`POST /v1/chat/completions`: OpenAI's request, reply and chunks."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Raw, UnsetType, field

from schemas.base import CHOOSE_NONE, EMPTY, Refusal, ReplyStruct, RequestStruct, unread
from schemas.messages import Messages
from schemas.sampling import OpenAISampling
from schemas.usage import Usage

MAX_TOP_LOGPROBS = 20


class StreamOptions(RequestStruct, kw_only=True):
    """What else a stream carries; `include_obfuscation` is accepted and not acted on."""

    include_usage: bool = False
    include_obfuscation: bool = False


class TextFormat(RequestStruct, tag_field="type", tag="text", kw_only=True):
    """Free text."""


class JSONObjectFormat(RequestStruct, tag_field="type", tag="json_object", kw_only=True):
    """Any JSON object."""


class JSONSchema(RequestStruct, kw_only=True):
    """A named schema; `strict` or not, the reply is bound to it."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class JSONSchemaFormat(RequestStruct, tag_field="type", tag="json_schema", kw_only=True):
    """JSON that satisfies a schema."""

    json_schema: JSONSchema


ResponseFormat = TextFormat | JSONObjectFormat | JSONSchemaFormat


class ChatCompletionRequest(OpenAISampling, kw_only=True):
    """Every field that openai-python types, and vLLM's common extras from `SamplingFields`.

    `ignored` are accepted without effect and named in the `x-ignored-params` header; those in
    `refused` are typed only so that their error says more than "unknown field".
    """

    ignored: ClassVar[tuple[str, ...]] = (
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    )
    refused: ClassVar[dict[str, Refusal]] = {
        "audio": Refusal("This server does not generate audio"),
        "function_call": Refusal("Functions are not supported on this route", CHOOSE_NONE),
        "functions": Refusal("Functions are not supported on this route", EMPTY),
        "moderation": Refusal("This server has no moderation model"),
        "tool_choice": Refusal("There are no tools on this route to choose from", CHOOSE_NONE),
        "tools": Refusal(
            "Tools are not supported on this route; use POST /generate_with_function", EMPTY
        ),
        "web_search_options": Refusal("This server does not search the web"),
    }

    messages: Messages
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )

    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: Raw = field(default_factory=unread)
    prompt_cache_key: str | None = None
    prompt_cache_options: Raw = field(default_factory=unread)
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None
    verbosity: str | None = None

    audio: Raw = field(default_factory=unread)
    function_call: Raw = field(default_factory=unread)
    functions: Raw = field(default_factory=unread)
    moderation: Raw = field(default_factory=unread)
    tool_choice: Raw = field(default_factory=unread)
    tools: Raw = field(default_factory=unread)
    web_search_options: Raw = field(default_factory=unread)


class TopLogprob(ReplyStruct, kw_only=True):
    """A token that could have stood here; `bytes` are its UTF-8 bytes."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob, kw_only=True):
    """A token of the reply and its likeliest alternatives."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(ReplyStruct, kw_only=True):
    """Logprobs of a choice, or of one chunk of it."""

    content: list[TokenLogprob]
    refusal: None = None


class ReplyMessage(ReplyStruct, kw_only=True):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(ReplyStruct, kw_only=True):
    """One of `n` replies."""

    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str


class ChatCompletion(ReplyStruct, tag_field="object", tag="chat.completion", kw_only=True):
    """The whole reply."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: None = None


class ChoiceDelta(ReplyStruct, kw_only=True):
    """What one chunk adds to a choice."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(ReplyStruct, kw_only=True):
    """One choice's part of a chunk."""

    index: int
    delta: ChoiceDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None


class ChatCompletionChunk(
    ReplyStruct, tag_field="object", tag="chat.completion.chunk", kw_only=True
):
    """One event of a stream; `usage` is null until the last when it was asked for."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: None = None
