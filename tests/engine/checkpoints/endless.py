"""Work that never ends by itself, in a module that a child process imports quickly."""

import threading

from app.engine.checkpoints.child import Report


def endless(report: Report) -> None:
    """Tell that half is done, and wait."""
    report(1, 2)
    threading.Event().wait()
