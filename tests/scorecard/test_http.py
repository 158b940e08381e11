"""A: HTTP and parsing."""

import http.client
import itertools
import select
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.scorecard.conftest import assert_canary
from tests.scorecard.raw import RawConnection, ask_raw, raw_connection, raw_connections
from tests.scorecard.target import Target

MIB = 2**20
SUITE = Path(__file__).parents[3] / "shared/data/json_test_suite/test_parsing"
FILES = sorted(SUITE.glob("*.json"))

LARGE_HEADS = {
    "header of 50 MB": [b"GET / HTTP/1.1\r\nHost: x\r\nX: ", *[b"A" * MIB] * 50, b"\r\n\r\n"],
    "10 000 headers": [
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(10_000)),
        b"\r\n",
    ],
    "URL of 200 KB": [b"GET /", b"a" * 200_000, b" HTTP/1.1\r\nHost: x\r\n\r\n"],
}


@pytest.mark.parametrize("chunks", LARGE_HEADS.values(), ids=LARGE_HEADS)
def test_a1_large_heads_are_refused_before_they_are_kept(
    target: Target, chunks: list[bytes]
) -> None:
    target.forget_peak()
    before = target.peak_bytes

    reply = ask_raw(target.url, chunks)

    assert reply.status in (400, 414, 431)
    assert reply.is_closed
    assert target.peak_bytes - before < 10 * MIB


def test_a2_body_that_says_it_is_too_large_is_413(target: Target) -> None:
    head = target.head("/v1/chat/completions", f"Content-Length: {20 * MIB}")
    with raw_connection(target.url) as connection:
        connection.send(head, *[b" " * MIB] * 20)
        assert connection.read(5, until=b"\r\n\r\n").status == 413


def test_a2_body_that_becomes_too_large_is_413_or_cut_off(target: Target) -> None:
    chunk = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
    with raw_connection(target.url) as connection:
        connection.send(target.head("/v1/chat/completions", "Transfer-Encoding: chunked"))
        connection.send(*[chunk] * 20, b"0\r\n\r\n")
        reply = connection.read(5, until=b"\r\n\r\n")
    assert reply.status == 413 or (reply.status is None and reply.is_closed)


def test_a2_half_a_million_chunks_of_one_byte_cost_little(target: Target) -> None:
    before = target.cpu_seconds
    with raw_connection(target.url) as connection:
        connection.send(target.head("/v1/chat/completions", "Transfer-Encoding: chunked"))
        connection.send(b"1\r\na\r\n" * 500_000, b"0\r\n\r\n")
        reply = connection.read(10, until=b"\r\n\r\n")

    assert reply.status in (400, 413)
    assert target.cpu_seconds - before < 2


@pytest.mark.skipif(not FILES, reason="JSONTestSuite is not in ../shared/data")
@pytest.mark.parametrize("prefix", ["y_", "n_", "i_"])
def test_a3_no_json_text_breaks_the_server(target: Target, prefix: str) -> None:
    files = [path for path in FILES if path.name.startswith(prefix)]
    assert files
    with target.client() as client:
        for path in files:
            reply = post(client, path.read_bytes())

            assert reply.status_code == 400, path.name
            assert len(reply.content) < 4096, path.name
            if target.is_ours and prefix == "y_":
                assert "not valid JSON" not in reply.json()["error"]["message"], path.name


def post(
    client: httpx.Client, body: bytes, content_type: str | None = "application/json"
) -> httpx.Response:
    headers = {"content-type": content_type} if content_type else {}
    return client.post("/v1/chat/completions", content=body, headers=headers)


MALFORMED = {
    "100 000 nested arrays": b"[" * 100_000,
    "100 000 nested arrays in a field": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"model":"\xff"}',
    "lone surrogate": b'{"model":"\\ud800"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"temperature":NaN}',
    "infinity": b'{"temperature":1e999}',
    "integer of 5 000 digits": b'{"seed":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a4_malformed_json_is_the_clients_fault(target: Target, body: bytes) -> None:
    with target.client() as client:
        assert_openai_error(post(client, body), 400)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", None, "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"],
)
def test_a5_what_is_not_called_json_is_415(target: Target, content_type: str | None) -> None:
    with target.client() as client:
        reply = post(client, msgspec.json.encode(target.chat()), content_type)
    assert_openai_error(reply, 415)


def test_a5_compressed_body_is_415(target: Target) -> None:
    with target.client() as client:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        reply = client.post("/v1/chat/completions", content=b"\x1f\x8b\x08", headers=headers)
    assert_openai_error(reply, 415)


def assert_openai_error(reply: httpx.Response, status: int) -> None:
    assert reply.status_code == status
    assert {"message", "type", "param", "code"} <= set(reply.json()["error"])
    assert len(reply.content) < 4096


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP = {
    "length and chunked": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "signed length": POST + b"Content-Length: +5\r\n\r\nabcde",
    "unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\nabcde",
    "bare LF": b"GET /health HTTP/1.1\nHost: x\n\n",
    "bare LF in a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n",
    "folded line": b"GET /health HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    "NUL": b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "host with a path": b"GET /health HTTP/1.1\r\nHost: x/v1?\r\n\r\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
}


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP)
def test_a6_what_servers_could_disagree_on_is_400(target: Target, sent: bytes) -> None:
    reply = ask_raw(target.url, [sent])

    assert reply.status == 400
    assert reply.is_closed


def test_a7_heads_that_come_slowly_are_given_up(target: Target) -> None:
    assert_given_up(target, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")


def test_a7_bodies_that_come_slowly_are_given_up(target: Target) -> None:
    assert_given_up(target, target.head("/v1/chat/completions", "Content-Length: 1000") + b"{")


def assert_given_up(target: Target, beginning: bytes) -> None:
    """200 clients that go on with a byte every 5 s; others are served meanwhile."""
    with raw_connections(target.url, 200) as connections:
        for connection in connections:
            connection.send(beginning)
        left = {connection.socket.fileno(): connection for connection in connections}
        deadline = time.monotonic() + 15
        for waited in (5, 10, 15):
            assert_canary(target)
            discard_closed(left, deadline - 15 + waited)
            for connection in left.values():
                connection.send(b" ")
        assert not left


def discard_closed(left: dict[int, RawConnection], until: float) -> None:
    """Take out every connection that the server closes by then."""
    poll = select.poll()
    for number in left:
        poll.register(number, select.POLLIN)
    while left and (seconds := until - time.monotonic()) > 0:
        for number, _ in poll.poll(seconds * 1000):
            if left[number].read(0.1).is_closed:
                poll.unregister(number)
                del left[number]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"temperature": "hot"}, "temperature"),
        ({"messages": "Hello"}, "messages"),
        ({"temperature": 17}, "temperature"),
        ({"x" * 100_000: 1}, "x"),
    ],
    ids=["unknown", "wrong type", "wrong shape", "out of range", "endless name"],
)
def test_a8_error_names_the_field(target: Target, fields: dict[str, object], param: str) -> None:
    with target.client() as client:
        reply = client.post("/v1/chat/completions", json=target.chat(**fields))

    assert_openai_error(reply, 400)
    assert reply.json()["error"]["param"].startswith(param)
    assert "x" * 200 not in reply.text


def test_a8_name_that_comes_twice_is_refused(target: Target) -> None:
    body = msgspec.json.encode(target.chat())
    with target.client() as client:
        reply = post(client, body.replace(b"{", b'{"max_tokens":1,', 1))
    assert_openai_error(reply, 400)
    assert reply.json()["error"]["param"] == "max_tokens"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"1"])
def test_a8_body_that_is_no_object_is_refused(target: Target, body: bytes) -> None:
    with target.client() as client:
        assert_openai_error(post(client, body), 400)


METHODS = ("PUT", "HEAD", "TRACE", "PATCH", "DELETE", "PROPFIND", "REPORT", "MKCOL", "NOSUCH")


@pytest.mark.parametrize("method", ["PUT", "HEAD", "TRACE", "GET"])
def test_a9_wrong_method_is_405_and_says_which_are_right(target: Target, method: str) -> None:
    reply = ask_raw(target.url, [target.head("/v1/chat/completions", CLOSE, method=method)])

    assert reply.status == 405
    assert "\r\nallow: " in reply.head


def test_a9_unknown_path_is_404(target: Target) -> None:
    with target.client() as client:
        assert_openai_error(client.post("/v1/nowhere", json={}), 404)


CLOSE = "Connection: close"


def test_a9_no_path_and_no_method_makes_metrics_grow(target: Target) -> None:
    ask_at_random(target, len(METHODS))
    series(target)  # counts itself from the second time on
    before = series(target)

    ask_at_random(target, 10_000)

    assert series(target) == before


def ask_at_random(target: Target, count: int) -> None:
    """Requests with every method, each for another path."""
    connection = http.client.HTTPConnection(*target.address)
    for number, method in zip(range(count), itertools.cycle(METHODS), strict=False):
        connection.request(method, f"/v1/{count}/{number}", headers=target.headers)
        reply = connection.getresponse()
        reply.read()
        assert 400 <= reply.status < 500 or reply.status == 501
    connection.close()


def series(target: Target) -> set[str]:
    """The metrics' names with their labels, of what counts HTTP requests."""
    with target.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0] for line in lines if "http_request" in line and line[0] != "#"}
