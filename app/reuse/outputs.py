"""A generation's outputs taken together, as bytes to be kept, and as deltas again."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest

import msgspec

from app.engine.base import Completion, Logprob, Output, Take, Timings

TOKENS_PER_DELTA = 16
"""Of a kept reply that is streamed. All of it is there at once, so fewer events cost everybody
less; but one event of it all, with logprobs, is a longer line than many clients read."""

CANDIDATE_BYTES = 16
"""What is kept of one candidate of the logprobs, about, and of one token twice as much."""


class MergedCompletion(msgspec.Struct, array_like=True):
    """One of `n` texts, of several outputs."""

    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob]] | None
    finish_reason: str | None


class MergedOutput(msgspec.Struct):
    """Several outputs in one."""

    outputs: Sequence[Completion]
    prompt_token_ids: Sequence[int] | None
    num_cached_tokens: int | None
    finished: bool
    metrics: Timings | None = None


class KeptLogprob(msgspec.Struct, array_like=True):
    logprob: float
    decoded_token: str | None


class KeptCompletion(msgspec.Struct, array_like=True):
    """A `base.Completion` out of a store."""

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, KeptLogprob]] | None
    finish_reason: str


class KeptReply(msgspec.Struct, array_like=True):
    """A whole reply as it is kept."""

    key: str
    """Under which it was kept. A connection that got out of step may answer with another's."""

    num_cached_tokens: int | None
    completions: list[KeptCompletion]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(KeptReply).decode


def merged(outputs: Sequence[Output]) -> MergedOutput:
    """Outputs that follow each other as one; whole replies are one already."""
    pieces: dict[int, list[Completion]] = {}
    for output in outputs:
        for completion in output.outputs:
            pieces.setdefault(completion.index, []).append(completion)
    last = outputs[-1]
    return MergedOutput(
        [joined(each) for each in pieces.values()],
        last.prompt_token_ids,
        last.num_cached_tokens,
        last.finished,
        last.metrics,
    )


def joined(pieces: Sequence[Completion]) -> MergedCompletion:
    """One choice's pieces; logprobs come with each of them or with none."""
    logprobs = [each.logprobs for each in pieces if each.logprobs is not None]
    return MergedCompletion(
        pieces[0].index,
        "".join(each.text for each in pieces),
        list(chain.from_iterable(each.token_ids for each in pieces)),
        list(chain.from_iterable(logprobs)) if logprobs else None,
        pieces[-1].finish_reason,
    )


def size_of(output: Output) -> int:
    """Bytes that a whole reply takes when it is kept, about, without making them."""
    return sum(map(completion_size, output.outputs))


def completion_size(completion: Completion) -> int:
    num_candidates = sum(map(len, completion.logprobs or ()))
    num_tokens = len(completion.token_ids)
    return len(completion.text) + CANDIDATE_BYTES * (2 * num_tokens + num_candidates)


def encode_reply(key: str, output: Output) -> bytes:
    completions = [kept(each) for each in output.outputs]
    return encode(KeptReply(key, output.num_cached_tokens, completions))


def kept(completion: Completion) -> KeptCompletion:
    places = completion.logprobs
    return KeptCompletion(
        completion.index,
        completion.text,
        list(completion.token_ids),
        None if places is None else [kept_place(each) for each in places],
        completion.finish_reason or "stop",
    )


def kept_place(candidates: Mapping[int, Logprob]) -> dict[int, KeptLogprob]:
    """In the engine's order, by which candidates of equal probability are told."""
    return {
        token_id: KeptLogprob(each.logprob, each.decoded_token)
        for token_id, each in candidates.items()
    }


def decode_reply(key: str, data: bytes) -> KeptReply | None:
    """None for what is no reply of ours, or another one's."""
    try:
        reply = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return reply if reply.key == key and reply.completions else None


class PlayedGeneration:
    """A kept reply as a `base.Generation`: the deltas of a stream, or all of it at once."""

    def __init__(self, reply: KeptReply, *, stream: bool) -> None:
        self._num_cached_tokens = reply.num_cached_tokens
        size = TOKENS_PER_DELTA if stream else sys.maxsize
        self._turns = zip_longest(*(pieces_of(each, size) for each in reply.completions))
        self._next = next(self._turns, None)

    def __aiter__(self) -> "PlayedGeneration":
        return self

    async def __anext__(self) -> Output:
        if self._next is None:
            raise StopAsyncIteration
        turn, self._next = self._next, next(self._turns, None)
        pieces = [each for each in turn if each is not None]
        return MergedOutput(pieces, None, self._num_cached_tokens, self._next is None)

    async def pushed(self, _: Take) -> Output:
        """Its deltas are larger than those that are given away."""
        return await anext(self)

    @property
    def num_tokens(self) -> int | None:
        """No engine generated any."""
        return None

    async def aclose(self) -> None:
        self._next = None


def pieces_of(completion: KeptCompletion, tokens_per_piece: int) -> Iterator[Completion]:
    """Pieces of its tokens, and of its text as evenly; only the last says how it ended."""
    num_tokens, num_chars = len(completion.token_ids), len(completion.text)
    num_pieces = max(-(-num_tokens // tokens_per_piece), 1)
    for number in range(num_pieces):
        tokens = slice(number * tokens_per_piece, (number + 1) * tokens_per_piece)
        text = slice(number * num_chars // num_pieces, (number + 1) * num_chars // num_pieces)
        yield MergedCompletion(
            completion.index,
            completion.text[text],
            completion.token_ids[tokens],
            completion.logprobs[tokens] if completion.logprobs is not None else None,
            completion.finish_reason if number == num_pieces - 1 else None,
        )
