import asyncio

import httpx
import pytest

from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer

CHAT = {"messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    ("path", "status"), [("/chat", 422), ("/v1/chat/completions", 400)], ids=["native", "openai"]
)
@pytest.mark.parametrize(
    ("change", "field", "limit"),
    [
        ({"temperature": 3}, "temperature", "<= 2.0"),
        ({"temperature": "hot"}, "temperature", "got `str`"),
        ({"top_p": -1}, "top_p", ">= 0.0"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"max_tokens": True}, "max_tokens", "got `bool`"),
        ({"seed": 2**64}, "seed", ""),
        ({"stop": ["x"] * 17}, "stop", "<= 16"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role", "'king'"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0]", "tool_call_id"),
        ({"prompt_embeds": "x"}, "prompt_embeds", "unknown field"),
        ({"logit_bias": {"abc": 1}}, "logit_bias", "got `str`"),
    ],
)
async def test_bad_parameter_names_field_and_limit(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    path: str,
    status: int,
    change: dict[str, object],
    field: str,
    limit: str,
) -> None:
    reply = await client.post(path, json={**CHAT, **change})

    body = reply.json()
    message = body["detail"] if path == "/chat" else body["error"]["message"]
    assert reply.status_code == status
    assert field in message
    assert limit in message
    assert not engine.submissions
    if path != "/chat":
        assert body["error"]["param"].startswith(field)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-0.1, 2.1]),
        ("top_p", [-0.1, 1.1]),
        ("top_k", [-2, 2**31]),
        ("min_p", [-0.1, 1.1]),
        ("presence_penalty", [-2.1, 2.1]),
        ("frequency_penalty", [-2.1, 2.1]),
        ("repetition_penalty", [0, 101]),
        ("min_tokens", [-1, 2**64]),
        ("n", [0, 9, 10**6]),
        ("max_tokens", [0, 10**9]),
        ("max_completion_tokens", [0, 10**9]),
        ("top_logprobs", [-1, 21, 10**4]),
    ],
)
async def test_numbers_have_both_ends(
    client: httpx.AsyncClient, engine: FakeEngine, name: str, values: list[float]
) -> None:
    for value in [*values, -(2**63) - 1, 2**64, "1"]:
        reply = await client.post("/v1/chat/completions", json={**CHAT, name: value})

        assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
    assert not engine.submissions


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/nowhere", 404), ("PUT", "/chat", 405)],
)
async def test_routing_errors_speak_the_dialect_of_their_path(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    reply = await client.request(method, path)

    assert reply.status_code == status
    assert set(reply.json()) == ({"error"} if path.startswith("/v1") else {"detail"})


@pytest.mark.parametrize("path", ["/chat", "/v1/completions"])
async def test_empty_body_is_told(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.post(path, headers={"content-type": "application/json"})

    assert reply.status_code in {400, 422}
    assert "The body is empty" in reply.text


async def test_missing_field_is_the_param(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/completions", json={})

    assert reply.json()["error"]["param"] == "prompt"


async def test_large_body_is_refused(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    body = {"messages": [{"role": "user", "content": "x" * 17 * 2**20}]}

    reply = await client.post("/v1/chat/completions", json=body)

    assert reply.status_code == 413
    assert set(reply.json()) == {"error"}


async def test_body_that_becomes_too_large_is_refused(live: LiveServer) -> None:
    head = "POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    reader, writer = await live.connect()
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    writer.write(b"1100000\r\n" + b" " * 17 * 2**20)

    async with asyncio.timeout(10):
        assert b" 413 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_body_must_call_itself_json(client: httpx.AsyncClient, content_type: str) -> None:
    headers = {"content-type": content_type}

    reply = await client.post("/chat", content=b'{"messages":[]}', headers=headers)

    assert reply.status_code == 415
    assert "application/json" in reply.json()["detail"]
