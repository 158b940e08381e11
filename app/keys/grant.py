"""What a key allows, as a table of the key file says it."""

import datetime
import re
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from app.urgency import PRIORITIES

Scope = Literal["chat", "completions", "batch", "tokens", "read", "metrics", "adapters", "admin"]
"""Groups of routes; `admin` stands for all of them, and for everybody's usage."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
CLIENT_SCOPES: tuple[Scope, ...] = ("chat", "completions", "batch", "tokens", "read")
"""What a key may do of which nothing is said: use the model, and read what is served."""

ANONYMOUS = "anonymous"
ALIAS = re.compile(r"(?!(?:key|admin)-\d+$|anonymous$|other$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Goes into logs, metrics and the ledger. Left out are the names that the server gives itself."""

MOST = 2**40
PositiveCount = Annotated[int, Meta(ge=1, le=MOST)]


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key's rights and limits; a limit that is None does not exist."""

    hash: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")] = ""
    """Of the key, which itself is kept nowhere."""

    scopes: tuple[Scope, ...] = CLIENT_SCOPES
    models: tuple[str, ...] | None = None
    """Names of the base model and of adapters, as `/v1/models` lists them; None for all."""

    expires: Annotated[datetime.datetime, Meta(tz=True)] | None = None
    requests_per_minute: PositiveCount | None = None
    tokens_per_minute: PositiveCount | None = None
    """Of prompts and replies together."""

    concurrent_requests: PositiveCount | None = None
    highest_priority: Literal["high", "normal", "low"] = "normal"
    """Requests that ask for a higher one are given this one."""

    @property
    def priority(self) -> int:
        """The same as `base.Origin` counts."""
        return PRIORITIES[self.highest_priority]

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.hash.removeprefix("sha256:"))

    def has(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def allows(self, model: str) -> bool:
        """Whether requests may name this model, base or adapter."""
        return self.models is None or model in self.models

    def is_expired(self, now: datetime.datetime) -> bool:
        return self.expires is not None and self.expires <= now


UNLIMITED = Grant(scopes=(*CLIENT_SCOPES, "metrics"), highest_priority="high")
"""Of keys that are settings, and of clients where no key is needed."""

UNLIMITED_ADMIN = Grant(scopes=("admin",), highest_priority="high")
