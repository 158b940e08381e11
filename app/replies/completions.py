"""OpenAI text completions, whole and streamed; several prompts share one reply."""

from collections.abc import AsyncIterable, AsyncIterator

import msgspec
from msgspec import UNSET, UnsetType

from app.engine.base import Completion as EngineCompletion
from app.engine.base import Output
from app.replies.envelope import Envelope
from app.replies.frames import frame
from app.replies.logprobs import completion_logprobs
from app.replies.usage import TokenCount
from schemas.completions import Completion, CompletionChoice, CompletionRequest
from schemas.usage import Usage

encode = msgspec.json.Encoder().encode


def completion(
    outputs: list[Output], tokens: TokenCount, envelope: Envelope, request: CompletionRequest
) -> Completion:
    """The whole reply; choices are counted through, `n` a prompt in the prompts' order."""
    choices = Choices(request)
    ordered = [
        choices.choice(number, each)
        for number, output in enumerate(outputs)
        for each in sorted(output.outputs, key=lambda each: each.index)
    ]
    return reply(envelope, ordered, tokens.detailed_usage())


async def completion_frames(
    outputs: AsyncIterable[tuple[int, Output]],
    tokens: TokenCount,
    envelope: Envelope,
    request: CompletionRequest,
) -> AsyncIterator[bytes]:
    """One event a delta of whichever prompt it belongs to."""
    choices = Choices(request)
    include_usage = bool(request.stream_options and request.stream_options.include_usage)
    absent = None if include_usage else UNSET
    async for number, output in outputs:
        tokens.add(output)
        pieces = [choices.choice(number, each) for each in output.outputs]
        yield frame(encode(reply(envelope, pieces, absent)))
    if include_usage:
        yield frame(encode(reply(envelope, [], tokens.detailed_usage())))


class Choices:
    """Choices of one reply, and how far into its text each of them is."""

    def __init__(self, request: CompletionRequest) -> None:
        self.per_prompt = request.n or 1
        self.num_top = request.logprobs
        self._offsets: dict[int, int] = {}

    def choice(self, number: int, piece: EngineCompletion) -> CompletionChoice:
        index = number * self.per_prompt + piece.index
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(piece.text)
        return CompletionChoice(
            index=index,
            text=piece.text,
            logprobs=completion_logprobs(piece, self.num_top, offset),
            finish_reason=piece.finish_reason,
        )


def reply(
    envelope: Envelope, choices: list[CompletionChoice], usage: Usage | UnsetType | None
) -> Completion:
    return Completion(
        id=envelope.id,
        created=envelope.created,
        model=envelope.model,
        choices=choices,
        usage=usage,
    )
