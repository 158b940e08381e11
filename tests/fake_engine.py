"""An engine that says what a test scripted, and remembers what it was asked."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from PIL.Image import Image

from app.engine.base import (
    ANYBODY,
    PICTURE,
    Adapter,
    Layer,
    Limits,
    Origin,
    RenderedPrompt,
    Sampling,
    Status,
    Take,
)
from app.errors import EngineDead, GenerationFailed, InvalidRequest, ServerError
from tests.constraint_walk import check

IMAGE_PLACE = "\x00"
"""One token of the fake's: the byte 0."""

GREETING = ("Hello", ", ", "world", "!")


class FakeLogprob(msgspec.Struct):
    logprob: float
    decoded_token: str | None


class FakeCompletion(msgspec.Struct):
    index: int
    text: str
    token_ids: list[int]
    logprobs: list[Mapping[int, FakeLogprob]] | None = None
    finish_reason: str | None = None


class FakeTimings(msgspec.Struct):
    first_token_latency: float = 0.25


class FakeOutput(msgspec.Struct):
    outputs: list[FakeCompletion]
    prompt_token_ids: list[int]
    finished: bool
    num_cached_tokens: int | None = 0
    metrics: FakeTimings | None = None


class Script(msgspec.Struct):
    """One generation: pieces of text, one token each, and what happens beside them."""

    pieces: Sequence[str] = GREETING
    choices: Sequence[Sequence[str]] | None = None
    """In place of `pieces`, where choices say different things."""
    finish_reason: str = "stop"
    logprobs: bool = False
    refusal: Exception | None = None
    """Raised in place of the first output."""
    failure: Exception | None = None
    """Raised after the last piece."""
    pause: asyncio.Event | None = None
    """Awaited before every piece but the first."""
    hold: asyncio.Event | None = None
    """Awaited before the first piece."""
    num_unread: int = 0
    """Tokens made by then, if it is aborted while it is held."""


class Submission(msgspec.Struct):
    """What the engine was asked."""

    prompt: str
    sampling: Sampling
    adapter: Adapter | None
    origin: Origin
    pictures: list[Image]
    closed: asyncio.Event
    aborted: asyncio.Event


class FakeTokenizer:
    """A token a UTF-8 byte; a conversation is rendered as `role: content` lines."""

    chat_template: str | None = "<|im_start|> <tool_call>"

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode(errors="replace")

    def render(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, **arguments: Any
    ) -> str:
        if self.chat_template is None:
            raise InvalidRequest("This model has no chat template.")
        lines = [f"tool: {tool['function']['name']}" for tool in tools or ()]
        lines += [f"{message['role']}: {message['content']}" for message in messages]
        lines += [f"{name}={value}" for name, value in arguments.items() if value is not True]
        return "\n".join(lines).replace(PICTURE, IMAGE_PLACE)


class Turn(msgspec.Struct):
    """What one choice adds at a time."""

    index: int
    pieces: Sequence[str]
    is_last: bool


class FakeGeneration:
    """Plays one script; not streaming, all its pieces are one output."""

    def __init__(self, script: Script, submission: Submission, died: asyncio.Event) -> None:
        self._script = script
        self._submission = submission
        self._died = died
        self._played = 0
        n = submission.sampling.arguments.get("n", 1)
        texts = script.choices or [script.pieces] * n
        steps = [self._steps(index, pieces) for index, pieces in enumerate(texts)]
        self._turns = [turn for step in zip_longest(*steps) for turn in step if turn]

    def _steps(self, index: int, pieces: Sequence[str]) -> list[Turn]:
        if not self._submission.sampling.stream:
            return [Turn(index, pieces, True)]
        last = len(pieces) - 1
        return [Turn(index, [piece], number == last) for number, piece in enumerate(pieces)]

    def __aiter__(self) -> "FakeGeneration":
        return self

    async def __anext__(self) -> FakeOutput:
        sampling = self._submission.sampling
        if self._played == len(self._turns):
            if self._script.failure:
                raise self._script.failure
            raise StopAsyncIteration
        if self._played and self._script.pause:
            await self._pause(self._script.pause)
        count = 1 if sampling.stream else len(self._turns)
        turns = self._turns[self._played : self._played + count]
        self._played += count
        return self._output(turns)

    async def pushed(self, take: Take) -> FakeOutput:
        arguments = self._submission.sampling.arguments
        is_plain = arguments.get("n", 1) == 1 and not {"logprobs", "stop"} & {*arguments}
        return await (given_away(self, take) if is_plain else anext(self))

    async def _pause(self, pause: asyncio.Event) -> None:
        await any_of(pause, self._submission.aborted, self._died)
        if self._died.is_set():
            raise EngineDead("The engine has died.")
        if self._submission.aborted.is_set():
            raise GenerationFailed("The engine gave the generation up.")

    def _output(self, turns: list[Turn]) -> FakeOutput:
        finished = self._played == len(self._turns) and not self._script.failure
        completions = [self._completion(turn) for turn in turns]
        prompt = list(self._submission.prompt.encode())
        metrics = FakeTimings() if finished and not self._submission.sampling.stream else None
        return FakeOutput(completions, prompt, finished, metrics=metrics)

    def _completion(self, turn: Turn) -> FakeCompletion:
        ids = list(range(len(turn.pieces)))
        places: list[Mapping[int, FakeLogprob]] = [
            {i: FakeLogprob(-0.5, piece), 99: FakeLogprob(float("-inf"), "never")}
            for i, piece in zip(ids, turn.pieces, strict=True)
        ]
        is_last = turn.is_last and not self._script.failure
        return FakeCompletion(
            turn.index,
            "".join(turn.pieces),
            ids,
            places if "logprobs" in self._submission.sampling.arguments else None,
            self._script.finish_reason if is_last else None,
        )

    @property
    def num_tokens(self) -> int:
        return sum(len(turn.pieces) for turn in self._turns[: self._played])

    async def aclose(self) -> None:
        """What streams have not played was not made either; a whole reply is made at once."""
        if self._played < len(self._turns) and not self._submission.closed.is_set():
            self._submission.origin.abandon(0)
        self._submission.closed.set()


async def given_away(outputs: AsyncIterator[FakeOutput], take: Take) -> FakeOutput:
    """The output behind those that vLLM would give away."""
    output = await anext(outputs)
    while (completion := output.outputs[0]).finish_reason is None:
        if not take(completion.text, completion.token_ids):
            break
        output = await anext(outputs)
    return output


async def any_of(*events: asyncio.Event) -> None:
    """Wait for the first of them."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class FakeEngine:
    """Plays scripts in the order in which they were queued, then greets."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.status: Status = "ready"
        self.tokenizer = FakeTokenizer()
        self.limits = limits or Limits(2048, 256, 1)
        self.layers: dict[str, Layer] = {}
        self.adapters: dict[int, Adapter] = {}
        self.pinned: list[int] = []
        self.refusal: ServerError | None = None
        self.pin_failure: ServerError | None = None
        self.tokens_per_image = 1
        self.illustrating = self.most_illustrated_at_once = 0
        self.description = "a fake"
        self.scripts: deque[Script] = deque()
        self.submissions: list[Submission] = []
        self.submitted = asyncio.Event()
        self.start_failure: ServerError | None = None
        self.died = asyncio.Event()
        self.loaded = asyncio.Event()
        self.loaded.set()
        self.beating = asyncio.Event()
        self.beating.set()
        self.adding = asyncio.Event()
        self.adding.set()

    def die(self) -> None:
        """As if its process were killed."""
        self.status = "failed"
        self.died.set()

    def reset(self) -> None:
        """Forget everything but the adapters, which belong to the server."""
        adapters = self.adapters
        self.__init__()  # type: ignore[misc]
        self.adapters = adapters

    def enqueue(self, *scripts: Script) -> None:
        self.scripts.extend(scripts)

    @property
    def asked(self) -> Submission:
        """The latest submission."""
        return self.submissions[-1]

    async def start(self) -> None:
        await any_of(self.loaded, self.died)
        if self.start_failure or self.died.is_set():
            self.die()
            raise self.start_failure or EngineDead("The engine has died.")

    async def add_adapter(self, adapter: Adapter) -> None:
        await any_of(self.adding, self.died)
        if self.refusal:
            raise self.refusal
        self.adapters[adapter.number] = adapter

    async def remove_adapter(self, adapter: Adapter) -> None:
        del self.adapters[adapter.number]
        self.pinned = [number for number in self.pinned if number != adapter.number]

    async def pin_adapter(self, adapter: Adapter) -> None:
        assert adapter.number in self.adapters
        if self.pin_failure:
            raise self.pin_failure
        self.pinned.append(adapter.number)

    async def illustrate(self, prompt: RenderedPrompt, images: Sequence[Image]) -> RenderedPrompt:
        """A picture's place becomes more of the same token."""
        self.illustrating += 1
        self.most_illustrated_at_once = max(self.illustrating, self.most_illustrated_at_once)
        await asyncio.sleep(0)
        self.illustrating -= 1
        token_ids = [
            token_id
            for each in prompt.token_ids
            for token_id in [each] * (1 if each else self.tokens_per_image)
        ]
        hashes = tuple(f"{each.size} {each.tobytes().hex()}" for each in images)
        return msgspec.structs.replace(
            prompt, token_ids=token_ids, pictures=list(images), picture_hashes=hashes
        )

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> FakeGeneration:
        if self.status == "failed":
            raise EngineDead("The engine has died.")
        if sampling.constraint is not None:
            check(sampling.constraint)
        script = self.scripts.popleft() if self.scripts else Script()
        submission = Submission(
            self.tokenizer.decode(prompt.token_ids),
            sampling,
            adapter,
            origin,
            prompt.pictures or [],
            asyncio.Event(),
            asyncio.Event(),
        )
        self.submissions.append(submission)
        self.submitted.set()
        try:
            await self._begin(script)
        except asyncio.CancelledError:
            origin.abandon(script.num_unread)
            submission.closed.set()
            raise
        except BaseException:
            submission.closed.set()
            raise
        return FakeGeneration(script, submission, self.died)

    async def _begin(self, script: Script) -> None:
        if script.hold:
            await any_of(script.hold, self.died)
        if self.died.is_set():
            raise EngineDead("The engine has died.")
        if script.refusal:
            raise script.refusal

    async def abort_all(self) -> None:
        for submission in self.submissions:
            submission.aborted.set()

    async def heartbeat(self) -> None:
        """Waits as long as the engine hangs."""
        await any_of(self.beating, self.died)
        if self.died.is_set():
            raise EngineDead("The engine has died.")

    async def close(self) -> None:
        self.die()
