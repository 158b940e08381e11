"""The names under which models are asked for, and whether they can be."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.adapters.registry import AdapterRegistry
from app.engine.base import Adapter, Engine, Status
from app.errors import EngineDead, ModelNotFound, ServerError
from app.settings import Settings
from schemas.models import Model

Allows = Callable[[str], bool]
"""Whether a caller may use the model of this name."""


def everything(_: str) -> bool:
    return True


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

    def resolve(self, requested: str | None, allows: Allows = everything) -> str:
        """The model that answers a request for this name.

        One that the caller may not use is as if it were not there, as with OpenAI: whoever may not
        use it need not learn what is served to others. Raises ModelNotFound.
        """
        is_base = requested is None or requested == self.name or requested in self.aliases
        name = self.name if is_base or requested is None else requested
        if (is_base or name in self.adapters) and allows(name):
            return name
        raise ModelNotFound(
            f"The model {(requested or name)[:128]!r} does not exist, or this key may not use it; "
            f"served are: {', '.join(self.names(allows)) or 'none'}.",
            param="model",
        )

    def names(self, allows: Allows = everything) -> list[str]:
        """What is served to a caller."""
        return [name for name in (self.name, *(a.name for a in self.adapters)) if allows(name)]

    @contextmanager
    def hold(self, model: str) -> Iterator[Adapter | None]:
        """The adapter behind a resolved name, kept while it is used; None for the base model."""
        if model not in self.adapters:
            yield None
            return
        with self.adapters.hold(model) as adapter:
            yield adapter

    def card(self, requested: str, max_model_len: int, allows: Allows = everything) -> Model:
        """What `/v1/models` says of one model. Raises ModelNotFound."""
        model = self.resolve(requested, allows)
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

    def cards(self, max_model_len: int, allows: Allows = everything) -> list[Model]:
        return [self.card(name, max_model_len) for name in self.names(allows)]
