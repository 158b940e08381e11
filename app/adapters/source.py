"""Where adapters come from: a setting, a folder in the watched one, or a hub.

Clients only ever give names; what a name leads to is judged here.
"""

import logging
import os
import re
from pathlib import Path
from typing import Literal

import msgspec

from app.errors import AdapterNotFound, InvalidRequest

logger = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)

NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""An owner and a repository, as the Hugging Face hub allows them."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one adapter's files are."""

    kind: Literal["setting", "folder", "hub"]

    location: str
    """A path that the operator set, the name of a folder in the watched one, or a hub id."""

    revision: str = ""
    """Of a hub id: a branch, tag or commit. Empty: the default branch."""


class AdapterRoot:
    """The watched folder; each folder in it that has a configuration is an adapter."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve() if path else None

    def names(self) -> list[str]:
        """What is in it, without what could not be asked for by name."""
        if self.path is None:
            return []
        try:
            names = os.listdir(self.path)
        except OSError as error:
            logger.warning("the folder of adapters cannot be read: %s", error)
            return []
        return sorted(filter(self._is_adapter, names))

    def _is_adapter(self, name: str) -> bool:
        """Names that begin with a dot are of copies and uploads that are not finished."""
        if self.path is None or name.startswith(".") or not NAME.fullmatch(name):
            return False
        return os.path.isfile(self.path / name / CONFIG_FILE)  # False too where it may not look

    def find(self, name: str, param: str) -> Path:
        """The folder of that name. Raises InvalidRequest and AdapterNotFound."""
        check_name(name, param)
        if self.path is None:
            raise AdapterNotFound("This server has no folder of adapters (LLM_ADAPTER_DIR).")
        folder = self.path / name
        self.check_inside(folder)
        if not folder.is_dir():
            raise AdapterNotFound(f"The folder of adapters holds no {name!r}.", param=param)
        return folder

    def check_open(self, descriptor: int) -> None:
        """The same of a file that has been opened: its path may lead elsewhere by now."""
        self.check_inside(Path(f"/proc/self/fd/{descriptor}"))

    def check_inside(self, path: Path) -> None:
        """Raises InvalidRequest for a link that leads out of the folder of adapters."""
        if self.path is not None and not path.resolve().is_relative_to(self.path):
            raise InvalidRequest("A link leads out of the folder of adapters.", param="name")


def check_name(name: str, param: str) -> None:
    """Raises InvalidRequest."""
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{param}: expected 1 to 64 letters, digits, '.', '_' or '-', got {name[:100]!r}.",
            param=param,
        )


def check_hub_id(repo: str) -> None:
    """Raises InvalidRequest."""
    if not HUB_ID.fullmatch(repo):
        raise InvalidRequest(f"repo: expected owner/name, got {repo[:100]!r}.", param="repo")
