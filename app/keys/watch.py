"""The key file, watched: what changes in it holds at once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from watchfiles import awatch

from app.keys.file import KeyFile
from app.keys.ring import KeyRing

logger = logging.getLogger(__name__)

LOOK_ANYWAY_MS = 10_000
"""Network file systems tell nothing; so look now and then."""


@asynccontextmanager
async def followed(ring: KeyRing) -> AsyncIterator[None]:
    """Reload the keys whenever their file changes, until the block ends."""
    following = asyncio.create_task(follow(ring))
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])


async def follow(ring: KeyRing) -> None:
    """Until cancelled; without anything that tells of changes, look now and then."""
    if ring.file is None:
        return
    while True:
        try:
            await reload_at_changes(ring, ring.file)
        except OSError as error:  # no inotify left, or no folder at the moment
            logger.warning("changes of the key file are noticed late, because of %s", error)
        await ring.reload()
        await asyncio.sleep(LOOK_ANYWAY_MS / 1000)


async def reload_at_changes(ring: KeyRing, file: KeyFile) -> None:
    """Its folder is watched: editors replace files, and orchestrators what their links lead to."""
    changes = awatch(
        file.path.absolute().parent,
        recursive=False,
        rust_timeout=LOOK_ANYWAY_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    async for _ in changes:
        await ring.reload()
