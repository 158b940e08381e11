"""Key files of tests: who is in them, and what is sent with whose key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.keys.file import KeyFile, digest
from app.keys.grant import Grant

Hire = Callable[..., dict[str, str]]


def hashed(key: str) -> str:
    return f"sha256:{digest(key).hex()}"


def header(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    file = KeyFile(tmp_path / "keys.toml")
    file.add("somebody", Grant(hash=hashed("somebody")))
    return file


@pytest.fixture
def hire(key_file: KeyFile) -> Hire:
    """Write a key with these limits into the file; gives its header."""

    def add(alias: str, **fields: Any) -> dict[str, str]:
        key_file.add(alias, Grant(hash=hashed(alias), **fields))
        return header(alias)

    return add
