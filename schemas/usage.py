"""Token counts of one reply, and sums of them over many."""

from typing import Literal

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


class UsageSum(ReplyStruct, kw_only=True):
    """What was used by one group of requests; of what it was not grouped by, nothing is said."""

    start: str | UnsetType = UNSET
    """Beginning of the hour or day, in UTC."""

    key: str | UnsetType = UNSET
    """Alias of the key."""

    model: str | UnsetType = UNSET
    route: str | UnsetType = UNSET
    requests: int
    aborted_requests: int
    """Ended while the model was still at work for them; what it made is counted all the same."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int


class UsageReport(ReplyStruct, kw_only=True):
    """One page of sums."""

    object: Literal["list"] = "list"
    since: str
    until: str
    data: list[UsageSum]
    has_more: bool
