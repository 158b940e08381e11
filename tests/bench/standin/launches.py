"""How each frontend is started.

All are told that their engine runs on another machine (`data_parallel_size_local` 0), whose core
then greets them at a port: nothing of a frontend is changed for it, ours neither.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.standin.asks import MODEL_NAME
from tests.ports import free_port

KEY = "bench"
ENGINE: dict[str, Any] = {
    "dtype": "bfloat16",
    "max-model-len": 2048,
    "max-num-seqs": 256,
    "generation-config": "vllm",
    "data-parallel-size-local": 0,
    "data-parallel-address": "127.0.0.1",
}
"""vLLM's arguments, the same for all."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Of every frontend; the Rust one is told where its binary is beside it."""


class Place(msgspec.Struct):
    """Where one frontend runs: its folder, the model, its ports."""

    folder: Path
    model: Path
    port: int
    core_port: int


class Launch(msgspec.Struct):
    """What is run: a Python module with options, and environment variables of its own."""

    name: str
    module: str
    options: list[str]
    environment: dict[str, str] = {}


def launch_ours(place: Place) -> Launch:
    """As it is released, with a key; its log and counts are on."""
    folder = place.folder
    options = ["--model", str(place.model), "--port", str(place.port), "--api-keys", KEY]
    options += ["--log-dir", f"{folder}/log", "--state-dir", f"{folder}/state"]
    options += ["--index-cache-dir", f"{folder}/indexes", "--linger-seconds", "0"]
    return Launch("ours", "app", options + flags(ENGINE | {"model-name": MODEL_NAME}, place))


def launch_vllm(place: Place) -> Launch:
    """vLLM's own server, as documented, but without a line in its log for every access."""
    options = ["serve", str(place.model), "--host", "127.0.0.1", "--port", str(place.port)]
    options += ["--enforce-eager", "--disable-uvicorn-access-log"]
    options += flags(ENGINE | {"served-model-name": MODEL_NAME}, place)
    return Launch("vllm-python", "tests.bench.vllm_cli", options)


def launch_rust(place: Place, binary: Path) -> Launch:
    """The same with the frontend that is a binary."""
    rust = {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(binary)}
    launch = launch_vllm(place)
    return msgspec.structs.replace(launch, name="vllm-rust", environment=rust)


def launch_direct(place: Place) -> Launch:
    options = [str(place.core_port), str(place.model)]
    return Launch("direct", "tests.bench.standin.direct", options)


def flags(arguments: dict[str, Any], place: Place) -> list[str]:
    given = arguments | {"data-parallel-rpc-port": place.core_port}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


LAUNCHES: dict[str, Callable[[Place], Launch]] = {
    "ours": launch_ours,
    "vllm-python": launch_vllm,
    "direct": launch_direct,
}


def place_in(folder: Path, model: Path) -> Place:
    """On ports that are free now."""
    return Place(folder, model, free_port(), free_port())
