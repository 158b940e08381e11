"""Request fields to engine arguments: the one mapping."""

from typing import Any

from app.engine.base import Constraint, Limits, Sampling
from app.errors import InvalidRequest
from schemas.chat_completions import ChatCompletionRequest
from schemas.completions import CompletionRequest
from schemas.sampling import INT64_MAX, OpenAISampling, SamplingFields

SAME_NAME = tuple(name for name in SamplingFields.__struct_fields__ if name != "timeout")
"""Spelled alike by OpenAI or vLLM on the wire and by vLLM inside."""

TOKEN_LIMITS = ("max_tokens", "max_new_tokens", "max_completion_tokens")
GREEDY_CHOICES = {"temperature": 1.0, "top_k": 1}
"""vLLM refuses several choices at temperature 0, OpenAI does not; one candidate is as greedy."""

RETRY_TEMPERATURE = RETRY_TOP_P = 0.7
"""The least with which a reply that was wrong is generated anew, lest it be the same again."""

SMALLEST_TOP_P = 1e-9
"""OpenAI allows top_p 0 and means the likeliest token; vLLM wants it above 0."""


def sampling_for(
    fields: SamplingFields,
    limits: Limits,
    prompt_tokens: int,
    *,
    default_max_tokens: int | None = None,
    stream: bool = False,
    constraint: Constraint | None = None,
) -> Sampling:
    """The engine's arguments for a request whose prompt has so many tokens.

    The token limit is cut to what the context leaves. Raises InvalidRequest.
    """
    arguments = {name: value for name in SAME_NAME if (value := getattr(fields, name)) is not None}
    if "top_p" in arguments:
        arguments["top_p"] = max(arguments["top_p"], SMALLEST_TOP_P)
    room = limits.max_model_len - prompt_tokens
    arguments["max_tokens"] = min(token_limit(fields) or default_max_tokens or room, room)
    check_min_tokens(fields, arguments["max_tokens"])
    check_end(fields, constraint)
    check_token_ids(fields, limits.vocabulary_size)
    arguments |= choices(fields)
    if arguments.get("n", 1) > 1 and fields.temperature == 0:
        arguments |= GREEDY_CHOICES
    return Sampling(arguments, stream, constraint)


def token_limit(fields: SamplingFields) -> int | None:
    """The limit under whichever of its names it was sent. Raises InvalidRequest if two disagree."""
    sent = {name: getattr(fields, name, None) for name in TOKEN_LIMITS}
    given = {name: value for name, value in sent.items() if value is not None}
    if len(set(given.values())) > 1:
        names = " and ".join(f"{name}={value}" for name, value in given.items())
        raise InvalidRequest(f"{names} disagree; they mean the same.", param=next(iter(given)))
    return next(iter(given.values()), None)


def check_min_tokens(fields: SamplingFields, max_tokens: int) -> None:
    if fields.min_tokens is not None and fields.min_tokens > max_tokens:
        raise InvalidRequest(
            f"min_tokens: expected at most the {max_tokens} tokens that can be generated, "
            f"got {fields.min_tokens}.",
            param="min_tokens",
        )


def check_end(fields: SamplingFields, constraint: Constraint | None) -> None:
    """At the end of constrained text only the end is allowed, so it cannot be put off."""
    for name in ("ignore_eos", "min_tokens"):
        if constraint is not None and getattr(fields, name):
            raise InvalidRequest(
                f"{name}: not together with tools or a format; those say where the reply ends.",
                param=name,
            )


def retried(sampling: Sampling, attempt: int, constraint: Constraint, max_tokens: int) -> Sampling:
    """The same for one choice that is generated anew, so that it becomes another."""
    arguments = dict(sampling.arguments) | {"max_tokens": max_tokens}
    arguments["temperature"] = max(arguments.get("temperature", 0), RETRY_TEMPERATURE)
    if "top_p" in arguments:
        arguments["top_p"] = max(arguments["top_p"], RETRY_TOP_P)
    if arguments.get("top_k") == 1:
        del arguments["top_k"]
    if "n" in arguments:
        arguments["n"] = 1
    if "seed" in arguments:
        arguments["seed"] = (arguments["seed"] + attempt) % INT64_MAX
    return Sampling(arguments, sampling.stream, constraint)


def check_token_ids(fields: SamplingFields, vocabulary_size: int) -> None:
    """A token id outside the vocabulary is a device fault in the engine, so it stops here."""
    for name in ("logit_bias", "stop_token_ids"):
        for token_id in getattr(fields, name) or ():
            if token_id >= vocabulary_size:
                raise InvalidRequest(
                    f"{name}: token id {token_id} is not below the vocabulary's size of "
                    f"{vocabulary_size}.",
                    param=name,
                )


def choices(fields: SamplingFields) -> dict[str, Any]:
    """What only the `/v1` routes have: several choices, and logprobs in two spellings."""
    if not isinstance(fields, OpenAISampling):
        return {}
    arguments: dict[str, Any] = {"n": fields.n or 1}
    if isinstance(fields, ChatCompletionRequest):
        if fields.top_logprobs is not None and not fields.logprobs:
            raise InvalidRequest("top_logprobs: needs logprobs to be true.", param="top_logprobs")
        if fields.logprobs:
            arguments["logprobs"] = fields.top_logprobs or 0
    if isinstance(fields, CompletionRequest) and fields.logprobs is not None:
        arguments["logprobs"] = fields.logprobs
    return arguments
