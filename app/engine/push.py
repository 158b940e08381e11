"""Plain deltas of streams, taken off vLLM's hands before they wake anybody.

All that leans on the inside of vLLM's output processor is in here; `test_push.py` holds it against
each release. What is not plain goes vLLM's own way, and so does everything else of the request.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vllm import envs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer
from vllm.v1.engine.output_processor import (
    OutputProcessor,
    OutputProcessorOutput,
    RequestState,
)
from vllm.v1.metrics.stats import IterationStats

from app.engine.base import Take

logger = logging.getLogger(__name__)


COMPUTE_NANS = bool(envs.VLLM_COMPUTE_NANS_IN_LOGITS)


class Pushed:
    """One request whose plain deltas are taken."""

    __slots__ = ("decode_next", "state", "stats", "take", "token_ids")

    def __init__(self, state: RequestState, take: Take) -> None:
        detokenizer: Any = state.detokenizer
        self.state = state
        self.stats: Any = state.stats
        self.take = take
        self.decode_next: Callable[[int], str] = detokenizer.decode_next
        self.token_ids: list[int] = detokenizer.token_ids

    def count(self, num_tokens: int, timestamp: float, step: IterationStats) -> None:
        """`IterationStats.update_from_output`, as far as it concerns tokens behind the first."""
        stats = self.stats
        stats.num_generation_tokens += num_tokens
        step.num_generation_tokens += num_tokens
        step.inter_token_latencies_iter.append(timestamp - stats.last_token_ts)
        stats.last_token_ts = timestamp

    def hand_over(self, token_ids: list[int]) -> bool:
        """Whether the tokens were taken. What is not taken waits for the reader.

        A reader whose `take` fails learns of it, and nobody else does.
        """
        self.token_ids += token_ids
        decode_next = self.decode_next
        text = (
            decode_next(token_ids[0])
            if len(token_ids) == 1
            else "".join(map(decode_next, token_ids))
        )
        try:
            if self.take(text, token_ids):
                return True
        except Exception as error:
            logger.exception("a delta could not be delivered")
            self.state.queue.put(error)
        else:
            self.put_back(text, token_ids)
        return False

    def put_back(self, text: str, token_ids: list[int]) -> None:
        """Make the output that vLLM would have made of a delta."""
        self.state.detokenizer.output_text += text
        self.state.queue.put(self.state.make_request_output(token_ids, None, None, None))


class PushProcessor:
    """In front of `OutputProcessor.process_outputs` of one engine."""

    def __init__(self, processor: OutputProcessor, coalesce_seconds: float = 0) -> None:
        """While outputs are older than `coalesce_seconds`, unless that is 0, nothing is given away:
        what waits in vLLM's collectors becomes one output a stream."""
        self._coalesce_seconds = coalesce_seconds
        self._processor = processor
        self._states = processor.request_states
        self._pushed: dict[str, Pushed] = {}
        self._process = processor.process_outputs
        processor.process_outputs = self.process

    def close(self) -> None:
        """Give the way back, and with it the cycle: what is frozen is not collected."""
        del self._processor.process_outputs

    @contextmanager
    def giving(self, name: str, take: Take) -> Iterator[None]:
        """In here the deltas of the request that vLLM calls so are taken, if it is plain; else
        they wait for its reader."""
        state = self._states.get(name)
        if state is not None and is_plain(state):
            self._pushed[name] = Pushed(state, take)
        try:
            yield
        finally:
            self._pushed.pop(name, None)

    def process(
        self,
        engine_core_outputs: list[EngineCoreOutput],
        engine_core_timestamp: float | None = None,
        iteration_stats: IterationStats | None = None,
        weight_version: str | None = None,
    ) -> OutputProcessorOutput:
        """See `OutputProcessor.process_outputs`."""
        left = engine_core_outputs
        if self._pushed and self._is_behind(engine_core_timestamp):
            for each in left:
                self._pushed.pop(each.request_id, None)  # until its reader asks for more
        elif self._pushed:
            news = (engine_core_timestamp, iteration_stats, weight_version)
            left = [each for each in left if not self._push(each, *news)]
        return self._process(
            left, engine_core_timestamp, iteration_stats, weight_version=weight_version
        )

    def _is_behind(self, timestamp: float | None) -> bool:
        """Whether outputs have waited long for the event loop. Cores on other machines have clocks
        of their own: `time.monotonic` means nothing there."""
        limit = self._coalesce_seconds
        return limit > 0 and timestamp is not None and time.monotonic() - timestamp > limit

    def _push(
        self,
        output: EngineCoreOutput,
        timestamp: float | None,
        stats: IterationStats | None,
        weight_version: str | None,
    ) -> bool:
        """Whether vLLM is left nothing to do. What ends a request goes to its reader."""
        name = output.request_id
        pushed = self._pushed.get(name)
        if pushed is None:
            return False
        if output.finish_reason is not None or name not in self._states:
            del self._pushed[name]
            return False
        if weight_version is not None:
            pushed.state.track_weight_version(weight_version)
        if output.events is not None or COMPUTE_NANS:
            self._processor._update_stats_from_output(pushed.state, output, timestamp, stats)
        elif stats is not None and timestamp is not None:
            pushed.count(len(output.new_token_ids), timestamp, stats)
        if not pushed.hand_over(output.new_token_ids):
            del self._pushed[name]
        return True


def is_plain(state: RequestState) -> bool:
    """Whether each of its deltas is the text of its tokens, and nothing else."""
    detokenizer, logprobs = state.detokenizer, state.logprobs_processor
    return (
        state.output_kind is RequestOutputKind.DELTA
        and state.queue is not None
        and state.parent_req is None
        and state.stream_interval == 1
        and not state.is_prefilling
        and not state.streaming_input
        and isinstance(detokenizer, BaseIncrementalDetokenizer)
        and not detokenizer.stop
        and logprobs is not None
        and logprobs.num_logprobs is None
        and logprobs.num_prompt_logprobs is None
    )
