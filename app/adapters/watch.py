"""The folder of adapters and the journal, watched: what changes there is followed.

`watchfiles` waits until a burst of changes is over; an adapter that is only half there all the same
fails its checks, the old one stays, and the next change is another try.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from watchfiles import Change, awatch

from app.adapters.registry import AdapterRegistry

logger = logging.getLogger(__name__)

LOOK_ANYWAY_MS = 30_000
"""Network file systems tell nothing; so look now and then."""


async def watch(registry: AdapterRegistry) -> None:
    """Reconcile at every change, until cancelled; whatever fails, look again after a while."""
    polling = False
    while True:
        try:
            await follow(registry, polling=polling)
        except OSError as error:  # no inotify left, for instance
            logger.warning("the folder of adapters is polled, because of %s", error)
            polling = True
        except Exception:
            logger.exception("following the folder of adapters failed")
        await asyncio.sleep(LOOK_ANYWAY_MS / 1000)


async def follow(registry: AdapterRegistry, *, polling: bool) -> None:
    journal = registry.journal.path
    journal.parent.mkdir(parents=True, exist_ok=True)
    root = registry.files.root.path
    folders = [journal.parent] if root is None else [root, journal.parent]
    changes = awatch(
        *folders,
        watch_filter=is_ours(journal),
        rust_timeout=LOOK_ANYWAY_MS,
        yield_on_timeout=True,
        force_polling=polling or None,
        ignore_permission_denied=True,
    )
    async for _ in changes:
        await registry.reconcile()


def is_ours(journal: Path) -> Callable[[Change, str], bool]:
    """Everything in the folder of adapters, and the journal without the files beside it."""

    def accepts(_: Change, path: str) -> bool:
        return Path(path).parent != journal.parent or Path(path) == journal

    return accepts
