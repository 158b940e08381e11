from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server

KEY = "sk-secret"
OPEN = {"/health", "/health/live", "/health/ready"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def locked() -> AsyncIterator[LiveServer]:
    async with running_server(Settings(port=0, api_keys=("other", KEY)), FakeEngine()) as live:
        yield live


def routes(live: LiveServer) -> list[tuple[str, str]]:
    found = [
        (method, route.path.replace("{model:path}", "x").replace("{file_path:path}", "x.js"))
        for route in live.server.app.litestar.routes
        for method in route.methods  # type: ignore[attr-defined]
        if method != "OPTIONS"
    ]
    assert len(found) > 20
    return found


async def test_every_route_but_health_needs_a_key(locked: LiveServer) -> None:
    for method, path in routes(locked):
        reply = await locked.client.request(method, path)

        assert (reply.status_code == 401) == (path not in OPEN), path


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer", f"Basic {KEY}", KEY, "", "Bearer " + "x" * 20_000, "Bearer é"],
)
async def test_wrong_keys_are_refused(locked: LiveServer, header: str) -> None:
    headers = {"authorization": header.encode("latin-1")}

    reply = await locked.client.get("/v1/models", headers=headers)

    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", ["other", KEY])
async def test_each_key_opens(locked: LiveServer, key: str) -> None:
    reply = await locked.client.get("/v1/models", headers={"authorization": f"Bearer {key}"})

    assert reply.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/models/health", "//v1/models", "/v1//models", "/v1%2Fmodels", "/health/../v1/models"],
)
async def test_no_spelling_of_a_path_goes_around_the_key(locked: LiveServer, path: str) -> None:
    reader, writer = await locked.connect()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    status = int((await reader.readline()).split()[1])

    writer.close()
    assert status in {400, 401, 404}


async def test_body_is_not_read_without_a_key(locked: LiveServer) -> None:
    reader, writer = await locked.connect()
    head = "POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 1000000\r\n\r\n".encode())

    status = int((await reader.readline()).split()[1])

    writer.close()
    assert status == 401
