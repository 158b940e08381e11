"""The names under which models are asked for, and whether they can be."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.adapters.registry import AdapterRegistry
from app.engine.base import Adapter, Engine, Status
from app.errors import EngineDead, ModelNotFound, ServerError
from app.settings import Settings
from schemas.models import Model


class ServedModels:
    """The base model under its name and aliases, and its adapters under theirs."""

    def __init__(self, settings: Settings, engine: Engine, adapters: AdapterRegistry) -> None:
        self.name = settings.served_name
        self.path = settings.model_path
        self.aliases = settings.base_names
        self.adapters = adapters
        self.created = int(time.time())
        self._engine = engine
        self._adapters_status: Status = "loading"

    @property
    def status(self) -> Status:
        """That of the engine, which is of use only with its adapters."""
        status = self._engine.status
        if status in ("loading", "failed") or self._adapters_status == "ready":
            return status
        return self._adapters_status

    async def start(self) -> None:
        """Load the model, then its adapters. Raises EngineDead with one sentence."""
        await self._engine.start()
        try:
            await self.adapters.open()
        except Exception as error:
            self._adapters_status = "failed"
            reason = error.message if isinstance(error, ServerError) else repr(error)
            raise EngineDead(f"The adapters could not be loaded: {reason}") from error
        self._adapters_status = "ready"

    async def close(self) -> None:
        await self._engine.close()
        await self.adapters.close()

    def resolve(self, requested: str | None) -> str:
        """The model that answers a request for this name. Raises ModelNotFound."""
        if requested is None or requested == self.name or requested in self.aliases:
            return self.name
        if requested in self.adapters:
            return requested
        served = ", ".join([self.name, *(each.name for each in self.adapters)])
        raise ModelNotFound(
            f"The model {requested[:128]!r} does not exist; served are: {served}.", param="model"
        )

    @contextmanager
    def hold(self, model: str) -> Iterator[Adapter | None]:
        """The adapter behind a resolved name, kept while it is used; None for the base model."""
        if model not in self.adapters:
            yield None
            return
        with self.adapters.hold(model) as adapter:
            yield adapter

    def card(self, requested: str, max_model_len: int) -> Model:
        """What `/v1/models` says of one model. Raises ModelNotFound."""
        model = self.resolve(requested)
        if model == self.name:
            return Model(
                id=model, created=self.created, root=self.path, max_model_len=max_model_len
            )
        served = self.adapters[model]
        return Model(
            id=model,
            created=served.version.created,
            root=self.adapters.files.place(served.source),
            parent=self.name,
            max_model_len=max_model_len,
        )

    def cards(self, max_model_len: int) -> list[Model]:
        names = [self.name, *(each.name for each in self.adapters)]
        return [self.card(name, max_model_len) for name in names]
