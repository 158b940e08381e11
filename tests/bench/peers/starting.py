"""Which peers there are, and the commands that start them with the same engine arguments."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.peers.peers import Child, Peer, Server
from tests.bench.peers.settings import bench_settings

OURS, DIRECT, TRANSFORMERS = "ours", "engine directly", "transformers"
PYTHON, RUST = "vLLM Python", "vLLM Rust"
SERVE_MODULE = "tests.bench.vllm_cli"
DIRECT_MODULE = "tests.bench.peers.direct"
TRANSFORMERS_MODULE = "tests.bench.peers.transformers_way"
PICTURES_ONLY = "mm_processor_cache_gb"
"""Means nothing to a model that reads text, and the Rust frontend refuses it (vLLM 0.32)."""


class Peers(msgspec.Struct):
    """All that are up, by name, and the engine arguments that they share."""

    running: dict[str, Peer] = {}
    arguments: dict[str, Any] = {}


@contextmanager
def started(names: set[str], rust: Path | None, folder: Path) -> Iterator[Peers]:
    """The engine alone, which is always needed, and those named, all of them stopped.

    Started one after the other: each takes all cores.
    """
    peers = Peers()
    try:
        direct = peers.running[DIRECT] = Child("direct", [DIRECT_MODULE], folder, {})
        peers.arguments = direct.until_ready()
        direct.pause()
        for name in (OURS, PYTHON, RUST, TRANSFORMERS):
            if name in names:
                peers.running[name] = start(name, peers.arguments, rust, folder)
                peers.running[name].pause()
        yield peers
    finally:
        for peer in peers.running.values():
            peer.close()


def start(name: str, arguments: dict[str, Any], rust: Path | None, folder: Path) -> Peer:
    """Raises RuntimeError if it does not come up."""
    peer = make(name, arguments, rust, folder)
    try:
        peer.until_ready()
    except BaseException:
        peer.close()
        raise
    return peer


def make(name: str, arguments: dict[str, Any], rust: Path | None, folder: Path) -> Child | Server:
    if name == TRANSFORMERS:
        return Child("transformers", [TRANSFORMERS_MODULE], folder, {})
    if name == OURS:
        return Server("ours", our_command(folder), folder, {})
    variables = rust_variables(rust) if name == RUST and rust else {}
    return Server(name.replace(" ", "-"), serve_command(arguments), folder, variables)


def our_command(folder: Path) -> list[str]:
    """As released: with keys, metrics, logs and admission."""
    settings = bench_settings()
    command = ["app", "--model", settings.model, "--model-name", settings.model_name]
    command += ["--api-keys", ",".join(settings.api_keys)]
    return [*command, "--log-dir", str(folder / "logs"), "--state-dir", str(folder / "state")]


def serve_command(arguments: dict[str, Any]) -> list[str]:
    """vLLM's own server. Without its access log, which is in its favour."""
    given = {name: value for name, value in arguments.items() if name != PICTURES_ONLY}
    command = [SERVE_MODULE, "serve", given.pop("model"), "--host", "127.0.0.1"]
    command += ["--disable-uvicorn-access-log"]
    return [*command, *(word for item in given.items() for word in option(*item))]


def option(name: str, value: Any) -> list[str]:
    """An engine argument as vLLM's command line wants it."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag.removeprefix("--")]
    return [flag, json.dumps(value) if isinstance(value, dict) else str(value)]


def rust_variables(binary: Path) -> dict[str, str]:
    return {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(binary.resolve())}
