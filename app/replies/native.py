"""Replies of the seeds' own routes."""

import time
from collections.abc import AsyncIterable, AsyncIterator

import msgspec

from app.engine.base import Generation, Output
from app.replies.deltas import deltas
from app.replies.frames import Write, frame
from app.replies.usage import TokenCount
from schemas.batch import BatchEnd, BatchReply, BatchResult
from schemas.chat import ChatReply, Delta, PromptReply, PromptRequest, StreamEnd
from schemas.generate import AssistantReply, GenerateReply
from schemas.messages import AssistantMessage, UserMessage

encode = msgspec.json.Encoder().encode


def text_of(output: Output) -> str:
    return output.outputs[0].text


def chat_reply(output: Output, tokens: TokenCount, model: str) -> ChatReply:
    return ChatReply(response=text_of(output), usage=tokens.usage(), model=model)


def generate_reply(output: Output, tokens: TokenCount, model: str) -> GenerateReply:
    return GenerateReply(generated_text=text_of(output), usage=tokens.usage(), model=model)


def assistant_reply(output: Output) -> AssistantReply:
    return AssistantReply(content=text_of(output))


def prompt_reply(output: Output, request: PromptRequest) -> PromptReply:
    """The time is the server's local time, as in the documents this route comes from."""
    reply = PromptReply(response=text_of(output), time=time.strftime("%Y-%m-%d %H:%M:%S"))
    if request.history is not None:
        turn = (UserMessage(content=request.prompt), AssistantMessage(content=reply.response))
        reply.history = [*request.history, *turn]
    return reply


def batch_reply(outputs: list[Output], tokens: TokenCount, model: str) -> BatchReply:
    return BatchReply(results=list(map(text_of, outputs)), usage=tokens.usage(), model=model)


async def delta_frames(
    generation: Generation, tokens: TokenCount, model: str, write: Write | None = None
) -> AsyncIterator[bytes]:
    """`{"delta"}` for each piece, then how it ended. What `write` sends at once is not yielded."""
    finish_reason = "stop"
    async for output in deltas(generation, tokens, delta_event, write):
        completion = output.outputs[0]
        finish_reason = completion.finish_reason or finish_reason
        if event := delta_event(completion.text):
            yield event
    end = StreamEnd(finish_reason=finish_reason, usage=tokens.usage(), model=model)
    yield frame(encode(end))


def delta_event(text: str) -> bytes:
    """Empty for a token that is only a part of a character."""
    return frame(encode(Delta(delta=text))) if text else b""


async def batch_frames(
    outputs: AsyncIterable[tuple[int, Output]], tokens: TokenCount, model: str
) -> AsyncIterator[bytes]:
    """`{"index", "result"}` as each prompt ends, then the summed usage."""
    async for index, output in outputs:
        tokens.add(output)
        yield frame(encode(BatchResult(index=index, result=text_of(output))))
    yield frame(encode(BatchEnd(usage=tokens.usage(), model=model)))
