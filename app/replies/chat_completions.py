"""OpenAI chat replies, whole and streamed."""

from collections.abc import AsyncIterator

import msgspec
from msgspec import UNSET

from app.engine.base import Completion, Generation, Output
from app.replies.deltas import deltas
from app.replies.envelope import Envelope
from app.replies.frames import SLOT, Template, Write, frame
from app.replies.logprobs import chat_logprobs
from app.replies.usage import TokenCount
from schemas.chat_completions import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Choice,
    ChoiceDelta,
    ChunkChoice,
    ReplyMessage,
)

encode = msgspec.json.Encoder().encode


def chat_completion(
    output: Output, tokens: TokenCount, envelope: Envelope, request: ChatCompletionRequest
) -> ChatCompletion:
    """The whole reply from the engine's final output."""
    completions = sorted(output.outputs, key=lambda each: each.index)
    return ChatCompletion(
        id=envelope.id,
        created=envelope.created,
        model=envelope.model,
        choices=[choice(each, request.top_logprobs or 0) for each in completions],
        usage=tokens.detailed_usage(),
    )


def choice(completion: Completion, num_top: int) -> Choice:
    return Choice(
        index=completion.index,
        message=ReplyMessage(content=completion.text),
        logprobs=chat_logprobs(completion, num_top),
        finish_reason=completion.finish_reason or "stop",
    )


async def chat_frames(
    generation: Generation,
    tokens: TokenCount,
    envelope: Envelope,
    request: ChatCompletionRequest,
    write: Write | None = None,
) -> AsyncIterator[bytes]:
    """One event a delta; the role event rides with the first.

    What `write` sends at once is not yielded. The only two places that see each delta of a chat:
    whoever needs every token does it in here.
    """
    chunks = Chunks(envelope, request)
    async for output in deltas(generation, tokens, chunks.plain.render, write):
        for completion in output.outputs:
            yield chunks.delta(completion)
    if chunks.include_usage:
        yield chunks.usage(tokens)


class Chunks:
    """The events of one stream: constant bytes made once, only the text encoded per token."""

    def __init__(self, envelope: Envelope, request: ChatCompletionRequest) -> None:
        self.envelope = envelope
        self.num_top = request.top_logprobs or 0
        options = request.stream_options
        self.include_usage = bool(options and options.include_usage)
        self.plain = self.template(0)
        """Of plain text of the first choice."""

        self._templates = {0: self.plain}
        self._opened: set[int] = set()

    def delta(self, completion: Completion) -> bytes:
        """The event of one delta, with the choice's role event before its first."""
        opening = self.opening(completion.index)
        if completion.logprobs is None and completion.finish_reason is None:
            return opening + self.text(completion.index, completion.text)
        chunk_choice = ChunkChoice(
            index=completion.index,
            delta=ChoiceDelta(content=completion.text),
            logprobs=chat_logprobs(completion, self.num_top),
            finish_reason=completion.finish_reason,
        )
        return opening + self.event([chunk_choice])

    def text(self, index: int, text: str) -> bytes:
        """The event of plain text of a choice that is open."""
        return self._templates[index].render(text)

    def opening(self, index: int) -> bytes:
        """The event that gives a choice's role, before its first; else nothing."""
        if index in self._opened:
            return b""
        self._opened.add(index)
        if index not in self._templates:
            self._templates[index] = self.template(index)
        role = ChoiceDelta(role="assistant", content="")
        return self.event([ChunkChoice(index=index, delta=role)])

    def template(self, index: int) -> Template:
        """The event of a choice's plain text, cut around it."""
        return Template(self.event([ChunkChoice(index=index, delta=ChoiceDelta(content=SLOT))]))

    def usage(self, tokens: TokenCount) -> bytes:
        """The event without choices that carries the usage."""
        chunk = self.chunk([])
        chunk.usage = tokens.detailed_usage()
        return frame(encode(chunk))

    def event(self, choices: list[ChunkChoice]) -> bytes:
        return frame(encode(self.chunk(choices)))

    def chunk(self, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self.envelope.id,
            created=self.envelope.created,
            model=self.envelope.model,
            choices=choices,
            usage=None if self.include_usage else UNSET,
        )
