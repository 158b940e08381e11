"""Token counts of one reply."""

from msgspec import UNSET, UnsetType

from schemas.base import ReplyStruct


class PromptTokensDetails(ReplyStruct, kw_only=True):
    """Where prompt tokens came from."""

    cached_tokens: int


class Usage(ReplyStruct, kw_only=True):
    """Tokens read and written for one request, in OpenAI's names."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET
