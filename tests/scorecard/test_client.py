"""Rows X1 and X3: what clients count on, and what the API document promises.

More of X1: tests/engine/test_openai_client.py (a real engine),
tests/routes/test_openai_tools.py (tools and `parse`), tests/routes/test_pictures.py.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
import pytest_asyncio

from app.engine.base import Limits
from app.settings import Settings
from tests.fuzz.obedient_engine import ObedientEngine
from tests.live_server import running_server
from tests.scorecard.target import Target, our_server

HELLO: Any = [{"role": "user", "content": "Hello"}]


def official_client(target: Target, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{target.url}/v1", api_key=target.key or "none", **options)


@pytest.fixture
def sdk(target: Target) -> Iterator[openai.OpenAI]:
    with official_client(target, max_retries=0) as client:
        yield client


def test_x1_chat(sdk: openai.OpenAI, target: Target) -> None:
    reply = sdk.chat.completions.create(model=target.model, messages=HELLO, max_tokens=4)

    assert reply.choices[0].message.role == "assistant"
    assert reply.usage is not None
    assert 0 < reply.usage.completion_tokens <= 4
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


@pytest.mark.parametrize("include_usage", [False, True])
def test_x1_stream(sdk: openai.OpenAI, target: Target, include_usage: bool) -> None:
    stream = sdk.chat.completions.create(
        model=target.model,
        messages=HELLO,
        max_tokens=4,
        stream=True,
        stream_options={"include_usage": include_usage},
    )
    chunks = list(stream)

    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(told) == include_usage
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert choices[0].delta.role == "assistant"
    assert [each.finish_reason for each in choices].count(None) == len(choices) - 1
    assert choices[-1].finish_reason in {"stop", "length"}


def test_x1_text_and_models(sdk: openai.OpenAI, target: Target) -> None:
    reply = sdk.completions.create(model=target.model, prompt="Hello", max_tokens=4)

    assert reply.choices[0].text
    assert target.model in {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve(target.model).id == target.model


def test_x1_errors_are_the_clients_own(sdk: openai.OpenAI, target: Target) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.chat.completions.create(model=target.model, messages=HELLO, temperature=3)

    assert missing.value.code == "model_not_found"
    assert wrong.value.param == "temperature"


def test_x1_the_client_comes_back_when_it_is_told_to() -> None:
    """All places are taken until it is refused once; then it waits as long as it was told."""
    statuses, waits = [], []
    with ExitStack() as stack:
        target = stack.enter_context(our_server("--max-in-flight", "1"))
        blocked = stack.enter_context(httpx.Client(base_url=target.url, headers=target.headers))
        body = target.chat(stream=True, ignore_eos=True, max_tokens=10**5)
        stream = blocked.stream("POST", "/v1/chat/completions", json=body)
        lines = stack.enter_context(stream).iter_lines()
        assert next(lines).startswith("data: ")

        def note(reply: httpx2.Response) -> None:
            statuses.append(reply.status_code)
            if reply.status_code != 200:
                waits.append(reply.headers["retry-after"])
                blocked.close()

        http = httpx2.Client(event_hooks={"response": [note]})
        sdk = stack.enter_context(official_client(target, max_retries=3, http_client=http))
        reply = sdk.chat.completions.create(model=target.model, messages=HELLO, max_tokens=4)

    assert reply.choices[0].message.content
    assert statuses[0] in {429, 503}
    assert statuses[-1] == 200
    assert all(1 <= float(seconds) <= 30 for seconds in waits)


ADMIN_KEY = "admin"
CONFIGURATION = Path(__file__).parents[1] / "fuzz/schemathesis.toml"
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEARCH = (
    ("--max-examples", str(max(8, FUZZ_EXAMPLES // 100)))
    if FUZZ_EXAMPLES
    else ("--max-examples", "8", "--generation-deterministic")
)
"""How many examples for each route; the boundaries of every field come beside these."""


@pytest_asyncio.fixture(loop_scope="session")
async def documented(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[str, str, ObedientEngine | None]]:
    """A document's URL, a key for everything in it, and the engine if it is ours.

    Ours wants keys, so that it is also seen whether a route forgets to ask for one.
    """
    if request.config.getoption("--target"):
        target: Target = request.getfixturevalue("target")
        yield f"{target.url}/openapi.json", target.key, None
        return
    engine = ObedientEngine(limits=Limits(2048, 256, 1, reads_images=True, image_token_id=0))
    settings = Settings(
        port=0, model="fake/model", admin_keys=(ADMIN_KEY,), api_keys=("key",),
        adapter_dir=str(tmp_path),
    )  # fmt: skip
    async with running_server(settings, engine) as live:
        yield f"{live.url}/docs/openapi.json", ADMIN_KEY, engine
        assert live.server.app.admission.in_flight == 0


async def test_x3_every_route_does_what_is_documented(
    documented: tuple[str, str, ObedientEngine | None],
) -> None:
    url, key, engine = documented

    status, output = await schemathesis(
        *("run", url, "--header", f"Authorization: Bearer {key}", "--warnings", "off"),
        *("--phases", "coverage,fuzzing", "--max-failures", "5"),
        *SEARCH,
    )

    assert status == 0, output
    assert engine is None or engine.started > 100, "hardly any request has been answered"


async def schemathesis(*arguments: str) -> tuple[int | None, str]:
    """Status and output of the command, with all of its checks and our hooks."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *arguments,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.agreement", "COLUMNS": "160"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode, output.decode()
