"""Adapters' files to copies that never change, each under the hash of what it holds.

The engine reads an adapter again whenever it has dropped it from memory, at any later time: were
that the original, a file replaced meanwhile would answer in the old one's name, and a missing one
would end the engine. Several servers may share the folder: each holds a lock on what it uses.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.adapters.source import FILES

CHUNK_BYTES = 2**20

Check = Callable[[int], None]
"""Told the descriptor of each file before it is read; raises for one that must not be."""


class Snapshot(NamedTuple):
    """One copy, and the SHA-256 of its files."""

    digest: str
    path: Path


class SnapshotStore:
    """Copies in a folder; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, int] = {}
        self._users: dict[str, int] = {}

    def open(self) -> None:
        """Make the folder, and remove what servers that are gone have left in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            for path in self._folder.iterdir():
                if path.is_dir() and path.name not in self._locks:
                    self._remove_unused(path)

    def take(self, source: Path, check: Check | None = None) -> Snapshot:
        """Copy both files; `drop` what is taken. Raises OSError, and what `check` raises."""
        fresh = self._make_fresh()
        try:
            hashed = hashlib.sha256()
            for name in FILES:
                hashed.update(copy_hashed(source / name, fresh.path / name, check))
            return self._settle(fresh.path, hashed.hexdigest())
        finally:
            self.drop(fresh)

    def _make_fresh(self) -> Snapshot:
        """A folder to copy into, locked, lest another server take it for a dead one's."""
        with self._exclusive():
            path = Path(tempfile.mkdtemp(prefix="new-", dir=self._folder))
            self._hold(path.name)
        return Snapshot(path.name, path)

    def _settle(self, fresh: Path, digest: str) -> Snapshot:
        path = self._folder / digest
        with self._exclusive():
            self._hold(digest)
            if not path.exists():
                fresh.rename(path)
        return Snapshot(digest, path)

    def drop(self, snapshot: Snapshot) -> None:
        """Use it no longer; its last user removes it."""
        self._users[snapshot.digest] -= 1
        if self._users[snapshot.digest]:
            return
        with self._exclusive():
            del self._users[snapshot.digest]
            os.close(self._locks.pop(snapshot.digest))
            self._remove_unused(snapshot.path)

    def close(self) -> None:
        """Drop whatever is still used."""
        for digest in list(self._locks):
            self._users[digest] = 1
            self.drop(Snapshot(digest, self._folder / digest))

    def _hold(self, digest: str) -> None:
        if digest not in self._locks:
            self._locks[digest] = os.open(self._lock_file(digest), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._locks[digest], fcntl.LOCK_SH)
        self._users[digest] = self._users.get(digest, 0) + 1

    def _remove_unused(self, path: Path) -> None:
        """Remove a copy that no server holds."""
        lock = os.open(self._lock_file(path.name), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            shutil.rmtree(path, ignore_errors=True)
            self._lock_file(path.name).unlink()
        finally:
            os.close(lock)

    def _lock_file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """No other server takes or removes anything meanwhile."""
        gate = os.open(self._folder / "gate.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield
        finally:
            os.close(gate)


def copy_hashed(source: Path, target: Path, check: Check | None) -> bytes:
    """Copy a file; returns its SHA-256."""
    hashed = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        if check:
            check(reader.fileno())
        while chunk := reader.read(CHUNK_BYTES):
            hashed.update(chunk)
            writer.write(chunk)
    return hashed.digest()
