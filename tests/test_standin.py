"""The stand-in engine core of the benches does what it is ordered to."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from app.demo import DEMO_MODEL_PATH
from tests.bench.standin.core import Counters, Orders
from tests.bench.standin.protocol import ADD
from tests.ports import free_port

WAIT_SECONDS = 30


class Client:
    """What vLLM's client is to a core: listens, greets it, asks."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._context = stack.enter_context(zmq.Context())
        self._context.setsockopt(zmq.LINGER, 0)
        port = free_port()
        greeting = self._socket(zmq.ROUTER, f"tcp://127.0.0.1:{port}")
        addresses = [f"ipc://{folder}/inputs", f"ipc://{folder}/outputs", f"ipc://{folder}/control"]
        self._inputs = self._socket(zmq.ROUTER, addresses[0])
        self._outputs = self._socket(zmq.PULL, addresses[1])
        command = [sys.executable, "-m", "tests.bench.standin.core", str(port)]
        core = subprocess.Popen([*command, str(DEMO_MODEL_PATH), addresses[2]])
        stack.callback(core.wait)
        stack.callback(core.kill)
        self._control = self._socket(zmq.REQ, "")
        self._control.connect(addresses[2])
        self._greet(greeting, addresses)

    def _socket(self, kind: int, address: str) -> "zmq.Socket[bytes]":
        socket = self._stack.enter_context(self._context.socket(kind))
        socket.setsockopt(zmq.RCVTIMEO, WAIT_SECONDS * 1000)
        if address:
            socket.bind(address)
        return socket

    def _greet(self, greeting: "zmq.Socket[bytes]", addresses: list[str]) -> None:
        self._core, _hello = greeting.recv_multipart()
        welcome = {"addresses": {"inputs": addresses[:1], "outputs": addresses[1:2]}}
        greeting.send_multipart([self._core, msgspec.msgpack.encode(welcome)])
        greeting.recv_multipart()
        self._inputs.recv_multipart()

    def add(self, request_id: str, max_tokens: int) -> None:
        request = [request_id, [1, 2, 3], None, {"max_tokens": max_tokens}]
        self._inputs.send_multipart([self._core, ADD, msgspec.msgpack.encode(request)])

    def tell(self, orders: Orders | None) -> Counters:
        self._control.send(msgspec.msgpack.encode(orders))
        return msgspec.msgpack.decode(self._control.recv(), type=Counters)

    def until(self, **counted: int) -> Counters:
        deadline = time.monotonic() + WAIT_SECONDS
        while any(getattr(found := self.tell(None), k) != v for k, v in counted.items()):
            assert time.monotonic() < deadline, found
        return found

    def steps(self, number: int) -> list[Any]:
        """The outputs of so many steps."""
        return [msgspec.msgpack.decode(self._outputs.recv())[1] for _ in range(number)]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with ExitStack() as stack:
        yield Client(tmp_path, stack)


def test_a_core_makes_as_many_steps_as_it_is_told(client: Client) -> None:
    client.tell(Orders(0, steps=0))
    for request_id in ("a", "b"):
        client.add(request_id, max_tokens=4)
    assert client.until(added=2).steps == 0

    client.tell(Orders(0.001, steps=3))
    outputs = client.steps(3)
    assert [[output[0] for output in each] for each in outputs] == [["a", "b"]] * 3
    assert client.until(steps=3) == Counters(steps=3, tokens=6, added=2)

    client.tell(Orders(0))
    assert client.until(finished=2) == Counters(steps=4, tokens=8, added=2, finished=2)
