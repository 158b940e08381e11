"""The stand-in engine core: answers a vLLM client at any pace and computes nothing.

`python -m tests.bench.standin.core PORT MODEL CONTROL`: greets the client that listens for cores
of other machines at 127.0.0.1:PORT, and takes orders at the ZMQ address CONTROL (see `Orders`).
Every request gets a token a step until its `max_tokens`; there is one message a step.
"""

import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from app.engine.leash import tie
from tests.bench.standin.protocol import (
    ABORT,
    ADD,
    LENGTH,
    QUEUED,
    SCHEDULED,
    UTILITY,
    Addresses,
    Call,
    Event,
    Output,
    Outputs,
    PrefillStats,
    Ready,
    Request,
    SchedulerStats,
    UtilityOutput,
    Welcome,
)
from tests.bench.standin.speech import Speech

IDENTITY = (0).to_bytes(2, "little")
MAX_MODEL_LEN = 2**20
"""A client that is told a smaller one keeps to that."""

MAX_NUM_SEQS = 4096
ANSWERS: dict[str, Any] = {
    "get_supported_tasks": ("generate",),
    "add_lora": True,
    "remove_lora": True,
    "pin_lora": True,
    "list_loras": (),
    "is_sleeping": False,
    "reset_prefix_cache": True,
    "reset_mm_cache": None,
    "reset_encoder_cache": None,
}
"""To the methods that frontends call."""


class Orders(msgspec.Struct):
    """What the bench wants: seconds between two steps, 0 for as fast as it goes; and how many.

    After so many the core waits for other orders, and still takes requests; None is no end.
    """

    step_seconds: float
    steps: int | None = None


class Counters(msgspec.Struct):
    """The answer to orders, and to None: what has been done since the start."""

    steps: int = 0
    tokens: int = 0
    added: int = 0
    finished: int = 0
    aborted: int = 0


class Answering(msgspec.Struct, gc=False):
    """A request that runs: the place of its next token, and that behind its last one."""

    request_id: str
    place: int
    end: int
    num_prompt_tokens: int
    queued: float
    is_new: bool = True


class Core:
    """One engine core with one client."""

    def __init__(self, port: int, speech: Speech, control: str) -> None:
        context = zmq.Context()
        addresses = greet(context, port)
        self._input = connect(context, zmq.DEALER, addresses.inputs[0], IDENTITY)
        self._output = connect(context, zmq.PUSH, addresses.outputs[0])
        self._control = context.socket(zmq.REP)
        self._control.bind(control)
        self._poller = zmq.Poller()
        self._poller.register(self._input, zmq.POLLIN)
        self._poller.register(self._control, zmq.POLLIN)
        self._speech = speech
        self._running: dict[str, Answering] = {}
        self._counters = Counters()
        self._step_seconds = 0.0
        self._steps_left = math.inf
        self._encoder = msgspec.msgpack.Encoder()
        self._add_decoder = msgspec.msgpack.Decoder(Request)
        self._call_decoder = msgspec.msgpack.Decoder(Call)
        self._abort_decoder = msgspec.msgpack.Decoder(list[str])
        self._orders_decoder = msgspec.msgpack.Decoder(Orders | None)
        self._input.send(self._encoder.encode(Ready(MAX_MODEL_LEN, MAX_NUM_SEQS)))

    def run(self) -> None:
        """For ever. A pace that cannot be kept is not made up for later."""
        due = time.monotonic()
        while True:
            self._listen(due)
            now = time.monotonic()
            if self._may_step and now >= due:
                self._step(now)
                due = max(due + self._step_seconds, now)

    @property
    def _may_step(self) -> bool:
        return bool(self._running) and self._steps_left > 0

    def _listen(self, due: float) -> None:
        """Take what has come; wait for it until the next step is due, if there is one."""
        left = due - time.monotonic() if self._may_step else None
        if left is not None and 0 < left < 0.001:
            time.sleep(left)  # finer than a poll
            left = 0
        for socket, _ in self._poller.poll(None if left is None else max(0, int(left * 1000))):
            if socket is self._control:
                self._take_orders()
            else:
                self._take_requests()

    def _take_requests(self) -> None:
        while self._input.poll(0):
            kind, data, *_ = self._input.recv_multipart()
            if kind == ADD:
                self._add(self._add_decoder.decode(data))
            elif kind == ABORT:
                for request_id in self._abort_decoder.decode(data):
                    self._counters.aborted += self._running.pop(request_id, None) is not None
            elif kind == UTILITY:
                self._answer(self._call_decoder.decode(data))

    def _add(self, request: Request) -> None:
        prompt = request.prompt_token_ids
        start = self._speech.start(prompt)
        self._running[request.request_id] = Answering(
            request.request_id,
            start,
            start + request.sampling_params.max_tokens,
            len(prompt),
            time.monotonic(),
        )
        self._counters.added += 1

    def _answer(self, call: Call) -> None:
        if call.method in ANSWERS:
            output = UtilityOutput(call.call_id, None, (None, ANSWERS[call.method]))
        else:
            output = UtilityOutput(call.call_id, f"The stand-in has no {call.method}.", None)
        self._send(Outputs(0, [], None, time.monotonic(), output))

    def _take_orders(self) -> None:
        orders = self._orders_decoder.decode(self._control.recv())
        if orders is not None:
            self._step_seconds = orders.step_seconds
            self._steps_left = math.inf if orders.steps is None else orders.steps
        self._control.send(self._encoder.encode(self._counters))

    def _step(self, now: float) -> None:
        """A token for each."""
        running = self._running
        outputs = [self._output_of(each, now) for each in running.values()]
        for each in [each for each in running.values() if each.place == each.end]:
            del running[each.request_id]
            self._counters.finished += 1
        self._steps_left -= 1
        self._counters.steps += 1
        self._counters.tokens += len(outputs)
        self._send(Outputs(0, outputs, SchedulerStats(len(running)), now))

    def _output_of(self, answering: Answering, now: float) -> Output:
        tokens = self._speech.tokens
        token = tokens[answering.place % len(tokens)]
        answering.place += 1
        finish_reason = LENGTH if answering.place == answering.end else None
        if not answering.is_new:
            return Output(answering.request_id, (token,), finish_reason=finish_reason)
        answering.is_new = False
        size = answering.num_prompt_tokens
        return Output(
            answering.request_id,
            (token,),
            finish_reason=finish_reason,
            events=[Event(QUEUED, answering.queued), Event(SCHEDULED, now)],
            prefill_stats=PrefillStats(size, size),
        )

    def _send(self, outputs: Outputs) -> None:
        self._output.send(self._encoder.encode(outputs))


def greet(context: zmq.Context[Any], port: int) -> Addresses:
    """The handshake of a core on another machine; where the client listens. May wait long."""
    with connect(context, zmq.DEALER, f"tcp://127.0.0.1:{port}", IDENTITY) as socket:
        for status in ("HELLO", "READY"):
            message = {"status": status, "local": False, "headless": True}
            socket.send(msgspec.msgpack.encode(message))
            if status == "HELLO":
                welcome = msgspec.msgpack.decode(socket.recv(), type=Welcome)
        socket.setsockopt(zmq.LINGER, 5000)
    return welcome.addresses


def connect(
    context: zmq.Context[Any], kind: int, address: str, identity: bytes = b""
) -> "zmq.Socket[bytes]":
    """A socket that never refuses to send, as vLLM's are."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.SNDHWM, 0)
    if kind == zmq.DEALER:
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.IDENTITY, identity)
    socket.connect(address)
    return socket


if __name__ == "__main__":
    tie(os.getppid())
    Core(int(sys.argv[1]), Speech(Path(sys.argv[2])), sys.argv[3]).run()
