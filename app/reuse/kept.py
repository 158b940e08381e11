"""Whole replies in a store, under their fingerprints."""

from app.engine.base import Output
from app.reuse.guard import GuardedStore
from app.reuse.outputs import KeptReply, decode_reply, encode_reply, size_of


class KeptReplies:
    """Finds and keeps whole replies. Never raises: without a reply one is computed."""

    def __init__(self, store: GuardedStore, seconds: int, max_bytes: int) -> None:
        self._store = store
        self._seconds = seconds
        self._max_bytes = max_bytes

    async def find(self, key: str) -> KeptReply | None:
        data = await self._store.get(key)
        if data is None:
            return None
        reply = decode_reply(key, data)
        if reply is None:
            self._store.note_garbage()
        return reply

    def keep(self, key: str, output: Output) -> None:
        """Unless it is too large; its request does not wait for that."""
        if size_of(output) <= self._max_bytes:
            self._store.set_later(key, encode_reply(key, output), self._seconds)
