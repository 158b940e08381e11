"""The other end of a CoreLink's sockets, and vLLM's objects around this one as far as it uses them.

Imports vLLM, whose warnings only a running test lets pass.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

import zmq
import zmq.asyncio
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, UtilityOutput
from vllm.v1.engine.core_client import BackgroundResources
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from app.engine.link import CoreLink

WAIT_SECONDS = 10
NAME = b"core"


class CoreEnd:
    def __init__(self) -> None:
        self._context, self._its_context = zmq.asyncio.Context(), zmq.Context()
        outputs, inputs = map(self._context.socket, (zmq.PULL, zmq.ROUTER))
        self.outputs, self.inputs = map(self._its_context.socket, (zmq.PUSH, zmq.DEALER))
        self.inputs.setsockopt(zmq.IDENTITY, NAME)
        for ours, its in ((outputs, self.outputs), (inputs, self.inputs)):
            its.connect(f"tcp://127.0.0.1:{ours.bind_to_random_port('tcp://127.0.0.1')}")
        self.resources = BackgroundResources(ctx=self._context, output_socket=outputs)
        self.handled: list[str] = []
        self.num_turns: list[int] = []
        self.error: BaseException | None = None
        self.ended = asyncio.Event()
        self._turns = 0
        self.client = SimpleNamespace(
            resources=self.resources,
            input_socket=inputs,
            decoder=MsgpackDecoder(EngineCoreOutputs),
            utility_results={},
            ensure_alive=lambda: None,
            abort_requests_async=self._abort,
            _format_exception=lambda error: error,
        )
        self.llm: Any = SimpleNamespace(
            engine_core=self.client,
            output_processor=self,
            log_stats=False,
            logger_manager=None,
            renderer=SimpleNamespace(mm_processor_cache=None),
        )
        self.link = CoreLink(self.llm)

    def tell(self, *names: str) -> None:
        """A step in which each of these requests has got a token."""
        outputs = [EngineCoreOutput(each, [1]) for each in names]
        self._send(EngineCoreOutputs(outputs=outputs))

    def refuse(self, call_id: int, message: str) -> None:
        self._send(EngineCoreOutputs(utility_output=UtilityOutput(call_id, message)))

    def _send(self, outputs: EngineCoreOutputs) -> None:
        self.outputs.send_multipart(MsgpackEncoder().encode(outputs))

    def process_outputs(self, outputs: list[EngineCoreOutput], *_: Any, **__: Any) -> Any:
        self.handled += [each.request_id for each in outputs]
        self.num_turns.append(self._turns)
        return SimpleNamespace(reqs_to_abort=[])

    def update_scheduler_stats(self, _: object) -> None:
        pass

    def propagate_error(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    async def _abort(self, names: list[str]) -> None:
        assert names == []

    async def until_handled(self, number: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.handled) < number:
                self._turns += 1
                await asyncio.sleep(0)

    async def close(self) -> None:
        task = self.llm.output_handler
        task.cancel()
        await asyncio.wait([task])
        self._context.destroy(linger=0)
        self._its_context.destroy(linger=0)
