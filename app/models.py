"""The names under which models are asked for."""

import time
from collections.abc import Mapping, Sequence

from app.errors import ModelNotFound
from schemas.models import Model


class ServedModels:
    """The base model under its name and aliases, and its adapters under theirs."""

    def __init__(
        self, name: str, path: str, aliases: Sequence[str] = (), adapters: Mapping[str, str] = {}
    ) -> None:
        self.name = name
        self.path = path
        self.aliases = frozenset(aliases)
        self.adapters = adapters
        self.created = int(time.time())

    def resolve(self, requested: str | None) -> str:
        """The model that answers a request for this name. Raises ModelNotFound."""
        if requested is None or requested == self.name or requested in self.aliases:
            return self.name
        if requested in self.adapters:
            return requested
        raise ModelNotFound(
            f"The model {requested[:128]!r} does not exist; served are: "
            f"{', '.join([self.name, *self.adapters])}.",
            param="model",
        )

    def adapter(self, model: str) -> str | None:
        """The adapter behind a resolved name, None for the base model."""
        return model if model in self.adapters else None

    def card(self, requested: str, max_model_len: int) -> Model:
        """What `/v1/models` says of one model. Raises ModelNotFound."""
        model = self.resolve(requested)
        return Model(
            id=model,
            created=self.created,
            root=self.adapters.get(model, self.path),
            parent=self.name if model in self.adapters else None,
            max_model_len=max_model_len,
        )

    def cards(self, max_model_len: int) -> list[Model]:
        return [self.card(name, max_model_len) for name in (self.name, *self.adapters)]
