"""What was asked for while the server ran, in a file that outlives it.

Several servers of one model may share it: each change is one rename, made under a lock.
"""

from pathlib import Path

import msgspec

from app.adapters.source import Source
from app.durable import locked, replace_file


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
        with locked(self.path):
            entries = self.read()
            before = entries.pop(name, Entry())
            if entry != before:
                changed = entries if entry == Entry() else entries | {name: entry}
                text = msgspec.json.format(msgspec.json.encode(changed, order="sorted"))
                replace_file(self.path, text)
        return before
