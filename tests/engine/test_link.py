"""The core is heard through one task of ours, and vLLM's own are not started."""

import asyncio
import os
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from app import series
from tests.live_server import LiveServer

if TYPE_CHECKING:
    from tests.engine.core_end import CoreEnd

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]  # of vLLM's imports

WAIT_SECONDS = 10


@pytest_asyncio.fixture(loop_scope="session")
async def core() -> AsyncIterator["CoreEnd"]:
    from tests.engine.core_end import CoreEnd

    core = CoreEnd()
    core.link.open()
    yield core
    await core.close()


async def test_messages_come_in_order_and_calls_are_answered(core: "CoreEnd") -> None:
    called = asyncio.get_running_loop().create_future()
    core.client.utility_results[7] = called

    core.tell("a", "b")
    core.refuse(7, "no")
    core.tell("c")
    await core.until_handled(3)

    assert core.handled == ["a", "b", "c"]
    assert str(called.exception()) == "no"


async def test_others_have_a_turn_between_full_messages_that_have_all_come(core: "CoreEnd") -> None:
    from app.engine.link import CHUNK_SIZE

    names = [str(each) for each in range(CHUNK_SIZE)]
    for _ in range(8):
        core.tell(*names)

    await core.until_handled(8 * CHUNK_SIZE)

    assert core.handled == names * 8
    assert len(set(core.num_turns)) == 8


async def test_what_is_sent_goes_at_once(core: "CoreEnd") -> None:
    from tests.engine.core_end import NAME

    core.inputs.send(b"here I am")
    await core.client.input_socket.recv_multipart()

    await core.client._send_input_message((b"\x00", b"a request", memoryview(b"an array")), NAME)

    assert core.inputs.poll(WAIT_SECONDS * 1000)
    assert core.inputs.recv_multipart() == [b"\x00", b"a request", b"an array"]


@pytest.mark.parametrize("message", [b"ENGINE_CORE_DEAD", b"\xc1"])
async def test_the_end_of_the_core_is_everybodys_news(core: "CoreEnd", message: bytes) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    core.outputs.send(message)

    await asyncio.wait_for(core.ended.wait(), WAIT_SECONDS)
    await asyncio.wait([core.llm.output_handler], timeout=WAIT_SECONDS)

    assert core.llm.output_handler.done()
    assert isinstance(core.error, EngineDeadError) == (message != b"\xc1")
    assert core.resources.engine_dead == (message != b"\xc1")


async def test_its_descriptor_ends_with_it_also_when_the_socket_did_before(
    core: "CoreEnd", monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    monkeypatch.setattr("os.close", closed.append)
    core.tell("a")
    await core.until_handled(1)

    core.resources.output_socket.close(linger=0)  # as vLLM does it
    core.llm.output_handler.cancel()
    await asyncio.wait([core.llm.output_handler])

    monkeypatch.undo()
    assert core.ended.is_set()
    (descriptor,) = closed
    assert not asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def test_it_stands_in_vllms_place(real_server: LiveServer) -> None:
    llm = real_server.server.app.engine._llm
    await real_server.client.post("/generate", json={"prompt": "Hello", "max_tokens": 1})

    assert llm.output_handler is llm.engine_core.resources.output_queue_task
    assert llm.output_handler.get_coro().__qualname__ == "CoreLink._run"
    logger = llm.logger_manager.stat_loggers[0]
    assert isinstance(logger.counter_generation_tokens[0], series.Counter)


@pytest.mark.parametrize(
    ("client", "is_tolerant", "expected"),
    [
        ("AsyncMPClient", False, True),
        ("AsyncMPClient", True, False),
        ("DPAsyncMPClient", False, False),
    ],
)
def test_only_the_plain_client_is_linked(client: str, is_tolerant: bool, expected: bool) -> None:
    from vllm.v1.engine import core_client

    from app.engine.link import can_link

    parallel = SimpleNamespace(enable_fault_tolerance=is_tolerant)
    kind = getattr(core_client, client)
    core, config = kind.__new__(kind), SimpleNamespace(parallel_config=parallel)
    core._finalizer = lambda: None  # what its deletion calls

    llm: Any = SimpleNamespace(engine_core=core, vllm_config=config)

    assert can_link(llm) == expected
