"""What a request may have of other requests' replies, and what it had; told in `x-cache`."""

from collections import Counter
from typing import Literal

import msgspec

Source = Literal["computed", "miss", "shared", "hit"]
WORST_FIRST: tuple[Source, ...] = ("computed", "miss", "shared", "hit")
FRESH = frozenset({"no-cache", "max-age=0"})


class Reuse(msgspec.Struct):
    """One request's terms, and where its generations came from so far."""

    may_read: bool = True
    """Whether what was or is being computed for others will do."""

    may_keep: bool = True
    """Whether others may have what is computed for it."""

    sources: Counter[Source] = msgspec.field(default_factory=Counter)
    """`computed`: nothing is kept here; `miss`: it was not there; `shared`: another request had it
    computed meanwhile; `hit`: it was kept. What is not decided yet counts as not there."""

    @property
    def source(self) -> Source | None:
        """That of the whole reply: the worst of its generations'; None where none took part."""
        worst = next((each for each in WORST_FIRST if self.sources[each]), None)
        return None if worst == "computed" else worst


def terms_of(cache_control: str) -> Reuse:
    """The client's terms, in RFC 9111's words (section 5.2.1).

    `no-cache` wants a new reply, which may be kept; `no-store` one that nobody else gets.
    """
    directives = {each.strip().lower() for each in cache_control.split(",")}
    return Reuse(may_read=not directives & FRESH, may_keep="no-store" not in directives)
