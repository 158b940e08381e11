"""`POST /tokenize` and `POST /detokenize`, in vLLM's field names."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from schemas.base import ReplyStruct, RequestStruct
from schemas.messages import Messages
from schemas.sampling import TokenId


class TokenizeRequest(RequestStruct, kw_only=True):
    """Either `prompt`, taken as it is, or `messages`, rendered with the chat template."""

    prompt: str | None = None
    messages: Messages | None = None
    model: str | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool = False


class TokenizeReply(ReplyStruct, kw_only=True):
    """Token ids and the context length they count against."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | UnsetType = UNSET


class DetokenizeRequest(RequestStruct, kw_only=True):
    """Token ids to turn back into text."""

    tokens: Annotated[list[TokenId], Meta(max_length=2**20)]
    model: str | None = None


class DetokenizeReply(ReplyStruct, kw_only=True):
    """The text of the token ids."""

    prompt: str
