"""The bench of growth: what of it is arithmetic, what it lets by, and what it has left behind."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.bench.growth import rows
from tests.bench.growth.chats import full_chat, long_chat
from tests.bench.growth.connection import Reply, check, connected, get
from tests.bench.growth.stalls import Round, row_of
from tests.bench.standin.asks import Ask, Asks
from tests.bench.standin.tally import WrongAnswers

ROOT = Path(__file__).parents[1]
PARTS = ("streams", "prompts", "messages", "adapters", "start")
EVENTS = [
    '{"choices":[{"delta":{"role":"assistant","content":""}}]}',
    '{"choices":[{"delta":{"content":"Hello"}}]}',
    '{"choices":[{"delta":{"content":" you"}}]}',
    '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}',
    "[DONE]",
]
STREAM = "".join(f"data: {event}\n\n" for event in EVENTS).encode()


def asks(text: str, num_tokens: int) -> Asks:
    return Asks(stream=True, num_tokens=num_tokens, asks=[Ask("", [], text)])


@asynccontextmanager
async def serving(pieces: Sequence[bytes]) -> AsyncIterator[str]:
    """A server that answers everybody with the same bytes, in so many writes, and leaves."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


def chunked(body: bytes, size: int) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return [head, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


async def test_a_stream_is_read_to_its_end_and_its_texts_are_counted() -> None:
    async with serving(chunked(STREAM, len(STREAM))) as url, connected(url) as connection:
        reply = await connection.ask(get("/"))
        assert (reply.status, reply.body) == (200, STREAM)
        assert connection.num_events == 2


async def test_a_reply_that_is_cut_off_is_none() -> None:
    async with serving(chunked(STREAM, 40)[:-1]) as url, connected(url) as connection:
        with pytest.raises(ConnectionError):
            await connection.ask(get("/"))


def test_a_right_reply_passes() -> None:
    whole = asks("Hello you", 2)
    assert check(Reply(200, STREAM, 0.1), whole.asks[0], whole) == 2


@pytest.mark.parametrize(
    ("reply", "text", "num_tokens", "complaint"),
    [
        (Reply(503, b"{}", 0.1), "Hello you", 2, "status 503"),
        (Reply(200, STREAM, 0.1), "Hello me", 2, "another text"),
        (Reply(200, STREAM, 0.1), "Hello you", 3, "2 tokens instead of 3"),
    ],
)
def test_a_wrong_reply_ends_the_run(
    reply: Reply, text: str, num_tokens: int, complaint: str
) -> None:
    expected = asks(text, num_tokens)
    with pytest.raises(WrongAnswers, match=complaint):
        check(reply, expected.asks[0], expected)


def test_chats_have_the_size_that_is_measured() -> None:
    for number in (0, 1):
        assert [len(each["content"]) for each in long_chat(3000, number)] == [3000]
        assert len(full_chat(10, number)) == 10
    assert full_chat(10, 0)[-1]["role"] == full_chat(1, 0)[-1]["role"] == "user"
    assert long_chat(100, 0) != long_chat(100, 1)
    assert full_chat(1, 0) != full_chat(1, 1)


def test_a_stall_is_the_longest_wait_of_a_round() -> None:
    found = row_of("ours", 100, [Round([0.002, 0.001, 0.009], 0.004), Round([0.004], 0.010)])
    assert found == rows.StallsRow("ours", 100, 3.0, 7.0, 10.0)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [rows.AdaptersRow("ours", 1, 78.168, 1330.7, None)]
    rows.write_rows(written, tmp_path / "rows.csv")
    assert rows.read_rows(rows.AdaptersRow, tmp_path / "rows.csv") == written
    with pytest.raises(msgspec.ValidationError):
        rows.read_rows(rows.StartRow, tmp_path / "rows.csv")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_its_data_and_its_picture_in_the_readme(part: str) -> None:
    bench = ROOT / "tests" / "bench" / "growth"
    assert (bench / "data" / f"{part}.csv").exists()
    assert (bench / "plots" / f"{part}.png").exists()
    assert f"(tests/bench/growth/plots/{part}.png)" in (ROOT / "README.md").read_text()
