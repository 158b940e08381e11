"""The engine's logprobs in OpenAI's two shapes."""

from collections.abc import Mapping

from app.engine.base import Completion, Logprob
from schemas.chat_completions import ChoiceLogprobs, TokenLogprob, TopLogprob
from schemas.completions import CompletionLogprobs

LEAST_LOGPROB = -9999.0
"""JSON has no minus infinity; OpenAI writes this for impossible tokens."""


def chat_logprobs(completion: Completion, num_top: int) -> ChoiceLogprobs | None:
    """None where logprobs were not asked for."""
    if completion.logprobs is None:
        return None
    places = zip(completion.token_ids, completion.logprobs, strict=True)
    return ChoiceLogprobs(content=[token_logprob(*place, num_top) for place in places])


def token_logprob(token_id: int, candidates: Mapping[int, Logprob], num_top: int) -> TokenLogprob:
    chosen = candidates[token_id]
    token = chosen.decoded_token or ""
    return TokenLogprob(
        token=token,
        logprob=finite(chosen.logprob),
        bytes=list(token.encode()),
        top_logprobs=[top_logprob(each) for each in likeliest(candidates, num_top)],
    )


def top_logprob(candidate: Logprob) -> TopLogprob:
    token = candidate.decoded_token or ""
    return TopLogprob(token=token, logprob=finite(candidate.logprob), bytes=list(token.encode()))


def completion_logprobs(
    completion: Completion, num_top: int | None, offset: int
) -> CompletionLogprobs | None:
    """Four parallel lists; `offset` is where this piece of text begins in the reply."""
    if completion.logprobs is None:
        return None
    lists = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for token_id, candidates in zip(completion.token_ids, completion.logprobs, strict=True):
        token = candidates[token_id].decoded_token or ""
        lists.tokens.append(token)
        lists.token_logprobs.append(finite(candidates[token_id].logprob))
        lists.top_logprobs.append(
            {c.decoded_token or "": finite(c.logprob) for c in likeliest(candidates, num_top or 0)}
        )
        lists.text_offset.append(offset)
        offset += len(token)
    return lists


def likeliest(candidates: Mapping[int, Logprob], num_top: int) -> list[Logprob]:
    return sorted(candidates.values(), key=lambda each: -each.logprob)[:num_top]


def finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
