"""Reply bytes held to files: run with `--update-wire` after a wanted change, and read the diff."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.engine.base import RenderedPrompt, Sampling
from app.errors import ModelNotFound, Overloaded, PromptTooLong, encode_error
from app.replies import native
from app.replies.chat_completions import chat_completion, chat_frames
from app.replies.completions import completion, completion_frames, merged_frames
from app.replies.envelope import Envelope
from app.replies.frames import DONE
from app.replies.turns import Style, drafts, split_outputs, turn_frames, turns_completion
from app.replies.usage import TokenCount
from app.tools.attempts import Task
from app.tools.dialects import HERMES
from app.tools.offer import make_offer
from app.tools.verified import VerifiedTurns
from schemas.chat import PromptRequest
from schemas.chat_completions import ChatCompletionRequest, StreamOptions
from schemas.completions import CompletionRequest
from schemas.tools import FunctionDefinition
from tests.fake_engine import FakeEngine, FakeGeneration, FakeOutput, Script

WIRE = Path(__file__).parents[1] / "wire"
ENVELOPE = Envelope('id-"1"', 1700000000, "模型/a")
TEXT = ('He said:\n"', "\u2028data: 你", "\\好\U0001f600", "\x00\x7f")
"""Line breaks, quotes and an event's own prefix: what breaks careless framing."""

ABC = RenderedPrompt([97, 98, 99])
Golden = Any


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare bytes with a file, or write it."""

    def compare(name: str, content: bytes) -> None:
        path = WIRE / name
        if request.config.getoption("--update-wire"):
            path.write_bytes(content)
        assert path.read_bytes() == content

    return compare


async def generation(*, stream: bool, **arguments: Any) -> FakeGeneration:
    engine = FakeEngine()
    engine.enqueue(Script(pieces=TEXT))
    return await engine.submit(ABC, Sampling(arguments, stream), None)


async def final(**arguments: Any) -> FakeOutput:
    return await anext(await generation(stream=False, **arguments))


async def joined(frames: AsyncIterator[bytes]) -> bytes:
    return b"".join([each async for each in frames]) + DONE


class Connection:
    """Takes what need not wait, up to so many pieces, and what is sent; in the order of both."""

    def __init__(self, room: int) -> None:
        self.sent: list[bytes] = []
        self.num_written = 0
        self._room = room

    def write(self, body: bytes) -> bool:
        if self.num_written == self._room:
            return False
        self.num_written += 1
        self.sent.append(body)
        return True

    async def joined(self, frames: AsyncIterator[bytes]) -> bytes:
        async for each in frames:
            self.sent.append(each)
        return b"".join(self.sent) + DONE


async def numbered(source: FakeGeneration) -> AsyncIterator[tuple[int, FakeOutput]]:
    async for output in source:
        yield 0, output


def counted(output: FakeOutput) -> TokenCount:
    tokens = TokenCount(3)
    tokens.add(output)
    return tokens


def chat_request(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(messages=[], **fields)


async def test_native_replies(golden: Golden) -> None:
    output = await final()
    tokens = counted(output)
    prompt = native.prompt_reply(output, PromptRequest(prompt="a", history=[]))
    prompt.time = "2026-11-21 12:34:56"

    replies = {
        "chat": native.chat_reply(output, tokens, "模型/a"),
        "generate": native.generate_reply(output, tokens, "模型/a"),
        "assistant": native.assistant_reply(output),
        "prompt": prompt,
        "batch": native.batch_reply([output, output], tokens, "模型/a"),
    }
    for name, reply in replies.items():
        golden(f"{name}.json", msgspec.json.encode(reply))


async def test_native_streams(golden: Golden) -> None:
    deltas = native.delta_frames(await generation(stream=True), TokenCount(3), "模型/a")
    batch = native.batch_frames(numbered(await generation(stream=False)), TokenCount(3), "模型/a")

    golden("chat.sse", await joined(deltas))
    golden("batch.sse", await joined(batch))


@pytest.mark.parametrize("room", range(4))
async def test_streams_are_the_same_however_their_deltas_come(golden: Golden, room: int) -> None:
    """Those between the first and the last are given away, as far as there is room."""
    text_request = CompletionRequest(prompt="abc")

    async def check(name: str, frames_of: Any, *arguments: Any) -> None:
        connection, tokens = Connection(room), TokenCount(3)
        source = await generation(stream=True)
        frames = frames_of(source, tokens, *arguments, connection.write)
        golden(name, await connection.joined(frames))
        assert tokens.completion == len(TEXT)
        assert connection.num_written == min(room, len(TEXT) - 2)

    await check("chat_completion.sse", chat_frames, ENVELOPE, chat_request())
    await check("completion.sse", completion_frames, ENVELOPE, text_request)
    await check("chat.sse", native.delta_frames, "模型/a")


@pytest.mark.parametrize("logprobs", [False, True], ids=["plain", "logprobs"])
async def test_chat_completion(golden: Golden, logprobs: bool) -> None:
    request = chat_request(top_logprobs=1 if logprobs else None)
    arguments = {"logprobs": 1} if logprobs else {}
    output = await final(**arguments, n=2)
    options = StreamOptions(include_usage=logprobs)
    streamed = chat_request(top_logprobs=request.top_logprobs, stream_options=options)
    source = await generation(stream=True, **arguments)
    name = "chat_completion_logprobs" if logprobs else "chat_completion"

    reply = chat_completion(output, counted(output), ENVELOPE, request)
    golden(f"{name}.json", msgspec.json.encode(reply))
    golden(f"{name}.sse", await joined(chat_frames(source, TokenCount(3), ENVELOPE, streamed)))


@pytest.mark.parametrize("logprobs", [False, True], ids=["plain", "logprobs"])
async def test_completion(golden: Golden, logprobs: bool) -> None:
    request = CompletionRequest(
        prompt="abc",
        logprobs=1 if logprobs else None,
        stream_options=StreamOptions(include_usage=logprobs),
    )
    arguments = {"logprobs": 1} if logprobs else {}
    output = await final(**arguments)
    source = numbered(await generation(stream=True, **arguments))
    name = "completion_logprobs" if logprobs else "completion"

    reply = completion([output], counted(output), ENVELOPE, request)
    golden(f"{name}.json", msgspec.json.encode(reply))
    golden(f"{name}.sse", await joined(merged_frames(source, TokenCount(3), ENVELOPE, request)))


CALLS = (
    '模型<think>?\n<tool_call>\n{"name": "f", "arguments": {"a": ',
    '"你\\n</tool_call>"}}\n</tool_call>',
    '\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
)


def verified_turns(*, stream: bool, grows: bool, legacy: bool) -> VerifiedTurns:
    engine = FakeEngine()
    engine.enqueue(Script(pieces=CALLS[:2] if legacy else CALLS))
    text = {"type": "object", "properties": {"a": {"type": "string"}}}
    function = FunctionDefinition(name="f", parameters=text)
    offer = make_offer(
        [function], "tools[{}]", HERMES, required=False, single=legacy, legacy=legacy
    )
    task = Task(
        submit=lambda prompt, sampling: engine.submit(prompt, sampling, None),
        prompt=ABC,
        sampling=Sampling({"max_tokens": 9}, stream),
        max_attempts=1,
        tokens=TokenCount(3),
        count=lambda _: None,
    )
    return VerifiedTurns(task, offer, engine.tokenizer, "none", grows=grows)


@pytest.mark.parametrize(
    ("name", "grows", "legacy"),
    [
        ("tool_calls", False, False),
        ("tool_calls_incremental", True, False),
        ("function_call", False, True),
    ],
)
async def test_tool_calls(golden: Golden, name: str, grows: bool, legacy: bool) -> None:
    style = Style(msgspec.structs.replace(HERMES, id_prefix="call_1", id_chars=0), legacy)
    if not grows:
        turns = verified_turns(stream=False, grows=False, legacy=legacy)
        await turns.begin()
        choices = await drafts(turns.pieces(), style, 1)
        reply = turns_completion(choices, TokenCount(3), ENVELOPE)
        golden(f"{name}.json", msgspec.json.encode(reply))
    turns = verified_turns(stream=True, grows=grows, legacy=legacy)
    await turns.begin()
    frames = turn_frames(turns.pieces(), TokenCount(3), ENVELOPE, chat_request(), style)
    golden(f"{name}.sse", await joined(frames))


async def test_thinking(golden: Golden) -> None:
    for stream in (False, True):
        engine = FakeEngine()
        engine.enqueue(Script(pieces=("Hm.", "\n</thi", "nk>\n\n", '{"a": 1}')))
        source = await engine.submit(ABC, Sampling({}, stream), None)
        pieces = split_outputs(source, "inside")
        if stream:
            frames = turn_frames(pieces, TokenCount(3), ENVELOPE, chat_request(), Style())
            golden("thinking.sse", await joined(frames))
        else:
            choices = await drafts(pieces, Style(), 1)
            reply = turns_completion(choices, TokenCount(3), ENVELOPE)
            golden("thinking.json", msgspec.json.encode(reply))


@pytest.mark.parametrize(
    "error",
    [ModelNotFound("No.", param="model"), PromptTooLong("Long."), Overloaded("Full.")],
    ids=lambda error: str(error.code),
)
def test_errors_in_both_dialects(golden: Golden, error: Any) -> None:
    for dialect, path in (("native", "/chat"), ("openai", "/v1/chat/completions")):
        status, body = encode_error(error, path)
        golden(f"error_{error.code}_{dialect}_{status}.json", body)
