"""The id of a model in, the folder or file it was downloaded to out.

Runs in a child process (`child.py`). Files come into the hub's own cache, where downloads resume
and other programs find them; without a network what is there already is used. Which hub is asked
is known in `huggingface.py` and `modelscope.py` alone.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, Literal, Protocol

import msgspec

from app.engine.checkpoints.child import Report
from app.engine.checkpoints.folder import WEIGHTS_SUFFIX, check_weights
from app.engine.checkpoints.unusable import CheckpointUnusable

HubName = Literal["huggingface", "modelscope"]

TEXTS: Final = frozenset({".json", ".jinja", ".model", ".tiktoken", ".txt"})
TEMPLATES: Final = "additional_chat_templates/"
PART: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A model on a hub, and what of it is wanted."""

    name: str
    """`owner/name`."""
    revision: str | None = None
    gguf: str = ""
    """A GGUF file's path, or the quantization in its name, such as Q4_K_M. Empty: a checkpoint."""
    code: bool = False
    """Whether the model's own Python files may run, and so are fetched."""


class HubUnreachable(Exception):
    """There is no network, or it is not to be used."""


class Hub(Protocol):
    """Each method raises CheckpointUnusable, and HubUnreachable where it needs the network."""

    def sizes(self, name: str, revision: str | None) -> Mapping[str, int]:
        """The repository's files and their sizes in bytes."""
        ...

    def download(
        self, name: str, revision: str | None, files: Mapping[str, int], report: Report
    ) -> Path:
        """Fetch what the cache lacks of these files; the folder that holds them."""
        ...

    def cached(self, name: str, revision: str | None) -> Path:
        """The folder of a repository that was downloaded before."""
        ...


def fetch(report: Report, hub_name: HubName, repository: Repository) -> Path:
    """A folder; a file if a GGUF file is wanted. Raises CheckpointUnusable."""
    hub = open_hub(hub_name)
    name, revision = repository.name, repository.revision
    try:
        sizes = hub.sizes(name, revision)
        chosen = choose(sizes, repository)
        folder = hub.download(name, revision, {file: sizes[file] for file in chosen}, report)
    except HubUnreachable as error:
        folder = cached(hub, repository, error)
        chosen = choose([str(path.relative_to(folder)) for path in folder.rglob("*")], repository)
    return folder / chosen[0] if repository.gguf else folder


def open_hub(name: HubName) -> Hub:
    """Their packages take a second to import, and only one of them is needed."""
    if name == "modelscope":
        from app.engine.checkpoints.modelscope import ModelScope

        return ModelScope()
    from app.engine.checkpoints.huggingface import HuggingFace

    return HuggingFace()


def cached(hub: Hub, repository: Repository, error: HubUnreachable) -> Path:
    try:
        return hub.cached(repository.name, repository.revision)
    except HubUnreachable:
        raise CheckpointUnusable(
            f"{repository.name} is no folder here, was not downloaded before, and the hub cannot "
            f"be reached: {error}."
        ) from error


def choose(files: Iterable[str], repository: Repository) -> list[str]:
    """What is needed of a repository's files. Raises CheckpointUnusable if it cannot be served."""
    names = sorted(files)
    if repository.gguf:
        return [choose_gguf(names, repository)]
    check_weights(repository.name, {name for name in names if "/" not in name})
    texts = TEXTS | ({".py"} if repository.code else set())
    return choose_weights(names) + [
        name
        for name in names
        if PurePosixPath(name).suffix in texts and ("/" not in name or name.startswith(TEMPLATES))
    ]


def choose_weights(names: list[str]) -> list[str]:
    """Those at the top; Mistral's own format beside the usual one is the same weights again."""
    weights = [name for name in names if "/" not in name and name.endswith(WEIGHTS_SUFFIX)]
    return [name for name in weights if not name.startswith("consolidated")] or weights


def choose_gguf(names: list[str], repository: Repository) -> str:
    """The file of that path, or the shortest name with that quantization in it."""
    files = [name for name in names if name.endswith(".gguf") and "mmproj" not in name.lower()]
    if repository.gguf in names:
        return repository.gguf
    wanted = re.compile(rf"(^|[-._/]){re.escape(repository.gguf)}[-./]", re.IGNORECASE)
    found = sorted((name for name in files if wanted.search(name)), key=len)
    if not found:
        offered = ", ".join(files) or "none at all"
        raise CheckpointUnusable(
            f"{repository.name} has no GGUF file {repository.gguf}; it has {offered}."
        )
    if PART.search(found[0]):
        raise CheckpointUnusable(
            f"{found[0]} is a part of a GGUF file: join the parts with llama-gguf-split --merge."
        )
    return found[0]
