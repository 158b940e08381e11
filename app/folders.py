"""Folders of the user's own in which the server writes: what may be lost, and what must not be."""

import os
import tempfile
from pathlib import Path

NAME = "slipstream"


def cache_folder(chosen: str) -> Path:
    """What can be made again, for instance compiled patterns."""
    return user_folder(chosen, "XDG_CACHE_HOME", ".cache")


def state_folder(chosen: str) -> Path:
    """What outlives a restart."""
    return user_folder(chosen, "XDG_STATE_HOME", ".local/state")


def user_folder(chosen: str, variable: str, in_home: str) -> Path:
    """The chosen folder, or ours as the XDG base directories say.

    If that cannot be written to, a temporary one, which is the same at each start.
    """
    if chosen:
        return Path(chosen)
    try:
        folder = Path(os.environ.get(variable) or Path.home() / in_home) / NAME
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # nobody has a home who is not in passwd
        return own_temporary_folder()


def own_temporary_folder() -> Path:
    """The same one at each start, unless somebody else has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid == os.getuid():
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
