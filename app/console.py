"""The terminal: a few lines of ours, while everything vLLM prints goes to a file."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

from app import __version__
from app.log import configure_logging
from app.settings import Settings

ENGINE_LOG = "engine.log"


class Console:
    """Owns the standard streams while the server runs.

    vLLM's processes inherit file descriptors 1 and 2, so these point to `engine.log`; our own
    lines go to a copy of the terminal's. Without a writable log folder everything stays here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.terminal: TextIO = sys.stderr
        self.folder: Path | None = None
        self._saved: tuple[int, ...] = ()

    def __enter__(self) -> "Console":
        self.folder = writable(self._settings.log_dir)
        if self.folder:
            self._saved = (os.dup(1), os.dup(2))
            self.terminal = os.fdopen(self._saved[1], "w", buffering=1, closefd=False)
            self._redirect(self.folder / ENGINE_LOG)
        configure_logging(self._settings.log_level, self.folder, self.terminal)
        return self

    def _redirect(self, path: Path) -> None:
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)

    def announce(self) -> None:
        """Say what is about to happen: imports and loading take a while."""
        settings = self._settings
        logs = self.folder.resolve() if self.folder else "this console"
        self.say(f"Slipstream {__version__}: loading {settings.served_name}")
        self.say(f"  model {settings.model_path}")
        self.say(f"  logs  {logs}")

    def say(self, line: str) -> None:
        print(line, file=self.terminal, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """After a crash, give the streams back, so that its traceback reaches the terminal."""
        if error is None:
            return
        for number, saved in enumerate(self._saved, start=1):
            os.dup2(saved, number)


def writable(path: str) -> Path | None:
    """The folder, made if need be; None if there is no place to write."""
    if not path:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"slipstream: no log files, {error}", file=sys.stderr)
        return None
    if not os.access(folder, os.W_OK):
        print(f"slipstream: no log files, {folder} is not writable", file=sys.stderr)
        return None
    return folder
