"""OpenAI text completions, whole and streamed; several prompts share one reply."""

from collections.abc import AsyncIterable, AsyncIterator

import msgspec
from msgspec import UNSET, UnsetType

from app.engine.base import Completion as EngineCompletion
from app.engine.base import Generation, Output
from app.replies.deltas import deltas
from app.replies.envelope import Envelope
from app.replies.frames import SLOT, Template, Write, frame
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
    generation: Generation,
    tokens: TokenCount,
    envelope: Envelope,
    request: CompletionRequest,
    write: Write | None = None,
) -> AsyncIterator[bytes]:
    """One event a delta. What `write` sends at once is not yielded."""
    chunks = Chunks(envelope, request)
    async for output in deltas(generation, tokens, chunks.plain.render, write):
        yield chunks.delta(0, output)
    if chunks.include_usage:
        yield chunks.usage(tokens)


async def merged_frames(
    outputs: AsyncIterable[tuple[int, Output]],
    tokens: TokenCount,
    envelope: Envelope,
    request: CompletionRequest,
) -> AsyncIterator[bytes]:
    """One event a delta of whichever prompt it belongs to."""
    chunks = Chunks(envelope, request)
    async for number, output in outputs:
        tokens.add(output)
        yield chunks.delta(number, output)
    if chunks.include_usage:
        yield chunks.usage(tokens)


class Chunks:
    """The events of one stream."""

    def __init__(self, envelope: Envelope, request: CompletionRequest) -> None:
        self.include_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._envelope = envelope
        self._choices = Choices(request)
        self.plain = Template(self.event([CompletionChoice(index=0, text=SLOT)]))

    def delta(self, number: int, output: Output) -> bytes:
        return self.event([self._choices.choice(number, each) for each in output.outputs])

    def event(self, choices: list[CompletionChoice]) -> bytes:
        usage = None if self.include_usage else UNSET
        return frame(encode(reply(self._envelope, choices, usage)))

    def usage(self, tokens: TokenCount) -> bytes:
        """The event without choices that carries the usage."""
        return frame(encode(reply(self._envelope, [], tokens.detailed_usage())))


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
