from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.settings import Settings
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server

KEY = "sk-secret"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def locked() -> AsyncIterator[LiveServer]:
    async with running_server(Settings(port=0, api_keys=("other", KEY)), FakeEngine()) as live:
        yield live


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


@pytest.mark.parametrize(("first", "second", "status"), [(KEY, "x", 200), ("x", KEY, 401)])
async def test_of_several_keys_the_first_counts(
    locked: LiveServer, first: str, second: str, status: int
) -> None:
    keys = [("authorization", f"Bearer {each}") for each in (first, second)]

    reply = await locked.client.get("/v1/models", headers=keys)

    assert reply.status_code == status
