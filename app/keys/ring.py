"""Every key that is accepted, from the settings and from the key file, and who holds it."""

import datetime
import hmac
import logging
from asyncio import sleep, to_thread
from collections.abc import Iterable
from pathlib import Path

from app.configuration import ConfigurationError
from app.errors import Unauthorized
from app.keys.caller import NOBODY, Caller
from app.keys.file import Grants, KeyFile, digest
from app.keys.grant import UNLIMITED, UNLIMITED_ADMIN, Grant, Scope
from app.settings import Settings

logger = logging.getLogger(__name__)

REWRITE_SECONDS = 1.0
"""For who writes the file in place, which empties it first; `scp` for a round trip."""


class KeyRing:
    """Callers by the SHA-256 of their keys: no key is kept longer than its request."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError if the key file cannot be used."""
        self.file = KeyFile(Path(settings.key_file)) if settings.key_file else None
        self.is_open = not settings.api_keys and self.file is None
        """Whether clients need no key."""

        self._fixed = held("key", settings.api_keys, UNLIMITED)
        self._fixed |= held("admin", settings.admin_keys, UNLIMITED_ADMIN)
        self._callers = self._fixed
        self._grants: Grants = {}
        self._of_file: dict[str, Caller] = {}
        """By alias; who is gone is remembered, lest coming back be a way to new limits."""

        if self.file is not None:
            self._take(self.file.read())

    def _take(self, grants: Grants) -> None:
        """Accept these keys from now on, and no others of the file's."""
        self._grants = grants
        for alias, grant in grants.items():
            self._of_file.setdefault(alias, Caller(alias, grant)).regrant(grant)
        by_digest = {each.digest: self._of_file[alias] for alias, each in grants.items()}
        self._callers = self._fixed | by_digest

    async def reload(self) -> None:
        """Read the file again; while it is broken, what it said before holds."""
        if self.file is None:
            return
        try:
            grants = await to_thread(self.file.read)
            if self._grants and not grants:
                await sleep(REWRITE_SECONDS)
                grants = await to_thread(self.file.read)
        except ConfigurationError as error:
            logger.error("the keys stay as they were: %s", error.message)
            return
        if grants != self._grants:
            self._take(grants)
            logger.info("the key file has changed, it has %d keys now", len(grants))

    def caller(self, key: str) -> Caller:
        """Who holds this key; nobody in particular where none is needed. Raises Unauthorized."""
        known = self._found(digest(key))
        if known is not None and not known.grant.is_expired(datetime.datetime.now(datetime.UTC)):
            return known
        if self.is_open:
            return NOBODY
        raise Unauthorized("This server needs a valid key: Authorization: Bearer <key>.")

    def _found(self, presented: bytes) -> Caller | None:
        """Every key is compared in constant time, so that timing tells nothing."""
        found = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(presented, known):
                found = caller
        return found

    def anybody_has(self, scope: Scope) -> bool:
        """Whether there is a key with this scope."""
        return any(caller.grant.has(scope) for caller in self._callers.values())


def held(kind: str, keys: Iterable[str], grant: Grant) -> dict[bytes, Caller]:
    """Keys of the settings, which are numbered: even a part of their hashes would tell of them."""
    numbered = enumerate(keys, start=1)
    return {digest(key): Caller(f"{kind}-{number}", grant) for number, key in numbered}
