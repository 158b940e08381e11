"""The comparison with vLLM's own servers: what of it is arithmetic, and what its gate lets by."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tests.bench.peers.__main__ import turns
from tests.bench.peers.latency import ask
from tests.bench.peers.load import read_wrk, run_wrk
from tests.bench.peers.machine import is_engine
from tests.bench.peers.rows import ROWS, Row, peers_of, ratios
from tests.bench.peers.starting import DIRECT, OURS, PYTHON, RUST, serve_command
from tests.bench.peers.table import table
from tests.bench.peers.workloads import (
    WORKLOADS,
    Block,
    Load,
    Workload,
    WrongReply,
    chat_body,
    percentile,
    prompt,
)

STREAMS = Workload("two", connections=2, tokens=2, stream=True)
EVENTS = [
    '{"choices":[{"delta":{"role":"assistant","content":""}}]}',
    '{"choices":[{"delta":{"content":"Hello"}}]}',
    '{"choices":[{"delta":{"content":" you"}}]}',
    '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}',
    "[DONE]",
]


def block(tokens: int, cpu_seconds: float) -> Block:
    load = Load(replies=1, tokens=tokens, seconds=1, events=tokens, first_token_seconds=[0.1])
    return Block(load, cpu_seconds, load_average=1, steal=0)


def row(key: str) -> Row:
    return next(each for each in ROWS if each.key == key)


def test_ratios_are_taken_block_by_block() -> None:
    blocks = {
        OURS: [block(100, 1), block(100, 2), block(100, 9)],
        PYTHON: [block(100, 4), block(100, 4), block(100, 10)],
    }
    found = ratios(row("cpu-128"), blocks)
    assert list(found) == [PYTHON]
    assert (found[PYTHON].median, found[PYTHON].low, found[PYTHON].high) == (0.5, 0.25, 0.9)
    assert not found[PYTHON].is_met


def test_the_table_says_which_targets_are_met() -> None:
    blocks = {
        OURS: [block(200, 1)],
        PYTHON: [block(100, 1)],
        RUST: [block(400, 1)],
        DIRECT: [block(200, 1)],
    }
    said = table([row("throughput"), row("direct")], {"streams-128": blocks}).splitlines()
    assert "2.00 [2.00-2.00], target ≥ 1.25: met" in said[2]
    assert "0.50 [0.50-0.50], target ≥ 1: **missed**" in said[2]
    assert "1.00 [1.00-1.00], target ≥ 0.95: met" in said[3]


def test_every_row_has_its_workload_and_peers() -> None:
    asked = peers_of(ROWS)
    assert asked.keys() == WORKLOADS.keys()
    assert asked["streams-128"] == {OURS, PYTHON, RUST, DIRECT}


def test_turns_alternate() -> None:
    assert [*turns(["a", "b"], 0), *turns(["a", "b"], 1)] == ["a", "b", "b", "a"]


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_percentiles_are_values_that_were_seen(percent: float, expected: float) -> None:
    assert percentile(range(1, 101), percent) == expected


def test_connections_that_fail_end_the_run() -> None:
    with pytest.raises(WrongReply, match="3 connections failed"):
        read_wrk('{"replies":1,"events":2,"seconds":1,"wrong":"","errors":3}', STREAMS)


def test_engine_arguments_become_options() -> None:
    command = serve_command({"model": "m", "enable_lora": True, "log": False, "a_b": {"c": 1}})
    assert command[1:3] == ["serve", "m"]
    assert command[-4:] == ["--enable-lora", "--no-log", "--a-b", '{"c": 1}']


@pytest.mark.parametrize(
    ("name", "expected"),
    [("VLLM::EngineCor", True), ("VLLM::Worker_TP", True), ("VLLM::APIServer", False)],
)
def test_only_what_computes_is_the_engine(name: str, expected: bool) -> None:
    assert is_engine(name) is expected


async def serve(status: str, events: list[str]) -> tuple[asyncio.Server, str, list[bytes]]:
    """A server that answers each request with these events, and the bodies it was sent."""
    bodies: list[bytes] = []
    chunks = [f"data: {each}\n\n" for each in events]
    body = "".join(f"{len(chunk):x}\r\n{chunk}\r\n" for chunk in chunks) + "0\r\n\r\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\n"
    reply = f"{head}Transfer-Encoding: chunked\r\n\r\n{body}".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(asked.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", bodies


async def wrk(url: str) -> Load:
    return await asyncio.to_thread(run_wrk, url, STREAMS, "b", 1)


async def first_token(url: str) -> Load:
    return await ask(url, STREAMS, "b", 0.1)


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
CLIENTS = pytest.mark.parametrize("client", [pytest.param(wrk, marks=needs_wrk), first_token])


@CLIENTS
async def test_whole_streams_are_counted(client: Callable[[str], Awaitable[Load]]) -> None:
    server, url, bodies = await serve("200 OK", EVENTS)
    async with server:
        load = await client(url)
    assert load.replies > 2
    assert load.tokens == load.events == 2 * load.replies
    assert len(set(bodies)) == len(bodies)
    assert msgspec.json.encode(chat_body(prompt("b", 2), 2, stream=True)) in bodies


@CLIENTS
@pytest.mark.parametrize(
    ("status", "events"),
    [
        ("503 Service Unavailable", EVENTS),
        ("200 OK", EVENTS[:-1]),
        ("200 OK", [*EVENTS[:3], EVENTS[-1]]),
        (
            "200 OK",
            [each.replace('completion_tokens":2', 'completion_tokens":23') for each in EVENTS],
        ),
    ],
)
async def test_replies_that_are_not_whole_end_the_run(
    client: Callable[[str], Awaitable[Load]], status: str, events: list[str]
) -> None:
    server, url, _ = await serve(status, events)
    async with server:
        with pytest.raises(WrongReply):
            await client(url)
