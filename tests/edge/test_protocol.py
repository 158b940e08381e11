"""What a connection refuses and how, and what it lets go on."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from app.settings import Settings
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server
from tests.test_disconnect import CHAT, request

HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
PROBE = HEAD + b"\r\n"
ALIVE = b'{"status":"alive"}'
QUICK = {
    "head_seconds": 0.1,
    "body_seconds": 0.1,
    "slow_reader_seconds": 0.1,
    "min_bytes_per_second": 2**30,
}
SWEPT_SECONDS = 5
"""Sweeps come every second, and only the second one sees how long something has lasted."""


class Clock:
    """Sweeps in place of the server's, each a second after the one before."""

    def __init__(self) -> None:
        self.now = 0

    def sweep(self, live: LiveServer) -> None:
        self.now += 1
        for each in tuple(live.server.server_state.connections):
            each.sweep(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr("app.server.sweep", lambda _: None)
    return Clock()


@asynccontextmanager
async def connection(
    live: LiveServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await live.connect()
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(live: LiveServer, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of all that comes until the server closes."""
    async with connection(live) as (reader, writer):
        writer.write(sent)
        received = await asyncio.wait_for(reader.read(), SWEPT_SECONDS)
    head, _, body = received.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body.encode()


async def read_alive(reader: asyncio.StreamReader) -> None:
    await asyncio.wait_for(reader.readuntil(ALIVE), 5)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400, "malformed_http"),
        (b"\x16\x03\x01\x02\x00", 400, "malformed_http"),
        (b"GET /v1/models?" + b"a" * 10_000, 414, "url_too_long"),
        (b"GET /v1/models HTTP/1.1\r\n" + b"a: b\r\n" * 300, 431, "headers_too_large"),
        (b"GET /v1/models HTTP/1.1\r\na: " + b"b" * 400_000, 431, "headers_too_large"),
    ],
)
async def test_refusal_is_an_error_object_and_the_end(
    live: LiveServer, sent: bytes, status: int, code: str
) -> None:
    found, headers, body = await ask(live, sent)

    assert (found, headers["connection"]) == (status, "close")
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    assert msgspec.json.decode(body)["error"]["code"] == code


async def test_native_path_is_refused_in_its_own_dialect(live: LiveServer) -> None:
    status, _, body = await ask(live, b"GET /chat HTTP/1.1\r\n\r\n")

    assert status == 400
    assert set(msgspec.json.decode(body)) == {"detail"}


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_limits_hold_however_the_bytes_are_cut(live: LiveServer, size: int) -> None:
    settings = live.server.app.litestar.state.settings
    fits = b"a: " + b"b" * (settings.max_header_bytes - 1000)
    too_long = b"a: " + b"b" * (settings.max_header_bytes + settings.max_url_bytes)
    for line, expected in ((fits, 200), (too_long, 431)):
        async with connection(live) as (reader, writer):
            sent = HEAD + line + b"\r\n\r\n"
            for start in range(0, len(sent), max(size, len(sent) // 20)):
                writer.write(sent[start : start + max(size, len(sent) // 20)])
                await writer.drain()
            reply = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        assert f" {expected} ".encode() in reply


async def test_refusal_reaches_a_client_that_is_still_sending(live: LiveServer) -> None:
    async with connection(live) as (reader, writer):
        writer.write(HEAD + b"a: ")
        for _ in range(20):
            writer.write(b"b" * 2**20)
        reply = await asyncio.wait_for(reader.read(), 5)

    assert b" 431 " in reply


@pytest.mark.parametrize("more", [b"1;" + b"a" * 2**19, b"0\r\nX: " + b"a" * 2**19])
async def test_endless_frame_around_a_body_is_refused(live: LiveServer, more: bytes) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    status, _, _ = await ask(live, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + more)

    assert status == 431


async def test_trailers_do_not_change_a_head(live: LiveServer, engine: FakeEngine) -> None:
    body = msgspec.json.encode({"prompt": "a"})
    async with connection(live) as (reader, writer):
        writer.write(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n0\r\nX-Request-Id: late\r\nHost: y\r\n\r\n" % (len(body), body))
        reply = await asyncio.wait_for(reader.readuntil(b"}"), 5)

    assert b" 200 " in reply
    assert b"late" not in reply


async def test_requests_sent_ahead_are_answered_in_order(live: LiveServer) -> None:
    async with connection(live) as (reader, writer):
        ids = [f"request-{number}" for number in range(10)]
        for name in ids:
            writer.write(HEAD + f"X-Request-Id: {name}\r\n\r\n".encode())
        seen = b""
        for _ in ids:
            seen += await asyncio.wait_for(reader.readuntil(ALIVE), 5)

    assert re.findall(r"x-request-id: (\S+)", seen.decode()) == ids


async def test_too_many_sent_ahead_end_the_connection_behind_replies(live: LiveServer) -> None:
    async with connection(live) as (reader, writer):
        writer.write(PROBE * 1000)
        replies = await asyncio.wait_for(reader.read(), 5)

    assert 1 <= replies.count(ALIVE) < 100
    assert replies.endswith(ALIVE)


async def test_nonsense_behind_a_request_does_not_break_into_its_reply(
    live: LiveServer, engine: FakeEngine
) -> None:
    pause = asyncio.Event()
    engine.enqueue(Script(pause=pause))
    async with connection(live) as (reader, writer):
        writer.write(request("/chat", {**CHAT, "stream": True}))
        await asyncio.wait_for(reader.readuntil(b"data: "), 5)
        writer.write(b"\x00nonsense\r\n\r\n")
        await until_deaf(live)
        pause.set()
        rest = await asyncio.wait_for(reader.read(), 5)

    assert b"[DONE]" in rest
    assert b"HTTP/1.1" not in rest


async def until_deaf(live: LiveServer) -> None:
    async with asyncio.timeout(5):
        while not any(each.is_deaf for each in live.server.server_state.connections):
            await asyncio.sleep(0)


async def test_request_sent_ahead_does_not_hide_that_its_client_has_left(
    live: LiveServer, engine: FakeEngine
) -> None:
    engine.enqueue(Script(hold=asyncio.Event()))
    async with connection(live) as (_, writer):
        writer.write(request("/chat", CHAT) + request("/chat", CHAT))
        await asyncio.wait_for(engine.submitted.wait(), 5)

    await asyncio.wait_for(engine.asked.closed.wait(), 1)
    assert len(engine.submissions) == 1


async def test_other_protocols_are_answered_as_http(live: LiveServer) -> None:
    async with connection(live) as (reader, writer):
        upgrade = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        for _ in range(2):
            writer.write(upgrade)
            await read_alive(reader)
        writer.write(upgrade + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), 5)

    assert rest.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_body_stays_one_where_another_protocol_is_asked_for(
    live: LiveServer, engine: FakeEngine, is_cut: bool
) -> None:
    """Java's client asks for HTTP/2 with its first request; read as a request of its own, a body
    would be a way around whoever stands before this server."""
    body = msgspec.json.encode({"prompt": "a"}) + b" " * 100
    head = request("/generate", {"prompt": "a"}).partition(b"Content-Length")[0]
    head += b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    async with connection(live) as (reader, writer):
        writer.write(head)
        if is_cut:
            await until_requested(live)
        writer.write(body + PROBE)
        replies = await asyncio.wait_for(reader.readuntil(ALIVE), 5)

    assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"200", b"200"]
    assert [each.prompt for each in engine.submissions] == ["user: a"]


async def until_requested(live: LiveServer) -> None:
    async with asyncio.timeout(5):
        while not any(each.unanswered for each in live.server.server_state.connections):
            await asyncio.sleep(0)


async def test_a_tunnel_is_refused(live: LiveServer) -> None:
    status, headers, _ = await ask(live, b"CONNECT /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (status, headers["connection"]) == (400, "close")


@pytest.mark.parametrize("path", ["/nowhere", "/v1/models"])
async def test_a_body_that_was_announced_and_not_asked_for_is_not_waited_for(
    live: LiveServer, path: str
) -> None:
    """Its client need not send it, and what comes next would be taken for it (RFC 9110, 10.1.1)."""
    sent = f"GET {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 9\r\n\r\n"
    _, headers, _ = await ask(live, sent.encode())

    assert headers["connection"] == "close"


async def test_a_body_behind_its_refusal_leaves_the_connection_to_the_next_request(
    live: LiveServer, clock: Clock
) -> None:
    async with connection(live) as (reader, writer):
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"}"), 5)
        writer.write(b"{}")
        await until_received(live, writer, 1)
        for _ in range(20):
            clock.sweep(live)
        writer.write(PROBE)
        await read_alive(reader)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (HEAD, 408),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
         b"Content-Length: 9\r\n\r\n{", 408),
    ],
    ids=["nothing", "empty lines", "head", "body"],
)  # fmt: skip
async def test_who_does_not_go_on_is_not_waited_for(sent: bytes, status: int | None) -> None:
    async with running_server(Settings(port=0, **QUICK), FakeEngine()) as live:
        async with connection(live) as (reader, writer):
            writer.write(sent)
            reply = await asyncio.wait_for(reader.read(), SWEPT_SECONDS)
        async with asyncio.timeout(5):
            while live.server.app.admission.in_flight:
                await asyncio.sleep(0)

    assert reply.startswith(f"HTTP/1.1 {status} ".encode()) if status else reply == b""


async def test_second_head_on_a_connection_is_not_waited_for_either(
    live: LiveServer, clock: Clock
) -> None:
    async with connection(live) as (reader, writer):
        writer.write(PROBE)
        await read_alive(reader)
        writer.write(HEAD)
        await until_in_head(live)
        for _ in range(2 + int(Settings().head_seconds)):
            clock.sweep(live)
        reply = await asyncio.wait_for(reader.read(), 5)

    assert b" 408 " in reply


async def until_in_head(live: LiveServer) -> None:
    async with asyncio.timeout(5):
        while not any(each.in_head for each in live.server.server_state.connections):
            await asyncio.sleep(0)


async def test_waiting_for_the_engine_is_no_fault_of_the_client(
    live: LiveServer, engine: FakeEngine, clock: Clock
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    async with connection(live) as (reader, writer):
        writer.write(request("/chat", CHAT))
        await asyncio.wait_for(engine.submitted.wait(), 5)
        for _ in range(10_000):
            clock.sweep(live)
        hold.set()
        reply = await asyncio.wait_for(reader.readuntil(b"}"), 5)

    assert b" 200 " in reply


@pytest.mark.parametrize(("rate", "status"), [(1, 200), (2, 408)])
async def test_body_may_take_its_time_if_it_comes_fast_enough(
    clock: Clock, rate: int, status: int
) -> None:
    settings = Settings(port=0, body_seconds=4, min_bytes_per_second=rate)
    body = msgspec.json.encode({"prompt": "a"})
    async with (
        running_server(settings, FakeEngine()) as live,
        connection(live) as (reader, writer),
    ):
        writer.write(request("/generate", {"prompt": "a"}).removesuffix(body))
        for number, byte in enumerate(body):
            writer.write(bytes([byte]))
            await until_received(live, writer, number)
            clock.sweep(live)
        reply = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)

    assert f" {status} ".encode() in reply


async def until_received(live: LiveServer, writer: asyncio.StreamWriter, count: int) -> None:
    """More of the connection's body than that, or it hears nothing any more."""
    [server_side] = (
        each
        for each in live.server.server_state.connections
        if each.client == writer.get_extra_info("sockname")
    )
    async with asyncio.timeout(5):
        while not (server_side.is_deaf or server_side.body_bytes > count):
            await asyncio.sleep(0)


async def test_reader_that_does_not_read_is_cut_off_and_its_work_ends() -> None:
    engine = FakeEngine()
    engine.enqueue(Script(pieces=["x" * 2**20] * 64))
    async with running_server(Settings(port=0, **QUICK), engine) as live:
        async with connection(live) as (_, writer):
            writer.transport.pause_reading()
            writer.write(request("/chat", {**CHAT, "stream": True}))
            await asyncio.wait_for(engine.submitted.wait(), 5)
            await asyncio.wait_for(engine.asked.closed.wait(), 2 * SWEPT_SECONDS)
        async with asyncio.timeout(5):
            while live.server.app.admission.in_flight:
                await asyncio.sleep(0)


async def test_reader_that_reads_slowly_is_borne_with(clock: Clock) -> None:
    """At every sweep its reply waits; in between it reads more than the kernel holds for it."""
    engine = FakeEngine()
    engine.enqueue(Script(pieces=["x" * 2**20] * 64))
    settings = Settings(port=0, slow_reader_seconds=2, min_bytes_per_second=2**30)
    async with running_server(settings, engine) as live, connection(live) as (reader, writer):
        writer.write(request("/chat", {**CHAT, "stream": True}))
        for _ in range(8):
            await asyncio.wait_for(reader.readexactly(8 * 2**20), 5)
            clock.sweep(live)
        rest = await asyncio.wait_for(reader.readuntil(b"[DONE]"), 5)

    assert rest


async def test_more_connections_than_allowed_are_told_so() -> None:
    settings = Settings(port=0, max_connections=2)
    async with (
        running_server(settings, FakeEngine()) as live,
        connection(live) as (reader, writer),
        connection(live),
    ):
        status, headers, _ = await ask(live, b"")
        writer.write(PROBE)
        await read_alive(reader)

    assert (status, headers["retry-after"]) == (503, "1")


async def test_early_reply_does_not_listen_to_an_endless_body_for_long(clock: Clock) -> None:
    settings = Settings(port=0, max_body_bytes=1024)
    async with (
        running_server(settings, FakeEngine()) as live,
        connection(live) as (reader, writer),
    ):
        writer.write(b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 1000000000000\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(5):
                while True:
                    writer.write(b" " * 2**16)
                    await writer.drain()
                    clock.sweep(live)


async def test_connection_whose_body_was_not_wanted_can_be_used_again(clock: Clock) -> None:
    settings = Settings(port=0, max_body_bytes=1024)
    async with (
        running_server(settings, FakeEngine()) as live,
        connection(live) as (reader, writer),
    ):
        writer.write(request("/chat", {"prompt": "a" * 2**20}))
        assert b" 413 " in await asyncio.wait_for(reader.readuntil(b"}"), 5)
        async with asyncio.timeout(5):
            while any(each.cycle.more_body for each in live.server.server_state.connections):
                await asyncio.sleep(0)
        for _ in range(60):
            clock.sweep(live)
        writer.write(PROBE)
        await read_alive(reader)
