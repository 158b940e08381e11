"""A source to the folder that holds its files now, and to what tells whether they changed."""

import os
import stat
from pathlib import Path

from app.adapters.hub import download, pinned_to_commit
from app.adapters.source import FILES, WEIGHTS_FILE, AdapterRoot, Source
from app.errors import AdapterUnusable, InvalidRequest
from app.settings import Settings

Stamp = tuple[tuple[int, int, int], ...]
"""Of each file: inode, size in bytes, time of change in nanoseconds."""


class AdapterFiles:
    """Finds adapters' files as the settings allow. All of it blocks."""

    def __init__(self, settings: Settings) -> None:
        self.root = AdapterRoot(settings.adapter_folder)
        self._hub_is_allowed = settings.adapter_hub
        self._max_bytes = settings.max_adapter_mib * 2**20

    def settle(self, source: Source) -> Source:
        """The source, of a hub id the commit, whose files are on this machine afterwards.

        Raises InvalidRequest, AdapterNotFound, AdapterUnusable and HubUnreachable.
        """
        if source.kind != "hub":
            return source
        self._check_hub()
        return pinned_to_commit(source, self._max_bytes)

    def _check_hub(self) -> None:
        if not self._hub_is_allowed:
            raise InvalidRequest(
                "repo: adapters of a hub are not allowed here (LLM_ADAPTER_HUB).", param="repo"
            )

    def place(self, source: Source) -> str:
        """Where it is, for people: a path or a hub id."""
        root = self.root.path
        return str(root / source.location) if root and source.kind == "folder" else source.location

    def folder(self, source: Source) -> Path:
        """Raises what `settle` raises."""
        match source.kind:
            case "setting":
                return Path(source.location)
            case "hub":
                self._check_hub()
                return download(source)
        folder = self.root.find(source.location, "folder")
        for name in FILES:
            self.root.check_inside(folder / name)
        return folder

    def checked(self, source: Source) -> Path:
        """The folder, if both files are there and not too large. Raises what `folder` raises."""
        folder = self.folder(source)
        sizes = {name: size_of(folder / name) for name in FILES}
        for name, found in sizes.items():
            if found is None:
                raise AdapterUnusable(f"There is no {name}; pickled weights are not read.")
        size = sizes[WEIGHTS_FILE] or 0
        if size > self._max_bytes:
            raise AdapterUnusable(
                f"{WEIGHTS_FILE} has {size} bytes; at most {self._max_bytes} are loaded "
                "(LLM_MAX_ADAPTER_MIB)."
            )
        return folder

    def stamp(self, source: Source | None) -> Stamp:
        """Differs when files have been changed; a hub's commit never does.

        Raises what `folder` raises.
        """
        if source is None or source.kind == "hub":
            return ()
        folder = self.folder(source)
        stats = [stat_of(folder / name) for name in FILES]
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in stats if each)


def stat_of(path: Path) -> os.stat_result | None:
    """None for what is no file, or is gone by now, or may not be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def size_of(path: Path) -> int | None:
    found = stat_of(path)
    return found.st_size if found else None
