"""Both Python servers with real engines, started with the same engine arguments."""

from pathlib import Path
from typing import Any

import httpx

from app.demo import DEMO_ADAPTERS_PATH
from app.engine.environment import prepare_environment
from tests.bench.growth.rows import OURS
from tests.bench.peers.peers import Server
from tests.bench.peers.settings import bench_settings
from tests.bench.peers.starting import our_command, serve_command

ADMIN_KEY = "bench-admin"


def engine_arguments() -> dict[str, Any]:
    """Ours as released, of the demo model; vLLM chooses the others alike for both servers.

    Imports vLLM, which takes seconds.
    """
    from app.engine.arguments import on_cpu, ours

    settings = bench_settings()
    prepare_environment(settings)
    given = ours(settings) | on_cpu() | {"model": settings.model_path}
    return {name: value for name, value in given.items() if value is not None}


def start_server(name: str, arguments: dict[str, Any], folder: Path) -> Server:
    """Not ready yet. Both serve the demo model's adapters; end it with `close`."""
    folder.mkdir(parents=True)
    if name == OURS:
        command = [*our_command(folder), "--admin-keys", ADMIN_KEY, "--linger-seconds", "0"]
        return Server(name, command, folder, {})
    adapters = [f"{each.parent.name}={each.parent}" for each in adapter_files()]
    command = [*serve_command(arguments), "--lora-modules", *adapters]
    return Server(name, command, folder, {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})


def adapter_files() -> list[Path]:
    return sorted(DEMO_ADAPTERS_PATH.glob("*/adapter_config.json"))


def load_adapter(server: Server, name: str, source: Path) -> None:
    """One more of the demo model's, under another name. Raises httpx.HTTPStatusError."""
    if server.name == OURS:
        path, body = "/v1/adapters", {"name": name, "folder": source.name}
    else:
        path, body = "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(source)}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    reply = httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)
    reply.raise_for_status()
