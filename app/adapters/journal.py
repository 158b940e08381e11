"""What was asked for while the server ran, in a file that outlives it.

Several servers of one model may share it: each change is one rename, made under a lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from app.adapters.source import Source


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of one name."""

    source: Source | None = None
    """Where to load it from; None for the folder of its name, which needs no entry."""

    pinned: bool = False
    unloaded: bool = False
    """It stays away although its folder is there."""


Entries = dict[str, Entry]


class Journal:
    """Entries by adapter name; a missing file has none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Entries:
        """Raises OSError, and msgspec.DecodeError if somebody else wrote into it."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Entries)
        except FileNotFoundError:
            return {}

    def write(self, name: str, entry: Entry) -> Entry:
        """Remember an entry, and return what was there; one that says nothing is forgotten.

        Raises as `read` does.
        """
        with self._locked():
            entries = self.read()
            before = entries.pop(name, Entry())
            if entry != before:
                changed = entries if entry == Entry() else entries | {name: entry}
                self._replace(msgspec.json.format(msgspec.json.encode(changed, order="sorted")))
        return before

    def _replace(self, content: bytes) -> None:
        """All of it or nothing, whenever the machine stops."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
