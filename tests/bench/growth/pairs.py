"""Both Python frontends before a stand-in engine core each, with room for what grows."""

import contextlib
import json
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from app.demo import DEMO_MODEL_PATH
from tests.bench.standin.frontends import Frontend, start
from tests.bench.standin.launches import Launch, launch_ours, launch_vllm, place_in

CONTEXT = 65536
"""Tokens: 1,000 messages fit."""

ROOM = ["--max-model-len", str(CONTEXT), "--max-num-batched-tokens", str(CONTEXT)]
ROOM += ["--max-num-seqs", "4096"]
"""For both; of an option that is given twice, the second counts."""

OUR_ROOM = ["--max-in-flight", "4096"]
"""Three quarters of which one key may take (`owner_share`)."""

MODEL = "model"
"""Folder in that of the pair, for who checks replies."""

NUM_FILES = 16384


@contextlib.contextmanager
def pair(folder: Path) -> Iterator[Sequence[Frontend]]:
    """Ours and vLLM's, ready, until the block ends. Raises RuntimeError, TimeoutError."""
    allow_files()
    model = long_model(folder / MODEL)
    with contextlib.ExitStack() as stack:
        frontends = []
        for launcher, more in ((launch_ours, ROOM + OUR_ROOM), (launch_vllm, ROOM)):
            place = place_in(folder / launcher.__name__, model)
            launch = with_options(launcher(place), more)
            frontends.append(stack.enter_context(start(launch, place)))
            print(f"{launch.name} is ready", flush=True)
        yield frontends


def with_options(launch: Launch, more: Sequence[str]) -> Launch:
    return msgspec.structs.replace(launch, options=[*launch.options, *more])


def long_model(folder: Path) -> Path:
    """The demo model, but with a context that is long enough. Only its tokenizer is used."""
    shutil.copytree(DEMO_MODEL_PATH, folder)
    change(folder / "config.json", "max_position_embeddings")
    change(folder / "tokenizer_config.json", "model_max_length")
    return folder


def change(file: Path, field: str) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: CONTEXT}))


def allow_files() -> None:
    """A connection is a file, here and in what is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = NUM_FILES if hard == resource.RLIM_INFINITY else min(NUM_FILES, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
