"""Function calls of one thread, as Python itself reports them."""

import sys
from collections import Counter
from types import CodeType, FrameType
from typing import Any

import msgspec


class Calls(msgspec.Struct):
    """How often what was called: Python's functions by file and name, built-in ones by name."""

    python: dict[str, int]
    builtin: dict[str, int]

    @property
    def num_python(self) -> int:
        return sum(self.python.values())

    @property
    def num_builtin(self) -> int:
        return sum(self.builtin.values())


class CallCounter:
    """Counts between `start` and `stop`, which have to be called in the thread that is watched.

    A coroutine or a generator that goes on counts as a call. What compiled code calls itself is
    not seen.
    """

    def __init__(self) -> None:
        self._python: dict[CodeType, int] = {}
        self._builtin: dict[str, int] = {}

    def start(self) -> None:
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            self._python[frame.f_code] = self._python.get(frame.f_code, 0) + 1
        elif event == "c_call":
            name = called.__qualname__
            self._builtin[name] = self._builtin.get(name, 0) + 1

    def stop(self) -> Calls:
        """What has been called since `start`."""
        sys.setprofile(None)
        python: Counter[str] = Counter()
        for code, count in self._python.items():
            python[f"{code.co_filename}:{code.co_qualname}"] += count
        calls = Calls(dict(python), self._builtin)
        self._python, self._builtin = {}, {}
        return calls
