import io
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from app.log import configure_logging
from app.log import lines as request_lines
from tests.fake_engine import FakeEngine, Script

LOGGERS = ("app", "slipstream", "uvicorn.error")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[io.StringIO]:
    before = {name: logging.getLogger(name).__dict__.copy() for name in LOGGERS}
    console = io.StringIO()
    configure_logging("info", tmp_path, console)
    yield console
    for handler in logging.getLogger("app").handlers:
        handler.close()
    for name, state in before.items():
        logging.getLogger(name).__dict__.update(state)
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined]


def lines(folder: Path) -> list[dict[str, object]]:
    request_lines.flush()
    text = (folder / "slipstream.log").read_text()
    return [msgspec.json.decode(line) for line in text.splitlines()]


async def test_each_request_is_one_structured_line(
    client: httpx.AsyncClient, engine: FakeEngine, console: io.StringIO, tmp_path: Path
) -> None:
    body = {"messages": [{"role": "user", "content": "my secret prompt"}], "stream": True}
    headers = {"x-request-id": "abc", "authorization": "Bearer my-secret-key"}
    engine.enqueue(Script(pieces=["my secret ", "reply"]))

    await client.post("/chat", json=body, headers=headers)

    (line,) = lines(tmp_path)
    assert isinstance(line.pop("time"), str)
    assert 0 <= line.pop("first_token_seconds") <= line.pop("total_seconds")  # type: ignore[operator]
    assert line == {
        "level": "info",
        "logger": "slipstream.requests",
        "request_id": "abc",
        "method": "POST",
        "route": "/chat",
        "key": None,
        "model": "model",
        "status": 200,
        "error": None,
        "prompt_tokens": 22,
        "completion_tokens": 2,
        "queued_seconds": 0.0,
    }
    assert "POST /chat 200" in console.getvalue()
    assert "22+2 tokens" in console.getvalue()
    assert "secret" not in (tmp_path / "slipstream.log").read_text() + console.getvalue()


async def test_refusals_are_logged_with_their_code(
    client: httpx.AsyncClient, console: io.StringIO, tmp_path: Path
) -> None:
    await client.post("/v1/completions", json={"prompt": "a", "model": "nobody"})

    (line,) = lines(tmp_path)
    assert (line["status"], line["error"]) == (404, "model_not_found")


async def test_unexpected_errors_are_logged_with_their_traceback(
    client: httpx.AsyncClient, engine: FakeEngine, console: io.StringIO, tmp_path: Path
) -> None:
    engine.enqueue(Script(refusal=ZeroDivisionError("bug")))

    await client.post("/v1/completions", json={"prompt": "a"})

    error, request = lines(tmp_path)
    assert "ZeroDivisionError: bug" in str(error["traceback"])
    assert request["status"] == 500


async def test_probes_are_not_logged(
    client: httpx.AsyncClient, console: io.StringIO, tmp_path: Path
) -> None:
    await client.get("/health")

    assert lines(tmp_path) == []
