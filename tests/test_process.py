"""The command itself: what it prints, writes and returns. One process for all of it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

ROOT = Path(__file__).parents[1]
START_SECONDS = 300
LISTENING = re.compile(r"listening on (http://\S+),")


async def start(folder: Path, *options: str) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_")}
    command = (sys.executable, "-m", "app", "--log-dir", str(folder), "--port", "0", *options)
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


class Running:
    """A started server, and what its console said so far."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.said: list[str] = []
        self.url = ""

    async def wait_until_ready(self) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(START_SECONDS):
            while not self.said or " is ready " not in self.said[-1]:
                line = (await self.process.stderr.readline()).decode()
                assert line, self.said
                self.said.append(line)
        match = LISTENING.search("".join(self.said))
        assert match
        self.url = match[1]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("logs")
    options = ("--quantization", "int8", "--drain-seconds", "300")
    running = Running(await start(folder, *options), folder)
    try:
        await running.wait_until_ready()
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
            await running.process.wait()


@pytest.mark.engine
async def test_start_is_told_in_a_few_lines(running: Running) -> None:
    text = "".join(running.said)

    assert len(running.said) <= 6
    for part in ("slipstream-demo", "bfloat16", "cpu", "/docs", str(running.folder)):
        assert part in text
    assert len((running.folder / "engine.log").read_text().splitlines()) > 20


@pytest.mark.engine
async def test_8_bit_weights_answer(running: Running) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0}

    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        reply = (await client.post("/chat", json=body)).json()

    assert reply["response"] == "Hello! How can I help you today?"
    assert "int8" in (running.folder / "engine.log").read_text()


@pytest.mark.engine
async def test_f6_sigterm_finishes_streams_and_a_batch_and_ends_with_0(running: Running) -> None:
    """The last test of this process: it ends it. The signal goes to the group, as Ctrl-C does."""
    body = {"max_tokens": 600, "ignore_eos": True}

    async with httpx.AsyncClient(base_url=running.url, timeout=START_SECONDS) as client:
        streams = [Stream(client, {"prompt": "Hello", **body, "stream": True}) for _ in range(20)]
        batch = asyncio.create_task(client.post("/batch", json={"prompts": ["Hello"] * 8, **body}))
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
        os.killpg(running.process.pid, signal.SIGTERM)
        status = 200
        async with asyncio.timeout(10):
            while status == 200:
                status = (await client.get("/version")).status_code
        lines = [await stream.lines for stream in streams]
        usage = (await batch).json()["usage"]

    assert status == 503
    assert all(each[-1] == "data: [DONE]" and len(each) > 100 for each in lines)
    assert usage["completion_tokens"] == 8 * 600
    assert await asyncio.wait_for(running.process.wait(), 60) == 0


class Stream:
    """A stream that is read to its end, beside others."""

    def __init__(self, client: httpx.AsyncClient, body: dict[str, object]) -> None:
        self.begun = asyncio.Event()
        self.lines = asyncio.create_task(self._read(client, body))

    async def _read(self, client: httpx.AsyncClient, body: dict[str, object]) -> list[str]:
        lines = []
        async with client.stream("POST", "/generate", json=body) as stream:
            async for line in stream.aiter_lines():
                self.begun.set()
                lines += [line] if line else []
        return lines


@pytest.mark.engine
async def test_f6_sigterm_while_loading_ends_it_with_0(tmp_path: Path) -> None:
    process = await start(tmp_path)
    assert process.stderr is not None
    async with asyncio.timeout(START_SECONDS):
        while b"listening" not in (line := await process.stderr.readline()):
            assert line

    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, errors
    assert b" is ready " not in errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prot", "1"], "slipstream: There is no setting 'prot'. Did you mean 'port'?\n"),
        (["--host", "0.0.0.0"], "slipstream: Listening on 0.0.0.0 without a key"),
    ],
)
async def test_wrong_settings_end_it_with_one_sentence(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    process = await start(tmp_path, *options)
    _, errors = await process.communicate()

    assert process.returncode == 2
    assert errors.decode().startswith(sentence)
    assert errors.decode().count("\n") == 1


@pytest.mark.engine
async def test_model_that_cannot_be_loaded_ends_it_with_a_sentence(tmp_path: Path) -> None:
    process = await start(tmp_path, "--model", str(tmp_path / "nothing"))
    _, errors = await asyncio.wait_for(process.communicate(), START_SECONDS)

    assert process.returncode == 70
    assert "The model could not be loaded: " in errors.decode()
    assert "Traceback" not in errors.decode()
