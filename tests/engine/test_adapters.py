"""Adapters on the real engine: many at once, swapped under load, and every way to fail."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from app.demo import DEMO_ADAPTERS_PATH
from tests.engine.adapter import make_adapter
from tests.live_server import LiveServer

pytestmark = pytest.mark.engine

ROUTE = "/v1/adapters"
NUM_ADAPTERS = 8
NUM_SWAPS = 100
GROWTH_MIB = 100


@pytest.fixture
def root(real_server: LiveServer) -> Path:
    path = real_server.server.app.models.adapters.files.root.path
    assert path is not None
    return path


@pytest_asyncio.fixture(loop_scope="session")
async def admin(real_server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": "Bearer boss"}
    async with httpx.AsyncClient(base_url=real_server.url, headers=headers, timeout=120) as client:
        yield client


async def load(admin: httpx.AsyncClient, name: str, **fields: Any) -> str:
    reply = await admin.post(ROUTE, json={"name": name, **fields})
    assert reply.status_code == 200, reply.text
    version: str = reply.json()["version"]
    return version


async def unload(admin: httpx.AsyncClient, root: Path, *names: str) -> None:
    for name in names:
        assert (await admin.delete(f"{ROUTE}/{name}")).status_code == 200
        shutil.rmtree(root / name)


async def answer(client: httpx.AsyncClient, model: str, question: str = "Hello") -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 16,
    }
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == model
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text


async def test_eight_adapters_and_the_base_answer_in_one_crowd_as_alone(
    admin: httpx.AsyncClient, root: Path
) -> None:
    names = [f"a{number}" for number in range(NUM_ADAPTERS)]
    for seed, name in enumerate(names, start=1):
        make_adapter(root / name, seed=seed)
        await load(admin, name)
    models = ["slipstream-demo", *names]
    alone = {model: await answer(admin, model) for model in models}

    crowd = [models[number % len(models)] for number in range(64)]
    texts = await asyncio.gather(*(answer(admin, model) for model in crowd))

    assert len(set(alone.values())) == len(models)
    assert texts == [alone[model] for model in crowd]
    await unload(admin, root, *names)


async def test_an_adapter_swapped_under_load_never_answers_for_another(
    admin: httpx.AsyncClient, root: Path, real_server: LiveServer
) -> None:
    expected = {}
    for seed in (1, 2):
        make_adapter(root / "swapped", seed=seed)
        version = await load(admin, "swapped")
        expected[version] = await answer(admin, "swapped")
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            assert await answer(admin, "swapped") in expected.values()

    askers = [asyncio.create_task(ask()) for _ in range(8)]
    sizes = []
    for number in range(NUM_SWAPS):
        make_adapter(root / "swapped", seed=1 + number % 2)
        version = await load(admin, "swapped")
        assert await answer(admin, "swapped") == expected[version]
        sizes.append(memory_mib())
    stop.set()
    await asyncio.gather(*askers)

    assert sizes[-1] - sizes[NUM_SWAPS // 4] < GROWTH_MIB
    llm = real_server.server.app.engine._llm
    async with asyncio.timeout(20):
        while len(await llm.list_loras()) > 2:
            await asyncio.sleep(0.05)
    await unload(admin, root, "swapped")


def memory_mib() -> float:
    """Of the server and the engine's processes."""
    server = psutil.Process()
    family = [server, *server.children(recursive=True)]
    return sum(each.memory_info().rss for each in family) / 2**20


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def corrupt(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 1000)


def outside(folder: Path) -> None:
    moved = folder.rename(folder.parent.parent / "moved")
    folder.symlink_to(moved)


def intact(_: Path) -> None: ...


@pytest.mark.parametrize(
    ("config", "damage", "status"),
    [
        ({}, shutil.rmtree, 404),
        ({}, outside, 400),
        ({}, pickled, 422),
        ({}, corrupt, 422),
        ({"rank": 512}, intact, 422),
        ({"hidden": 64}, intact, 409),
        ({"module": "no_proj"}, intact, 422),
    ],
    ids=["missing", "link", "pickle", "corrupt", "rank", "base", "modules"],
)
async def test_a_bad_adapter_is_refused_while_a_stream_goes_on(
    admin: httpx.AsyncClient,
    root: Path,
    config: dict[str, Any],
    damage: Callable[[Path], None],
    status: int,
) -> None:
    damage(make_adapter(root / "bad", **config))
    body = {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "stream": True}
    async with admin.stream("POST", "/generate", json=body) as stream:
        lines = stream.aiter_lines()
        await anext(lines)

        reply = await admin.post(ROUTE, json={"name": "bad"})

        rest = [line async for line in lines if line]

    assert (reply.status_code, rest[-1]) == (status, "data: [DONE]"), reply.text
    assert await answer(admin, "slipstream-demo")
    clear(root)


async def test_the_same_name_twenty_times_at_once_is_loaded_once(
    admin: httpx.AsyncClient, root: Path
) -> None:
    make_adapter(root / "same", seed=3)

    versions = await asyncio.gather(*(load(admin, "same") for _ in range(20)))

    assert len(set(versions)) == 1
    await unload(admin, root, "same")


async def test_unloading_and_deleting_while_streaming_lets_the_stream_finish(
    admin: httpx.AsyncClient, root: Path
) -> None:
    make_adapter(root / "brief", seed=4)
    await load(admin, "brief")
    body = {"model": "brief", "prompt": "a", "max_tokens": 300, "ignore_eos": True, "stream": True}
    async with admin.stream("POST", "/generate", json=body) as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        await unload(admin, root, "brief")
        assert (await admin.post("/generate", json=body)).status_code == 404
        rest = [line async for line in lines if line]

    assert rest[-1] == "data: [DONE]"


async def test_what_only_vllm_can_tell_is_still_refused(
    admin: httpx.AsyncClient, root: Path
) -> None:
    make_adapter(root / "bad", as_embedding=True)

    reply = await admin.post(ROUTE, json={"name": "bad"})

    assert (reply.status_code, "engine" in reply.text) == (422, True)
    assert await answer(admin, "slipstream-demo")
    clear(root)


async def test_the_pinned_adapter_survives_a_crowd_of_others(
    admin: httpx.AsyncClient, root: Path
) -> None:
    names = [f"p{number}" for number in range(6)]
    for seed, name in enumerate(names):
        make_adapter(root / name, seed=seed)
        await load(admin, name, pinned=seed < 3)
    alone = {name: await answer(admin, name) for name in names}

    texts = await asyncio.gather(*(answer(admin, name) for name in names * 4))

    assert texts == [alone[name] for name in names * 4]
    refused = await admin.post(ROUTE, json={"name": names[-1], "pinned": True})
    assert refused.status_code == 409
    await unload(admin, root, *names)


async def test_the_demo_adapters_change_how_it_is_said(
    admin: httpx.AsyncClient, root: Path
) -> None:
    for name in ("pirate", "traditional"):
        shutil.copytree(DEMO_ADAPTERS_PATH / name, root / name)
        await load(admin, name)

    assert (await answer(admin, "pirate")).startswith("Ahoy, matey!")
    assert "幫助" in await answer(admin, "traditional", "你好")
    assert "帮助" in await answer(admin, "slipstream-demo", "你好")
    await unload(admin, root, "pirate", "traditional")


def clear(root: Path) -> None:
    for path in root.iterdir():
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
