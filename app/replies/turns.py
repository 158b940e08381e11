"""Chat replies that were taken apart: thinking, text and tool calls, whole and streamed."""

from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Sequence

import msgspec

from app.engine.base import Output
from app.errors import InvalidRequest
from app.replies.chat_completions import Chunks, encode
from app.replies.envelope import Envelope
from app.replies.frames import frame
from app.replies.logprobs import chat_logprobs
from app.replies.usage import TokenCount
from app.tools.dialects import GENERIC, Dialect, Thinking
from app.tools.offer import Offer
from app.tools.parts import Begun, Called, Grown, Part, Ran, Said, Thought
from app.tools.turn import Turn
from app.tools.verified import Piece
from schemas.chat_completions import (
    ChatCompletion,
    ChatCompletionRequest,
    Choice,
    ChoiceDelta,
    ChoiceLogprobs,
    ChunkChoice,
    ReplyMessage,
    TokenLogprob,
)
from schemas.generate import FunctionReply
from schemas.messages import Message
from schemas.tools import FunctionDelta, ToolCall, ToolCallDelta, ToolFunction


class Style(msgspec.Struct, frozen=True):
    """How calls are told to the client."""

    dialect: Dialect = GENERIC
    legacy: bool = False
    """As `function_call`, of which there is at most one."""


def style_of(offer: Offer) -> Style:
    return Style(offer.dialect, offer.legacy)


async def split_outputs(
    outputs: AsyncIterable[Output], thinking: Thinking, tokens: TokenCount | None = None
) -> AsyncIterator[Piece]:
    """The thinking and the text of replies without calls; counts their tokens where asked to."""
    turns: defaultdict[int, Turn] = defaultdict(lambda: Turn(thinking))
    async for output in outputs:
        if tokens is not None:
            tokens.add(output)
        for completion in output.outputs:
            turn = turns[completion.index]
            parts = turn.feed(completion.text)
            if completion.finish_reason is not None:
                parts += turn.finish(cut=False)
            yield Piece(completion.index, parts, completion.finish_reason, completion)


class Draft:
    """One choice of a whole reply, as its pieces are put together."""

    def __init__(self, style: Style) -> None:
        self.calls: list[ToolCall] = []
        self.tool_turns: list[Message] = []
        self.finish_reason = "stop"
        self._style = style
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def add(self, piece: Piece, num_top: int) -> None:
        for part in piece.parts:
            self._add_part(part)
        logprobs = chat_logprobs(piece.completion, num_top)
        self._logprobs += logprobs.content if logprobs else []
        self.finish_reason = piece.finish_reason or self.finish_reason

    def _add_part(self, part: Part) -> None:
        match part:
            case Said():
                self._texts.append(part.text)
            case Thought():
                self._thoughts.append(part.text)
            case Ran():
                self.tool_turns += part.messages
            case Called():
                function = ToolFunction(name=part.name, arguments=part.arguments)
                self.calls.append(ToolCall(id=self._style.dialect.call_id(), function=function))

    def choice(self, index: int) -> Choice:
        return Choice(
            index=index,
            message=self.message(),
            logprobs=ChoiceLogprobs(content=self._logprobs) if self._logprobs else None,
            finish_reason=self.finish_reason,
        )

    def message(self) -> ReplyMessage:
        """The content is null where there is nothing but calls, and none that was cut off."""
        text = "".join(self._texts)
        is_wordless = not text and (self.calls or self.finish_reason == "length")
        message = ReplyMessage(content=None if is_wordless else text)
        if self._thoughts:
            message.reasoning_content = "".join(self._thoughts)
        if self.calls and self._style.legacy:
            message.function_call = self.calls[0].function
        elif self.calls:
            message.tool_calls = self.calls
        return message


async def drafts(
    pieces: AsyncIterable[Piece], style: Style, num_choices: int, num_top: int = 0
) -> list[Draft]:
    """Every choice of a reply, read to its end."""
    choices = [Draft(style) for _ in range(num_choices)]
    async for piece in pieces:
        choices[piece.index].add(piece, num_top)
    return choices


def turns_completion(
    choices: Sequence[Draft], tokens: TokenCount, envelope: Envelope
) -> ChatCompletion:
    """The whole reply."""
    reply = ChatCompletion(
        id=envelope.id,
        created=envelope.created,
        model=envelope.model,
        choices=[draft.choice(index) for index, draft in enumerate(choices)],
        usage=tokens.detailed_usage(),
    )
    if tool_turns := [turn for draft in choices for turn in draft.tool_turns]:
        reply.tool_turns = tool_turns
    return reply


def function_reply(draft: Draft) -> FunctionReply:
    """The native routes' shape of one call, or of the answer behind calls that ran here.

    Raises InvalidRequest if a call was cut off.
    """
    if draft.tool_turns and not draft.calls:
        content = draft.message().content or ""
        return FunctionReply(content=content, tool_turns=draft.tool_turns)
    if not draft.calls:
        raise incomplete_call(draft.finish_reason)
    return FunctionReply(content=draft.calls[0].function.arguments, tool_calls=draft.calls)


def incomplete_call(finish_reason: str) -> InvalidRequest:
    """The error that names what ended the reply too early."""
    if finish_reason == "length":
        param, cause = "max_new_tokens", "its tokens were used up"
    else:
        param, cause = "stop", "a stop string or token ended it"
    return InvalidRequest(f"{param}: the call was not complete when {cause}.", param=param)


async def turn_frames(
    pieces: AsyncIterable[Piece],
    tokens: TokenCount,
    envelope: Envelope,
    request: ChatCompletionRequest,
    style: Style,
) -> AsyncIterator[bytes]:
    """One event a part, and one with the finish reason."""
    chunks = TurnChunks(envelope, request, style)
    async for piece in pieces:
        if frames := chunks.frames(piece):
            yield frames
    if chunks.include_usage:
        yield chunks.usage(tokens)


class TurnChunks(Chunks):
    """The events of one stream of parts."""

    def __init__(self, envelope: Envelope, request: ChatCompletionRequest, style: Style) -> None:
        super().__init__(envelope, request)
        self._style = style
        self._num_calls: defaultdict[int, int] = defaultdict(int)
        self._logprobs: defaultdict[int, list[TokenLogprob]] = defaultdict(list)

    def frames(self, piece: Piece) -> bytes:
        """The events of one piece; logprobs of tokens without an event ride with the next."""
        frames = [self.opening(piece.index)]
        logprobs = chat_logprobs(piece.completion, self.num_top)
        self._logprobs[piece.index] += logprobs.content if logprobs else []
        for part in piece.parts:
            frames.append(self.part_event(piece.index, part))
        if piece.finish_reason is not None:
            frames.append(self.delta_event(piece.index, ChoiceDelta(), piece.finish_reason))
        return b"".join(frames)

    def part_event(self, index: int, part: Part) -> bytes:
        if isinstance(part, Ran):
            chunk = self.chunk([])
            chunk.tool_turns = list(part.messages)
            return frame(encode(chunk))
        if isinstance(part, Said) and not self._logprobs[index]:
            return self.text(index, part.text)
        return self.delta_event(index, self.delta_of(index, part))

    def delta_event(
        self, index: int, delta: ChoiceDelta, finish_reason: str | None = None
    ) -> bytes:
        content = self._logprobs.pop(index, None)
        chunk_choice = ChunkChoice(
            index=index,
            delta=delta,
            logprobs=ChoiceLogprobs(content=content) if content else None,
            finish_reason=finish_reason,
        )
        return self.event([chunk_choice])

    def delta_of(self, index: int, part: Part) -> ChoiceDelta:
        match part:
            case Said():
                return ChoiceDelta(content=part.text)
            case Thought():
                return ChoiceDelta(reasoning_content=part.text)
            case Called():
                self._num_calls[index] += 1
                return self.call(index, part.name, part.arguments)
            case Begun():
                self._num_calls[index] += 1
                return self.call(index, part.name, "")
            case Grown():
                return self.more(index, part.arguments)
        raise TypeError(f"{type(part).__name__} does not go out. This is a bug.")

    def call(self, index: int, name: str, arguments: str) -> ChoiceDelta:
        """A call, or the first of one."""
        function = FunctionDelta(name=name, arguments=arguments)
        if self._style.legacy:
            return ChoiceDelta(function_call=function)
        number, call_id = self._num_calls[index] - 1, self._style.dialect.call_id()
        call = ToolCallDelta(index=number, id=call_id, type="function", function=function)
        return ChoiceDelta(tool_calls=[call])

    def more(self, index: int, arguments: str) -> ChoiceDelta:
        """More of the latest call's arguments."""
        function = FunctionDelta(arguments=arguments)
        if self._style.legacy:
            return ChoiceDelta(function_call=function)
        call = ToolCallDelta(index=self._num_calls[index] - 1, function=function)
        return ChoiceDelta(tool_calls=[call])
