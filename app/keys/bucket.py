"""A limit a minute that refills steadily: what is not used is saved, up to one minute's worth.

Not of a library, since tokens are reserved and given back: `limits` takes nothing back but by
forgetting everything, and its moving window keeps an entry for each unit.
"""

import time
from collections.abc import Callable


class Bucket:
    """Units of which so many a minute may be taken."""

    __slots__ = ("_at", "_clock", "_level", "per_minute")

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._at = clock()
        self._level = float(per_minute)

    def resize(self, per_minute: int) -> None:
        """Another limit from now on; what has been used stays used."""
        self.take(self.per_minute - per_minute)
        self.per_minute = per_minute

    @property
    def level(self) -> float:
        """What may be taken now; below 0 after more was used than was reserved."""
        now = self._clock()
        refilled = self._level + (now - self._at) * self.per_minute / 60
        self._at = now
        self._level = min(refilled, float(self.per_minute))
        return self._level

    def take(self, amount: float) -> None:
        """Take without asking; of a negative amount, give back."""
        self._level = self.level - amount

    def seconds_until(self, amount: float) -> float:
        """How long until so many may be taken, 0 if they may now.

        More than there can ever be need no more than all of it: a request that is larger than the
        limit goes when nothing else has, and what it uses is missing afterwards.
        """
        missing = min(amount, self.per_minute) - self.level
        return max(missing, 0.0) * 60 / self.per_minute
