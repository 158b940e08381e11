"""The shell script and the Postman collection that come with the server."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.live_server import LiveServer

pytestmark = pytest.mark.engine

TESTS = Path(__file__).parents[1]
NEWMAN = "newman@6.2.2"


async def run(*command: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_smoke_script_gets_every_answer(real_server: LiveServer) -> None:
    status, output = await run(str(TESTS / "smoke.sh"), real_server.url)

    assert status == 0, output
    assert output.count("\n=== ") == 20
    assert output.endswith("=== all answered\n")


@pytest.mark.skipif(not shutil.which("npx"), reason="node is not installed")
async def test_postman_collection_passes(real_server: LiveServer) -> None:
    collection = str(TESTS / "slipstream.postman_collection.json")
    command = ("npx", "--yes", NEWMAN, "run", collection, "--disable-unicode")

    status, output = await run(*command, "--env-var", f"base_url={real_server.url}")

    assert status == 0, output
