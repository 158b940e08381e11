import re

import httpx
import pytest

from app import __version__
from app.asgi import create_app
from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer


def pirate_path(live: LiveServer) -> str:
    return live.server.app.models.adapters["pirate"].source.location


async def test_welcome(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).json() == {
        "message": "Slipstream LLM API",
        "version": __version__,
        "docs": "/docs",
        "health": "/health",
    }


async def test_health_of_a_loaded_model(client: httpx.AsyncClient) -> None:
    reply = await client.get("/health")

    assert reply.status_code == 200
    assert reply.json() == {"status": "healthy", "model_loaded": True, "model_name": "model"}


@pytest.mark.parametrize("status", ["loading", "failed"])
async def test_health_without_a_model(
    client: httpx.AsyncClient, engine: FakeEngine, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "status", "loading")

    health, ready = await client.get("/health"), await client.get("/health/ready")

    assert (health.status_code, ready.status_code) == (503, 503)
    assert health.json() == {"status": "loading", "model_loaded": False, "model_name": "model"}
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.head("/health")).status_code == 503


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/chat", {"messages": [{"role": "user", "content": "a"}]}, {"detail"}),
        ("/v1/completions", {"prompt": "a"}, {"error"}),
        ("/", {"prompt": "a"}, {"detail"}),
    ],
)
async def test_requests_wait_for_the_model_outside(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: object,
    error: set[str],
) -> None:
    monkeypatch.setattr(engine, "status", "loading")

    reply = await client.post(path, json=body)

    assert (reply.status_code, set(reply.json())) == (503, error)
    assert int(reply.headers["retry-after"]) > 0


async def test_model_info(client: httpx.AsyncClient, live: LiveServer) -> None:
    assert (await client.get("/model/info")).json() == {
        "model_name": "model",
        "model_path": "fake/model",
        "adapter_path": pirate_path(live),
        "template": "chatml",
        "status": "loaded",
    }


async def test_models_lists_base_and_adapters(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()

    assert body["object"] == "list"
    assert [(m["id"], m["parent"], m["object"]) for m in body["data"]] == [
        ("model", None, "model"),
        ("pirate", "model", "model"),
    ]


async def test_one_model(client: httpx.AsyncClient, live: LiveServer) -> None:
    assert (await client.get("/v1/models/pirate")).json()["root"] == pirate_path(live)
    assert (await client.get("/v1/models/fake/model")).json()["id"] == "model"
    assert (await client.get("/v1/models/nobody")).status_code == 404


async def test_tokenize_and_back(client: httpx.AsyncClient) -> None:
    tokens = (
        await client.post("/tokenize", json={"prompt": "ab", "return_token_strs": True})
    ).json()
    text = (await client.post("/detokenize", json={"tokens": tokens["tokens"]})).json()

    expected = {"count": 2, "max_model_len": 2048, "tokens": [97, 98], "token_strs": ["a", "b"]}
    assert tokens == expected
    assert text == {"prompt": "ab"}


async def test_tokenize_messages_through_the_template(client: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": "a"}]}

    assert (await client.post("/tokenize", json=body)).json()["count"] == len("user: a")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokenize", {}), ("/tokenize", {"prompt": ""}), ("/detokenize", {"tokens": [256]})],
)
async def test_tokens_refuse_what_is_wrong(
    client: httpx.AsyncClient, path: str, body: object
) -> None:
    reply = await client.post(path, json=body)

    assert (reply.status_code, set(reply.json())) == (422, {"detail"})


async def test_version_names_server_and_vllm(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": __version__, "vllm": "0.32.0"}


async def test_metrics_count_requests_by_route(client: httpx.AsyncClient) -> None:
    await client.post("/chat", json={"messages": [{"role": "user", "content": "a"}]})
    await client.get("/nowhere/at/all")

    text = (await client.get("/metrics")).text

    count = 'slipstream_http_requests_total{method="POST",route="/chat",status="200"}'
    assert count in text
    assert 'route="unknown",status="404"' in text
    assert "nowhere" not in text
    assert 'slipstream_time_to_first_token_seconds_count{route="/chat"}' in text
    assert "process_resident_memory_bytes" in text


async def test_docs_need_no_other_server(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")

    assert page.status_code == 200
    assert "//" not in page.text.replace("https://www.w3.org", "").replace("http://www.w3.org", "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "swagger-ui-standalone-preset.js"):
        assert f"/docs/assets/{asset}" in page.text
        assert (await client.get(f"/docs/assets/{asset}")).status_code == 200


@pytest.mark.parametrize("name", ["%00", "x" * 4000, "..%2f__init__.py", "LICENSE"])
async def test_docs_have_their_own_files_and_no_others(
    client: httpx.AsyncClient, name: str
) -> None:
    assert (await client.get(f"/docs/assets/{name}")).status_code == 404


@pytest.mark.parametrize(("path", "allowed"), [("/chat", "POST"), ("/v1/models", "GET")])
async def test_wrong_method_is_told_the_right_ones(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    reply = await client.put(path)

    assert reply.status_code == 405
    assert allowed in reply.headers["allow"].split(", ")


async def test_api_document_names_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/docs/openapi.json")).json()

    app = create_app(Settings(), FakeEngine())
    served = {route.path for route in app.litestar.routes if not route.path.startswith("/docs")}
    assert set(document["paths"]) == {re.sub(r":\w+}", "}", path) for path in served}
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert "ChatCompletionRequest" in str(chat["requestBody"])
    assert "ChatCompletion" in str(chat["responses"]["200"])
