"""An engine for the scorecard: as talkative as it is asked to be, and it keeps nothing."""

import asyncio
from collections.abc import Sequence

from prometheus_client import Gauge

from app.engine.base import ANYBODY, Adapter, Limits, Origin, RenderedPrompt, Sampling, Take
from tests.fake_engine import FakeCompletion, FakeEngine, FakeOutput, FakeTimings

PIECE = "token " * 16
USUAL_TOKENS = 8
TOKEN_SECONDS = 0.005
CONTEXT = 2**17
RUNNING = Gauge("vllm:num_requests_running", "Named as vLLM names it, so that tests read either.")


class TalkingGeneration:
    """The same piece again and again at an engine's pace, or all of it in the end."""

    def __init__(self, token_ids: Sequence[int], sampling: Sampling) -> None:
        self._token_ids = token_ids
        self._stream = sampling.stream
        self._num_choices = sampling.arguments.get("n", 1)
        self._num_left = self._num_tokens = num_tokens(sampling)
        self._is_running = True
        RUNNING.inc()

    @property
    def num_tokens(self) -> int:
        return self._num_choices * (self._num_tokens - self._num_left)

    def __aiter__(self) -> "TalkingGeneration":
        return self

    async def __anext__(self) -> FakeOutput:
        if not self._num_left:
            raise StopAsyncIteration
        count = 1 if self._stream else self._num_left
        await asyncio.sleep(TOKEN_SECONDS * count)
        self._num_left -= count
        return self._output(count)

    async def pushed(self, take: Take) -> FakeOutput:
        """As vLLM's client does: nobody wakes up for what is taken."""
        if self._num_choices > 1:
            return await anext(self)
        loop = asyncio.get_running_loop()
        output: asyncio.Future[FakeOutput] = loop.create_future()

        def talk() -> None:
            nonlocal timer
            self._num_left -= 1
            if self._num_left and take(PIECE, [0]):
                timer = loop.call_later(TOKEN_SECONDS, talk)
            else:
                output.set_result(self._output(1))

        timer = loop.call_later(TOKEN_SECONDS, talk)
        try:
            return await output
        finally:
            timer.cancel()

    def _output(self, count: int) -> FakeOutput:
        finished = not self._num_left
        reason = "length" if self._num_tokens > USUAL_TOKENS else "stop"
        completions = [
            FakeCompletion(
                index, PIECE * count, [0] * count, finish_reason=reason if finished else None
            )
            for index in range(self._num_choices)
        ]
        metrics = FakeTimings() if finished else None
        return FakeOutput(completions, list(self._token_ids), finished, metrics=metrics)

    async def aclose(self) -> None:
        if self._is_running:
            self._is_running = False
            RUNNING.dec()


class TalkingEngine(FakeEngine):
    """Says `max_tokens` tokens if `ignore_eos` is set, as vLLM does, and few if it is not."""

    def __init__(self, max_num_seqs: int = 256) -> None:
        super().__init__(Limits(CONTEXT, 256, 1, max_num_seqs=max_num_seqs))

    async def submit(  # type: ignore[override]
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> TalkingGeneration:
        return TalkingGeneration(prompt.token_ids, sampling)


def num_tokens(sampling: Sampling) -> int:
    most: int = sampling.arguments["max_tokens"]
    return most if sampling.arguments.get("ignore_eos") else min(most, USUAL_TOKENS)
