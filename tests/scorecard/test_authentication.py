"""Rows B: keys, and what one tenant learns of another."""

import base64
import hmac
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.asgi import create_app
from app.errors import Unauthorized
from app.keys.file import KeyFile, digest
from app.keys.grant import Grant
from app.keys.ring import KeyRing
from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.images.pictures import plain
from tests.scorecard.raw import RawReply, ask_raw
from tests.scorecard.target import OUR_KEY, ROOT, Target, our_server

OPEN = {"/health", "/health/live", "/health/ready"}
PARAMETER = re.compile(r"\{[^}]*\}")
REFUSE_SECONDS = 20

WRONG_KEYS = {
    "none": [],
    "bad": ["Authorization: Bearer wrong"],
    "basic": [f"Authorization: Basic {base64.b64encode(f'x:{OUR_KEY}'.encode()).decode()}"],
    "no scheme": [f"Authorization: {OUR_KEY}"],
    "other header": [f"X-Api-Key: {OUR_KEY}"],
    "empty": ["Authorization: Bearer "],
    "nothing": ["Authorization:"],
    "not ascii": ["Authorization: Bearer \xe9\xff"],
    "one too many": [f"Authorization: Bearer {OUR_KEY}x"],
    "one too few": [f"Authorization: Bearer {OUR_KEY[:-1]}"],
    "two": ["Authorization: Bearer wrong", f"Authorization: Bearer {OUR_KEY}"],
}


def our_routes() -> list[tuple[str, str]]:
    """Every method and path of the application, but what every server answers for itself."""
    app = create_app(Settings(port=0), FakeEngine()).litestar
    found = []
    for route in app.routes:
        path = PARAMETER.sub("x", route.path)
        found += [(each, path) for each in getattr(route, "methods", ()) if each != "OPTIONS"]
    assert len(found) > 30
    return found


def their_routes(target: Target) -> list[tuple[str, str]]:
    """What another server says of itself."""
    with target.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def asked(target: Target, method: str, path: str, lines: list[str]) -> RawReply:
    head = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", "Content-Length: 2"]
    text = "\r\n".join([*head, "Content-Type: application/json", *lines, "", "{}"])
    return ask_raw(target.url, [text.encode("latin-1")])


@pytest.mark.parametrize("kind", WRONG_KEYS)
def test_b1_every_route_but_health_needs_a_key(target: Target, kind: str) -> None:
    routes = our_routes() if target.is_ours else their_routes(target)
    for method, path in routes:
        reply = asked(target, method, path, WRONG_KEYS[kind])

        if path in OPEN:
            assert reply.status == 200, (method, path)
        else:
            assert reply.status == 401, (method, path, reply.data[:200])
            assert "\r\nwww-authenticate: bearer" in reply.head


def test_b1_a_key_of_a_megabyte_is_refused_with_its_header(target: Target) -> None:
    """Row A1 says how: such a header is too large for any request."""
    reply = asked(target, "GET", "/v1/models", ["Authorization: Bearer " + "x" * 2**20])

    assert reply.status in {400, 401, 431, None}
    assert reply.is_closed
    longest = asked(target, "GET", "/v1/models", ["Authorization: Bearer " + "x" * 8000])
    assert longest.status == 401


def test_b1_the_right_key_opens(target: Target) -> None:
    with target.client() as client:
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize("key", ["one", "two", "boss", "bos", "bossy", "other", ""])
def test_b3_every_key_is_compared_as_a_digest_and_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Whatever is sent, and wherever in the list it is: time tells neither a part nor a place."""
    known = {"one": "key-1", "two": "key-2", "boss": "admin-1"}
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def compare_noted(presented: bytes, each: bytes) -> bool:
        compared.append((presented, each))
        return compare(presented, each)

    monkeypatch.setattr("app.keys.ring.hmac.compare_digest", compare_noted)
    ring = KeyRing(Settings(api_keys=("one", "two"), admin_keys=("boss",)))

    if key in known:
        assert ring.caller(key).alias == known[key]
    else:
        with pytest.raises(Unauthorized):
            ring.caller(key)

    assert compared == [(digest(key), digest(each)) for each in known]
    assert "==" not in inspect.getsource(KeyRing.caller) + inspect.getsource(KeyRing._found)


SECRET_WORDS = "the prompt that nobody shall read"
SECRET_NAME = "unread_argument"


def test_b4_keys_prompts_and_pictures_are_in_no_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = base64.b64encode(plain(8, 8)).decode()
    message = {"role": "user", "content": SECRET_WORDS}
    url = {"url": f"data:image/png;base64,{picture}"}
    seen = {"role": "user", "content": [{"type": "image_url", "image_url": url}]}
    bodies: list[tuple[str, Any]] = [
        ("/chat", {"messages": [message]}),
        ("/chat", {"messages": [message], "stream": True}),
        ("/v1/chat/completions", {"messages": [message], SECRET_NAME: SECRET_WORDS}),
        ("/v1/chat/completions", {"messages": [seen]}),
        ("/v1/completions", {"prompt": [SECRET_WORDS, 1]}),
        ("/v1/completions", {"prompt": SECRET_WORDS, "model": SECRET_WORDS}),
        ("/batch", {"prompts": [SECRET_WORDS, SECRET_WORDS]}),
        ("/tokenize", {"prompt": SECRET_WORDS}),
    ]
    options = ("--log-level", "debug", "--log-dir", str(tmp_path))
    with our_server(*options) as target, target.client() as client:
        replies = [client.post(path, json=body) for path, body in bodies]
        client.get("/v1/models", headers={"authorization": f"Bearer {OUR_KEY}-wrong"})
        client.get(f"/{SECRET_NAME}", params={"q": SECRET_WORDS})

    said = capfd.readouterr()
    logs = [said.out, said.err, *(each.read_text() for each in tmp_path.iterdir())]
    assert {reply.status_code for reply in replies} == {200, 400, 404}
    assert sum("POST" in log for log in logs) == 2
    for log in logs:
        for secret in (OUR_KEY, SECRET_WORDS, "nobody shall", SECRET_NAME, picture[:40]):
            assert secret not in log


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Target]:
    """Our server, with a key of its own that may ask three times a minute."""
    file = KeyFile(tmp_path / "keys.toml")
    file.add("few", Grant(hash=f"sha256:{digest('few').hex()}", requests_per_minute=3))
    with our_server("--key-file", str(file.path)) as target:
        yield target


def test_b6_no_header_that_a_client_sends_gives_it_another_limit(limited: Target) -> None:
    headers = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Request-Id", "User-Agent", "Host"]
    statuses = []
    with httpx.Client(base_url=limited.url, headers={"authorization": "Bearer few"}) as client:
        for number in range(10):
            lies = dict.fromkeys(headers, f"10.0.0.{number}")
            statuses.append(client.get("/v1/models", headers=lies))

    assert [each.status_code for each in statuses] == [200] * 3 + [429] * 7
    assert all(int(each.headers["retry-after"]) > 0 for each in statuses[3:])


def test_b7_requests_may_have_the_same_id_at_the_same_time(target: Target) -> None:
    def ask(max_tokens: int) -> dict[str, Any]:
        body = target.chat(max_tokens=max_tokens, ignore_eos=True)
        with target.client() as client:
            headers = {"x-request-id": "the-same"}
            reply = client.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    lengths = [40, 80, 120, 160]
    with ThreadPoolExecutor(len(lengths)) as pool:
        answers = list(pool.map(ask, lengths))

    assert [each["usage"]["completion_tokens"] for each in answers] == lengths
    assert len({each["id"] for each in answers}) == len(lengths)


@pytest.mark.parametrize("module", ["app", "app.cluster"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_b8_without_keys_it_does_not_listen_beyond_this_machine(module: str, host: str) -> None:
    command = (sys.executable, "-m", module, "--host", host, "--log-dir", "")

    ended = subprocess.run(
        command, cwd=ROOT, env={}, capture_output=True, text=True, timeout=REFUSE_SECONDS
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"slipstream: Listening on {host} without a key lets anyone")
    assert ended.stderr.count("\n") == 1
