"""Small files that several processes change: each change is one rename, made under a lock."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """All of it or nothing, whenever the machine stops. Raises OSError.

    A new file is its owner's alone. One that was there stays readable for the same users.
    """
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # it may have been left behind with other rights
        if path.exists():
            keep_rights(descriptor, path.stat())
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def keep_rights(descriptor: int, was: os.stat_result) -> None:
    """Give an open file the mode of another, and its owner where that is allowed."""
    with suppress(PermissionError):
        os.fchown(descriptor, was.st_uid, was.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(was.st_mode))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file; its folder is made if need be.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
