"""Child processes that die with us, however we die, and that the terminal's Ctrl-C passes by.

vLLM's core outlives a server that was killed and keeps the device's memory; and Ctrl-C goes to
every process of the terminal's group, so that the core would stop before the server has drained.
"""

import ctypes
import multiprocessing
import os
import signal
from typing import Any

PR_SET_PDEATHSIG = 1
"""Of Linux, prctl(2): the signal that a process gets when the thread that started it ends."""


class Leash:
    """Goes into a child with all that multiprocessing hands it, and is tied on there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tie, (os.getpid(),)


def leash_children() -> None:
    """Tie every process that multiprocessing spawns from here on, and what these spawn.

    A process' `_config` is copied into its children, which read it before they import what they
    are to run: vLLM takes seconds for that. Its resource tracker is none of them: it has to live a
    moment longer, and then removes our shared memory.
    """
    multiprocessing.current_process()._config["leash"] = Leash()  # type: ignore[attr-defined]


def tie(parent: int) -> Leash:
    """Runs in the child. Whoever started it may be gone before the kernel was told to look."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    os.setpgid(0, 0)
    return Leash()
