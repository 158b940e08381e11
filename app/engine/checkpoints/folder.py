"""A folder of model files in, the same folder out if vLLM can load it safely."""

import json
from pathlib import Path
from typing import Final

from app.engine.checkpoints.unusable import CheckpointUnusable

WEIGHTS_SUFFIX: Final = ".safetensors"
INDEX: Final = "model.safetensors.index.json"
PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt"})
"""Weights whose reading may run code that is hidden in them: never loaded."""


def checked(folder: Path) -> Path:
    """Raises CheckpointUnusable if the config or some weights are missing."""
    try:
        names = {path.name for path in folder.iterdir()}
        if not names & {"config.json", "params.json"}:
            raise CheckpointUnusable(f"{folder} has no config.json: it holds no model.")
        check_weights(str(folder), names)
        check_index(folder, names)
    except (OSError, ValueError) as error:
        raise CheckpointUnusable(f"{folder} cannot be read: {error}.") from error
    return folder


def check_weights(where: str, names: set[str]) -> None:
    """`names`: the files at the top of a folder or repository, which `where` names."""
    suffixes = {Path(name).suffix for name in names}
    if WEIGHTS_SUFFIX in suffixes:
        return
    if ".gguf" in suffixes:
        example = min(name for name in names if name.endswith(".gguf"))
        raise CheckpointUnusable(f"{where} holds GGUF files: name one, as in {where}/{example}.")
    if suffixes & PICKLES:
        raise CheckpointUnusable(
            f"{where} has its weights as pickles only, which may run code and are never loaded: "
            "convert them to safetensors."
        )
    raise CheckpointUnusable(f"{where} has no weights (*.safetensors).")


def check_index(folder: Path, names: set[str]) -> None:
    """A copy or download that was broken off lacks some of the files that the index lists."""
    if INDEX not in names:
        return
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    missing = sorted(set(index["weight_map"].values()) - names)
    if missing:
        raise CheckpointUnusable(
            f"{folder} lacks {len(missing)} of its files, {missing[0]} first: get it again."
        )
