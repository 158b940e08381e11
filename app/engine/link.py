"""What goes to and comes from the engine core, in fewer turns of the event loop.

vLLM reads its core's messages in one task and handles them in another, through pyzmq's futures and
a queue, all of it once a step; here one task does both, and what is sent is sent at once. All that
leans on the inside of vLLM's client is in here; `test_link.py` holds it against each release.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

import zmq
import zmq.asyncio
from vllm import envs
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.engine.core_client import AsyncMPClient, _process_utility_output
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.stats import IterationStats

logger = logging.getLogger(__name__)

NOW = int(zmq.NOBLOCK)
NOW_AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
"""Numbers: pyzmq's flags take three calls to be combined."""

CHUNK_SIZE = envs.VLLM_V1_OUTPUT_PROC_CHUNK_SIZE
"""Outputs, after which others have a turn."""


class Sent(Awaitable[None]):
    """What is waited for no longer."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


SENT = Sent()


class CoreLink:
    """Both sockets of one engine, from before its first message until its client is shut down."""

    def __init__(self, llm: AsyncLLMEngine) -> None:
        client = llm.engine_core
        self._llm = llm
        self._client = client
        self._incoming = same_socket(client.resources.output_socket)
        self._outgoing = same_socket(client.input_socket)
        self._num_handled = 0
        self._arrived: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Do what vLLM's two tasks would, which it does not start where there are some already."""
        task = asyncio.create_task(self._run())
        self._client.resources.output_queue_task = task
        self._llm.output_handler = task
        self._client._send_input_message = self._send

    def close(self) -> None:
        """Give the way back, and with it the cycle: what is frozen is not collected."""
        del self._client._send_input_message

    def _send(self, message: Sequence[Any], engine: bytes) -> Awaitable[None]:
        """See `AsyncMPClient._send_input_message`. The socket has no limit: it is never full."""
        self._client.ensure_alive()
        send = self._outgoing.send
        send(engine, NOW_AND_MORE)
        for part in message[:-1]:
            send(part, NOW_AND_MORE, copy=False)
        send(message[-1], NOW, copy=False)
        return SENT

    async def _run(self) -> None:
        """What ends it, ends all requests: nobody hears of the core any more."""
        try:
            await self._read()
        except asyncio.CancelledError:
            self._llm.output_processor.propagate_error(EngineDeadError())
            raise
        except Exception as error:
            logger.exception("nothing more is read of the engine core")
            self._llm.output_processor.propagate_error(self._client._format_exception(error))

    async def _read(self) -> None:
        """A descriptor of our own: the socket may be closed before this task hears of it, and its
        number be another's by then."""
        loop = asyncio.get_running_loop()
        descriptor = os.dup(self._incoming.FD)
        loop.add_reader(descriptor, self._arrive)
        try:
            await self._handle_all()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _arrive(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def _handle_all(self) -> None:
        while True:
            frames = self._received()
            if frames is None:
                self._arrived = asyncio.get_running_loop().create_future()
                await self._arrived
                self._num_handled = 0
            else:
                await self._handle(frames)

    def _received(self) -> list[zmq.Frame] | None:
        """The next message, if there is one. Only behind a None does the descriptor tell of more:
        http://api.zeromq.org/4-3:zmq-getsockopt, ZMQ_FD."""
        try:
            return self._incoming.recv_multipart(NOW, copy=False)
        except zmq.Again:
            return None

    async def _handle(self, frames: list[zmq.Frame]) -> None:
        """See `AsyncMPClient._ensure_output_queue_task`."""
        self._client.resources.validate_alive(frames)
        outputs: EngineCoreOutputs = self._client.decoder.decode(frames)
        if outputs.utility_output:
            _process_utility_output(outputs.utility_output, self._client.utility_results)
        elif outputs.outputs or outputs.scheduler_stats:
            await self._process(outputs)

    async def _process(self, step: EngineCoreOutputs) -> None:
        """See `AsyncLLM._run_output_handler`."""
        llm, num_outputs = self._llm, len(step.outputs)
        stats = IterationStats() if llm.log_stats and num_outputs else None
        for start in range(0, num_outputs, CHUNK_SIZE):
            chunk = step.outputs[start : start + CHUNK_SIZE]
            await self._give_turn(len(chunk))
            processed = llm.output_processor.process_outputs(
                chunk, step.timestamp, stats, weight_version=step.weight_version
            )
            self._forget_missing(chunk)
            await self._client.abort_requests_async(processed.reqs_to_abort)
        llm.output_processor.update_scheduler_stats(step.scheduler_stats)
        if llm.logger_manager is not None:
            llm.logger_manager.record(
                engine_idx=step.engine_index,
                scheduler_stats=step.scheduler_stats,
                iteration_stats=stats,
                mm_cache_stats=llm.renderer.stat_mm_cache(),
            )

    async def _give_turn(self, num_outputs: int) -> None:
        """Let others go on before so many outputs, if too many have been handled since they did.

        Not between any two messages: what is done ten times in a row takes a third less than what
        alternates with all the rest (`tests/bench/README.md`).
        """
        if self._num_handled and self._num_handled + num_outputs > CHUNK_SIZE:
            await asyncio.sleep(0)
            self._num_handled = 0
        self._num_handled += num_outputs

    def _forget_missing(self, outputs: Sequence[EngineCoreOutput]) -> None:
        """Pictures that the core has no more are sent again with the next request of them."""
        cache = self._llm.renderer.mm_processor_cache
        if cache is not None:
            for output in outputs:
                for each in output.mm_cache_miss_hashes or ():
                    cache.invalidate(each)


def same_socket(socket: zmq.asyncio.Socket) -> zmq.Socket[bytes]:
    """Without futures."""
    return zmq.Socket.shadow(socket.underlying)


def can_link(llm: AsyncLLMEngine) -> bool:
    """Whether its client is the plain one: of several cores, or of one that may be replaced, vLLM's
    client learns more than outputs, in a way of its own."""
    parallel = llm.vllm_config.parallel_config
    return type(llm.engine_core) is AsyncMPClient and not parallel.enable_fault_tolerance
