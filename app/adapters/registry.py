"""Adapters by name: loaded, swapped and unloaded while requests run, and remembered.

What should be served is what the settings name, the watched folder holds, and the journal adds to
them or takes away; `reconcile` brings what is served to that, whoever changed it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager

import msgspec

from app.adapters.attempt import Attempt
from app.adapters.files import AdapterFiles
from app.adapters.journal import Entries, Entry, Journal
from app.adapters.loaded import LoadedAdapters, Served
from app.adapters.snapshots import Snapshot, SnapshotStore
from app.adapters.source import Source, check_name
from app.engine.base import Adapter, Engine
from app.errors import AdapterConflict, AdapterNotFound, ServerError, StateUnwritable
from app.folders import state_folder
from app.settings import Settings

logger = logging.getLogger(__name__)

UNREADABLE = (OSError, msgspec.DecodeError)


class AdapterRegistry:
    """Every adapter that requests can name; its verbs raise errors for the client who asked."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        folder = state_folder(settings.state_dir) / "adapters"
        self.files = AdapterFiles(settings)
        self.journal = Journal(folder / settings.served_name.replace("/", "_") / "journal.json")
        self._given = {name: Source("setting", path) for name, path in settings.adapters.items()}
        self._reserved = settings.base_names
        self._snapshots = SnapshotStore(folder / "snapshots")
        self._attempts: dict[str, Attempt] = {}
        self._loaded = LoadedAdapters(
            engine, self._snapshots, settings.max_pinned_loras, settings.max_lora_rank
        )

    async def open(self) -> None:
        """Load what the settings name, which must succeed, then all the rest."""
        await asyncio.to_thread(self._snapshots.open)
        async with self._loaded.changing:
            for name, source in self._given.items():
                await self._serve(name, Entry(source))
        await self.reconcile()
        self._loaded.log_level = logging.INFO

    async def close(self) -> None:
        """Let go of the copies, once the engine has stopped."""
        await self._loaded.close()
        await asyncio.to_thread(self._snapshots.close)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._loaded.served.values())

    def __contains__(self, name: str) -> bool:
        return name in self._loaded.served

    def __getitem__(self, name: str) -> Served:
        """Raises AdapterNotFound."""
        return self._loaded[name]

    @property
    def failures(self) -> dict[str, str]:
        """Why a name that should be served is not, or not in its newest version."""
        return {name: each.error for name, each in self._attempts.items() if each.error}

    def hold(self, name: str) -> AbstractContextManager[Adapter]:
        """The version that a name means now, kept for as long as it is used.

        Raises AdapterNotFound.
        """
        return self._loaded.hold(name)

    async def load(self, name: str, source: Source | None, pin: bool | None) -> Served:
        """Serve a name from a source, anew if its files have changed, and remember that.

        Without a source, from where it came last, else from the folder of its name. Raises
        InvalidRequest, AdapterNotFound, AdapterConflict, AdapterUnusable, HubUnreachable and
        StateUnwritable; then what was served before still is.
        """
        source = self._source(name, source)
        # Downloads take long: done before anybody else has to wait.
        source = await asyncio.to_thread(self.files.settle, source)
        async with self._loaded.changing:
            known = self._loaded.served.get(name)
            entry = Entry(source, pin if pin is not None else bool(known and known.wants_pin))
            if entry.pinned:
                self._loaded.check_pins(name)
            async with self._remembered(name, self._plain(name, entry)):
                return await self._serve(name, entry)

    def _source(self, name: str, source: Source | None) -> Source:
        check_name(name, "name")
        if name in self._reserved:
            raise AdapterConflict(f"{name!r} is a name of the base model.", param="name")
        if name in self._given and source not in (None, self._given[name]):
            raise AdapterConflict(f"{name!r} is set by LLM_ADAPTERS.", param="name")
        if source is not None:
            return source
        return self[name].source if name in self else Source("folder", name)

    def _plain(self, name: str, entry: Entry) -> Entry:
        """The entry without what the settings and the folder say by themselves."""
        is_known = entry.source in (Source("folder", name), self._given.get(name))
        return msgspec.structs.replace(entry, source=None) if is_known else entry

    async def unload(self, name: str) -> None:
        """Serve a name no more, or try no more to; its running requests go on.

        Raises AdapterNotFound, StateUnwritable, and AdapterConflict for what the settings name.
        """
        async with self._loaded.changing:
            if name in self._given:
                raise AdapterConflict(f"{name!r} is set by LLM_ADAPTERS.", param="name")
            if name not in self and name not in self._attempts:
                raise AdapterNotFound(f"No adapter {name[:100]!r} is loaded.", param="name")
            has_folder = name in await asyncio.to_thread(self.files.root.names)
            async with self._remembered(name, Entry(unloaded=has_folder)):
                self._forget(name)

    @asynccontextmanager
    async def _remembered(self, name: str, entry: Entry) -> AsyncIterator[None]:
        """The entry in the journal; taken back if what it says fails. Raises StateUnwritable."""
        try:
            before = await asyncio.to_thread(self.journal.write, name, entry)
        except UNREADABLE as error:
            raise StateUnwritable("The journal of adapters cannot be written.") from error
        try:
            yield
        except BaseException:
            await asyncio.to_thread(self.journal.write, name, before)
            raise

    async def reconcile(self) -> None:
        """Bring what is served to what should be; a failure is logged and concerns one name."""
        async with self._loaded.changing:
            try:
                wanted = await asyncio.to_thread(self._wanted)
            except UNREADABLE:
                logger.exception("the journal of adapters cannot be read; nothing is changed")
                return
            for name in (self._loaded.served.keys() | self._attempts.keys()) - wanted.keys():
                self._forget(name)
            for name, entry in wanted.items():
                await self._follow(name, entry)

    def _wanted(self) -> Entries:
        """What should be served: the journal goes over the folder, the settings over both."""
        journal = self.journal.read()
        folders = set(self.files.root.names()) - self._reserved
        wanted = {}
        for name in [*self._given, *sorted(folders | journal.keys())]:
            entry = journal.get(name, Entry())
            default = Source("folder", name) if name in folders else None
            source = self._given.get(name) or entry.source or default
            if source is not None and (name in self._given or not entry.unloaded):
                wanted[name] = Entry(source, entry.pinned)
        return wanted

    async def _follow(self, name: str, entry: Entry) -> None:
        """Load a name if it is new or has changed, or if it is time to try it again."""
        try:
            stamp = await asyncio.to_thread(self.files.stamp, entry.source)
            known = self._attempts.get(name)
            if known is None or known.is_due(entry, stamp):
                await self._serve(name, entry)
        except AdapterNotFound as error:
            if name in self:
                self._forget(name)
            self._note_failure(name, entry, error)
        except ServerError as error:
            self._note_failure(name, entry, error)

    def _note_failure(self, name: str, entry: Entry, error: ServerError) -> None:
        known = self._attempts.setdefault(name, Attempt(entry, ()))
        if known.error != error.message:
            logger.error("adapter %s is not loaded: %s", name, error.message)
        known.fail(error)

    async def _serve(self, name: str, entry: Entry) -> Served:
        """Let a name mean what its source holds now. Raises ServerError."""
        assert entry.source is not None
        # Before the copy is made: what is changed meanwhile is another stamp, and loaded next.
        stamp = await asyncio.to_thread(self.files.stamp, entry.source)
        known = self._attempts.get(name)
        self._attempts[name] = attempt = Attempt(entry, stamp, known)
        try:
            snapshot = await asyncio.to_thread(self._copy, entry.source)
            served = await self._loaded.serve(name, snapshot, entry.source, entry.pinned)
        except ServerError as error:
            attempt.fail(error)
            if name not in self and known is None:
                del self._attempts[name]
            raise
        attempt.succeed()
        return served

    def _copy(self, source: Source) -> Snapshot:
        """Blocks. Raises what finding the files raises, and StateUnwritable."""
        folder = self.files.checked(source)
        check = self.files.root.check_open if source.kind == "folder" else None
        try:
            return self._snapshots.take(folder, check)
        except OSError as error:
            raise StateUnwritable("The adapter's files could not be copied.") from error

    def _forget(self, name: str) -> None:
        self._attempts.pop(name, None)
        if name in self:
            self._loaded.retire(name)
