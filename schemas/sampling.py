"""Sampling parameters: every one a client may send, with its meaning and range."""

from typing import Annotated

from msgspec import Meta

from schemas.base import RequestStruct

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_STOP_STRINGS = 16
MAX_CHOICES = 8

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
StopString = Annotated[str, Meta(min_length=1, max_length=256)]
NativeTokenLimit = Annotated[int, Meta(ge=1, le=4096)]
TokenLimit = Annotated[int, Meta(ge=1, le=2**20)]


class SamplingFields(RequestStruct, kw_only=True):
    """Fields that mean the same on every generating route.

    An absent or null field takes the model's own `generation_config.json`, then vLLM's default.
    """

    temperature: (
        Annotated[
            float, Meta(ge=0, le=2, description="Randomness; 0 always takes the likeliest token.")
        ]
        | None
    ) = None
    top_p: (
        Annotated[float, Meta(ge=0, le=1, description="Share of probability mass to sample from.")]
        | None
    ) = None
    top_k: (
        Annotated[
            int,
            Meta(ge=-1, le=2**31 - 1, description="Likeliest tokens to sample from; 0 or -1: all."),
        ]
        | None
    ) = None
    min_p: (
        Annotated[
            float,
            Meta(ge=0, le=1, description="Least probability, relative to the likeliest token."),
        ]
        | None
    ) = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    seed: Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=128)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**20)] | None = None
    ignore_eos: bool | None = None
    logit_bias: (
        Annotated[dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=300)]
        | None
    ) = None
    timeout: (
        Annotated[
            float,
            Meta(gt=0, le=86400, description="Seconds after which the reply is of no use."),
        ]
        | None
    ) = None


class NativeSampling(SamplingFields, kw_only=True):
    """Sampling on the native routes, with the seeds' range of 1 to 4096 new tokens."""

    max_tokens: NativeTokenLimit | None = None
    max_new_tokens: NativeTokenLimit | None = None


class OpenAISampling(SamplingFields, kw_only=True):
    """Sampling on the `/v1` routes; the three spellings of the token limit are one parameter."""

    max_tokens: TokenLimit | None = None
    max_new_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
