"""Adapters that come, change and go while requests run."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from app.engine.base import Layer
from app.errors import AdapterUnusable, GenerationFailed
from app.settings import Settings
from tests.engine.adapter import demo_config, make_adapter, widths
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server

ROUTE = "/v1/adapters"


def demo_layers() -> dict[str, Layer]:
    config = demo_config()
    return {
        f"model.layers.{number}.self_attn.{name}": Layer(config["hidden_size"], width)
        for number in range(config["num_hidden_layers"])
        for name, width in widths(config).items()
    }


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def load(client: httpx.AsyncClient, name: str, **fields: Any) -> dict[str, Any]:
    reply = await client.post(ROUTE, json={"name": name, **fields})
    assert reply.status_code == 200, reply.text
    card: dict[str, Any] = reply.json()
    return card


def files_of(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


async def models(client: httpx.AsyncClient) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


async def error_of(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, str]:
    reply = await client.post(ROUTE, json=body)
    return reply.status_code, reply.json()["error"]["message"]


async def ask(client: httpx.AsyncClient, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return await client.post("/v1/chat/completions", json=body)


async def test_a_new_folder_is_served_and_a_removed_one_retired(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine, live: LiveServer
) -> None:
    registry = live.server.app.models.adapters
    make_adapter(root / "pirate")
    await until(lambda: "pirate" in registry)
    assert await models(client) == ["model", "pirate"]
    assert (await ask(client, "pirate")).json()["model"] == "pirate"

    shutil.rmtree(root / "pirate")

    await until(lambda: "pirate" not in registry and not engine.adapters)
    assert (await ask(client, "pirate")).status_code == 404


async def test_a_changed_folder_becomes_a_new_version(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine, live: LiveServer
) -> None:
    registry = live.server.app.models.adapters
    make_adapter(root / "pirate")
    first = await load(client, "pirate")

    make_adapter(root / "pirate", seed=1)

    await until(lambda: registry["pirate"].version.adapter.name != first["version"])
    await until(lambda: len(engine.adapters) == 1)
    assert registry["pirate"].version.adapter.number == max(engine.adapters)


async def test_a_broken_change_leaves_the_old_version(
    client: httpx.AsyncClient, root: Path, live: LiveServer
) -> None:
    registry = live.server.app.models.adapters
    make_adapter(root / "pirate")
    first = await load(client, "pirate")

    (root / "pirate" / "adapter_model.safetensors").write_bytes(b"half")
    await until(lambda: "pirate" in registry.failures)

    card = (await client.get(f"{ROUTE}/pirate")).json()
    assert card["version"] == first["version"]
    assert "safetensors" in card["error"]
    assert (await ask(client, "pirate")).status_code == 200


async def test_loading_the_same_files_again_changes_nothing(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "pirate")

    cards = await asyncio.gather(*(load(client, "pirate") for _ in range(20)))

    assert len({card["version"] for card in cards}) == 1
    assert len(engine.adapters) == 1


async def test_a_running_request_keeps_its_version(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "pirate")
    old = await load(client, "pirate")
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    running = asyncio.create_task(ask(client, "pirate"))
    await engine.submitted.wait()

    make_adapter(root / "pirate", seed=1)
    new = await load(client, "pirate")
    assert (await ask(client, "pirate")).status_code == 200
    used = [each.adapter.name for each in engine.submissions if each.adapter]

    assert used == [old["version"], new["version"]]
    assert len(engine.adapters) == 2
    hold.set()
    assert (await running).status_code == 200
    await until(lambda: len(engine.adapters) == 1)


async def test_unloading_lets_a_stream_finish(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "pirate")
    await load(client, "pirate")
    pause = asyncio.Event()
    engine.enqueue(Script(pause=pause))
    body = {"model": "pirate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with client.stream("POST", "/chat", json=body) as reply:
        lines = reply.aiter_lines()
        await anext(lines)
        deleted = await client.delete(f"{ROUTE}/pirate")
        assert deleted.json() == {"object": "adapter.deleted", "id": "pirate", "deleted": True}
        assert (await ask(client, "pirate")).status_code == 404
        assert len(engine.adapters) == 1
        pause.set()
        rest = [line async for line in lines if line]

    assert rest[-1] == "data: [DONE]"
    await until(lambda: not engine.adapters)


async def test_what_was_unloaded_stays_away_until_it_is_loaded(
    client: httpx.AsyncClient, root: Path, live: LiveServer
) -> None:
    make_adapter(root / "pirate")
    await load(client, "pirate")
    await client.delete(f"{ROUTE}/pirate")

    await live.server.app.models.adapters.reconcile()
    assert await models(client) == ["model"]

    await load(client, "pirate")
    assert await models(client) == ["model", "pirate"]


async def test_adapters_are_there_after_a_restart(settings: Settings, root: Path) -> None:
    for name in ("one", "two", "three"):
        make_adapter(root / name)
    headers = {"authorization": "Bearer boss"}
    async with running_server(settings, FakeEngine()) as live:
        live.client.headers.update(headers)
        await load(live.client, "alias", folder="one", pinned=True)
        await live.client.delete(f"{ROUTE}/two")

    async with running_server(settings, FakeEngine()) as live:
        live.client.headers.update(headers)
        cards = (await live.client.get(ROUTE)).json()["data"]

    assert {card["id"]: card["pinned"] for card in cards} == {
        "one": False,
        "three": False,
        "alias": True,
    }


async def test_a_second_server_of_the_same_state_follows_the_first(
    client: httpx.AsyncClient, settings: Settings, root: Path
) -> None:
    make_adapter(root / "pirate")
    async with running_server(settings, FakeEngine()) as other:
        await load(client, "captain", folder="pirate")

        await until(lambda: "captain" in other.server.app.models.adapters)

        await client.delete(f"{ROUTE}/captain")
        await until(lambda: "captain" not in other.server.app.models.adapters)


async def test_copies_are_gone_when_nobody_uses_them(
    client: httpx.AsyncClient, root: Path, settings: Settings, engine: FakeEngine
) -> None:
    make_adapter(root / "pirate")
    await load(client, "pirate")
    await client.delete(f"{ROUTE}/pirate")
    await until(lambda: not engine.adapters)

    snapshots = Path(settings.state_dir) / "adapters" / "snapshots"
    await until(lambda: not [path for path in snapshots.iterdir() if path.is_dir()])


async def test_deleting_the_folder_does_not_touch_what_is_loaded(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "pirate")
    hold = asyncio.Event()
    await load(client, "pirate")
    engine.enqueue(Script(hold=hold))
    running = asyncio.create_task(ask(client, "pirate"))
    await engine.submitted.wait()

    shutil.rmtree(root / "pirate")
    ((_, adapter),) = engine.adapters.items()

    assert files_of(adapter.path) == ["adapter_config.json", "adapter_model.safetensors"]
    hold.set()
    assert (await running).status_code == 200


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".", "", "a" * 65, "a b", "/etc", "x\n", "pirate@1"]
)
async def test_names_that_are_paths_are_refused(client: httpx.AsyncClient, name: str) -> None:
    status, message = await error_of(client, {"name": name})
    assert (status, message.startswith("name: expected 1 to 64")) == (400, True)

    status, message = await error_of(client, {"name": "x", "folder": name})
    assert (status, message.startswith("folder: expected 1 to 64")) == (400, True)


async def test_a_missing_adapter_is_404(client: httpx.AsyncClient) -> None:
    assert (await error_of(client, {"name": "nobody"}))[0] == 404
    assert (await client.delete(f"{ROUTE}/nobody")).status_code == 404
    assert (await client.get(f"{ROUTE}/nobody")).status_code == 404


async def test_a_link_out_of_the_folder_is_refused(
    client: httpx.AsyncClient, root: Path, tmp_path: Path
) -> None:
    outside = make_adapter(tmp_path / "outside")
    (root / "linked").symlink_to(outside)
    make_adapter(root / "inner")
    (root / "inner" / "adapter_model.safetensors").unlink()
    (root / "inner" / "adapter_model.safetensors").symlink_to(outside / "adapter_model.safetensors")

    for name in ("linked", "inner"):
        status, message = await error_of(client, {"name": name})
        assert (status, "leads out" in message) == (400, True)
    assert await models(client) == ["model"]


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def corrupt(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def bad_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"r": 8,')


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (pickled, "adapter_model.safetensors"),
        (corrupt, "whole safetensors"),
        (bad_json, "adapter_config.json"),
    ],
)
async def test_damaged_files_are_refused(
    client: httpx.AsyncClient,
    root: Path,
    engine: FakeEngine,
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    damage(make_adapter(root / "bad"))

    status, message = await error_of(client, {"name": "bad"})

    assert (status, reason in message) == (422, True)
    assert not engine.adapters


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"rank": 512}, "rank is 512"),
        ({"r": 4}, "has rank 8"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": "many"}, "adapter_config.json"),
        ({"rank_pattern": {"(.|..)+q": 8}}, "no module's name"),
        ({"alpha_pattern": {"(\\w|\\w\\w|.)+[A-Z]": 1}}, "no module's name"),
        ({"rank_pattern": {"q_proj": 0}}, "rank is 8"),
        ({"lora_alpha": 1e308}, "times the rank"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"target_modules": None}, "adapter_config.json"),
    ],
)
async def test_kinds_that_cannot_be_applied_are_refused(
    client: httpx.AsyncClient, root: Path, config: dict[str, Any], reason: str
) -> None:
    make_adapter(root / "bad", **config)

    status, message = await error_of(client, {"name": "bad"})

    assert (status, reason in message) == (422, True)


async def test_an_adapter_of_another_model_is_a_conflict(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "pirate")
    engine.layers = {name: Layer(64, 64) for name in demo_layers()}
    status, message = await error_of(client, {"name": "pirate"})
    assert (status, "64 x 64 here" in message) == (409, True)

    engine.layers = dict(list(demo_layers().items())[:-1])
    status, message = await error_of(client, {"name": "pirate"})
    assert (status, "this model has no" in message) == (409, True)

    engine.layers = {"other": Layer(1, 1)}
    status, message = await error_of(client, {"name": "pirate"})
    assert (status, "None of the modules" in message) == (422, True)

    engine.layers = demo_layers()
    assert (await load(client, "pirate"))["rank"] == 8


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
async def test_numbers_that_are_not_finite_are_refused(
    client: httpx.AsyncClient, root: Path, number: str
) -> None:
    make_adapter(root / "bad", spoilt_by=float(number))

    status, message = await error_of(client, {"name": "bad"})

    assert (status, "not finite" in message) == (422, True)


async def test_experts_of_a_model_without_any_are_no_modules_of_it(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "bad", module="mlp.experts.base_layer")
    engine.layers = demo_layers()
    assert (await error_of(client, {"name": "bad"}))[0] == 422

    config = demo_config()
    engine.layers |= {
        f"model.layers.{number}.self_attn.mlp.experts": Layer(0, 0)
        for number in range(config["num_hidden_layers"])
    }
    assert (await load(client, "bad"))["rank"] == 8


async def test_older_names_of_a_vision_models_text_part_are_understood(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    make_adapter(root / "older")
    engine.layers = {f"model.language_{name}": layer for name, layer in demo_layers().items()}

    assert (await load(client, "older"))["rank"] == 8


async def test_a_pin_that_fails_concerns_its_own_name(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    for name in ("one", "two"):
        make_adapter(root / name)
    engine.pin_failure = GenerationFailed("Not registered.")

    assert not (await load(client, "one", pinned=True))["pinned"]
    assert not (await load(client, "two"))["error"]

    engine.pin_failure = None
    assert (await load(client, "one", pinned=True))["pinned"]


async def test_what_failed_can_be_forgotten(
    client: httpx.AsyncClient, root: Path, live: LiveServer
) -> None:
    registry = live.server.app.models.adapters
    corrupt(make_adapter(root / "bad"))
    await until(lambda: "bad" in registry.failures)

    assert (await client.get(f"{ROUTE}/bad")).json()["status"] == "failed"
    assert (await client.delete(f"{ROUTE}/bad")).status_code == 200
    await registry.reconcile()
    assert (await client.get(f"{ROUTE}/bad")).status_code == 404


async def test_a_hub_that_is_no_longer_allowed_is_not_asked_after_a_restart(
    settings: Settings, root: Path
) -> None:
    journal = Path(settings.state_dir) / "adapters" / "model" / "journal.json"
    journal.parent.mkdir(parents=True)
    journal.write_text('{"hers": {"source": {"kind": "hub", "location": "a/b"}}}')
    async with running_server(settings, FakeEngine()) as live:
        failures = live.server.app.models.adapters.failures

    assert "LLM_ADAPTER_HUB" in failures["hers"]


async def test_without_a_place_for_the_journal_nothing_changes(
    client: httpx.AsyncClient, root: Path, live: LiveServer
) -> None:
    make_adapter(root / "pirate")
    await load(client, "pirate")
    journal = live.server.app.models.adapters.journal
    journal.path = root / "pirate" / "adapter_config.json" / "journal.json"

    reply = await client.delete(f"{ROUTE}/pirate")
    status, _ = await error_of(client, {"name": "captain", "folder": "pirate"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "state_unwritable")
    assert (status, await models(client)) == (500, ["model", "pirate"])


async def test_unfinished_copies_and_closed_folders_are_passed_over(
    client: httpx.AsyncClient, root: Path, live: LiveServer
) -> None:
    make_adapter(root / ".upload")
    make_adapter(root / "pirate")

    await live.server.app.models.adapters.reconcile()

    assert await models(client) == ["model", "pirate"]


async def test_what_the_engine_refuses_leaves_nothing(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine, settings: Settings
) -> None:
    make_adapter(root / "pirate")
    engine.refusal = AdapterUnusable("The engine could not apply it.")

    assert (await error_of(client, {"name": "pirate"}))[0] == 422

    assert await models(client) == ["model"]
    snapshots = Path(settings.state_dir) / "adapters" / "snapshots"
    assert not [path for path in snapshots.iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", ["model", "default-model"])
async def test_the_base_models_names_are_taken(
    client: httpx.AsyncClient, root: Path, name: str
) -> None:
    make_adapter(root / name)

    assert (await error_of(client, {"name": name}))[0] == 409
    assert await models(client) == ["model"]


async def test_there_are_as_many_pins_as_set(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine
) -> None:
    for name in ("one", "two", "three"):
        make_adapter(root / name)
    await load(client, "one", pinned=True)
    await load(client, "two", pinned=True)
    assert len(engine.pinned) == 2

    status, message = await error_of(client, {"name": "three", "pinned": True})
    assert (status, "LLM_MAX_PINNED_LORAS" in message) == (409, True)

    await load(client, "one", pinned=False)
    await until(lambda: len(engine.pinned) == 1)
    await load(client, "three", pinned=True)
    await until(lambda: len(engine.pinned) == 2)


async def test_a_hub_is_asked_only_where_it_is_allowed(client: httpx.AsyncClient) -> None:
    status, message = await error_of(client, {"name": "x", "repo": "someone/adapter"})
    assert (status, "LLM_ADAPTER_HUB" in message) == (400, True)

    status, message = await error_of(client, {"name": "x", "repo": "https://example.com/a"})
    assert (status, message.startswith("repo: expected owner/name")) == (400, True)


async def test_adapters_of_the_settings_belong_to_the_settings(
    settings: Settings, tmp_path: Path, root: Path
) -> None:
    set_path = make_adapter(tmp_path / "set")
    make_adapter(root / "other")
    settings = replace(settings, adapters={"set": str(set_path)})
    async with running_server(settings, FakeEngine()) as live:
        live.client.headers.update({"authorization": "Bearer boss"})
        assert (await live.client.delete(f"{ROUTE}/set")).status_code == 409
        assert (await error_of(live.client, {"name": "set", "folder": "other"}))[0] == 409
        make_adapter(set_path, seed=1)
        assert (await load(live.client, "set"))["source"]["kind"] == "setting"


async def test_vllms_routes_do_the_same(client: httpx.AsyncClient, root: Path) -> None:
    make_adapter(root / "pirate")
    body = {"lora_name": "pirate", "lora_path": "pirate"}

    loaded = await client.post("/v1/load_lora_adapter", json=body)
    again = await client.post("/v1/load_lora_adapter", json=body)
    reloaded = await client.post("/v1/load_lora_adapter", json=body | {"load_inplace": True})
    unloaded = await client.post("/v1/unload_lora_adapter", json={"lora_name": "pirate"})
    gone = await client.post("/v1/unload_lora_adapter", json={"lora_name": "pirate"})
    path = await client.post(
        "/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": str(root / "pirate")}
    )

    assert loaded.text == "Success: LoRA adapter 'pirate' added successfully."
    assert (again.status_code, reloaded.status_code) == (400, 200)
    assert unloaded.text == "Success: LoRA adapter 'pirate' removed successfully."
    assert (gone.status_code, path.status_code) == (404, 400)


async def test_only_an_admins_key_changes_adapters(
    live: LiveServer, root: Path, settings: Settings
) -> None:
    for headers, status in (({}, 401), ({"authorization": "Bearer no"}, 401)):
        async with httpx.AsyncClient(base_url=live.url, headers=headers) as client:
            assert (await client.get(ROUTE)).status_code == status
            assert (await client.get("/v1/models")).status_code == 200
    keyed = replace(settings, api_keys=("user",))
    async with running_server(keyed, FakeEngine()) as other:
        user = {"authorization": "Bearer user"}
        assert (await other.client.get(ROUTE, headers=user)).status_code == 403
        admin = {"authorization": "Bearer boss"}
        assert (await other.client.get("/v1/models", headers=admin)).status_code == 200
        assert (await other.client.get("/v1/models")).status_code == 401
    async with running_server(replace(settings, admin_keys=()), FakeEngine()) as other:
        reply = await other.client.post(ROUTE, json={"name": "x"}, headers=user)
        assert (reply.status_code, "LLM_ADMIN_KEYS" in reply.text) == (403, True)
