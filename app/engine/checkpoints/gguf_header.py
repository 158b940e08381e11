"""A GGUF file in, what its header says of it out, without reading a weight.

Knows nothing of how the file is loaded or converted.
"""

import struct
from pathlib import Path
from typing import Any, Final

import msgspec
from transformers.integrations.gguf import read_gguf_metadata

from app.engine.checkpoints.unusable import CheckpointUnusable, first_line

MAGIC: Final = b"GGUF"
UNREADABLE: Final = (ValueError, KeyError, IndexError, struct.error, OverflowError, MemoryError)
"""What transformers' reader raises for bytes that are no GGUF file, or half of one."""


class GGUFHeader(msgspec.Struct, frozen=True):
    """Keys and tensor names; arrays of strings are given by their length."""

    path: Path
    metadata: dict[str, Any]
    tensor_names: frozenset[str]

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def is_projector(self) -> bool:
        """A vision tower and what joins it to a language model: llama.cpp's mmproj files."""
        kind = self.metadata.get("general.type")
        return self.architecture == "clip" or kind == "mmproj"

    def of_model(self, key: str) -> Any:
        """The value of a key below the architecture's name; None if the file lacks it."""
        return self.metadata.get(f"{self.architecture}.{key}")


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_header(path: Path) -> GGUFHeader:
    """Raises CheckpointUnusable if the file is absent, damaged or no GGUF file."""
    try:
        if not is_gguf(path):
            reason = "is not a GGUF file" if path.is_file() else "does not exist"
            raise CheckpointUnusable(f"{path} {reason}.")
        metadata, names = read_gguf_metadata(str(path))
    except OSError as error:
        raise CheckpointUnusable(f"{path} cannot be read: {error.strerror}.") from error
    except UNREADABLE as error:
        raise CheckpointUnusable(
            f"{path} is damaged or cut short ({first_line(error)}): get it again."
        ) from error
    return GGUFHeader(path, metadata, frozenset(names))
