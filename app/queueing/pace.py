"""How long places are kept, and so how long it takes until some are free."""

import math

WEIGHT = 1 / 64
"""Of the latest ending in the average: the last hundred or so count."""

SHORTEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1, 30
"""Clients of OpenAI's library take a longer `Retry-After` than 120 s for none at all."""


class Pace:
    """The average time for which one place was kept.

    By Little's law so many places that are all taken become free at the rate `places / seconds`,
    however regularly. Unlike a count of endings in the last seconds, that does not fade while
    nothing is running, and is not misled by many that end together.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """0 until the first has ended."""

        self._num_ended = 0

    def note(self, seconds: float) -> None:
        """One place has been given back after so long."""
        self._num_ended += 1
        self.seconds += (seconds - self.seconds) * max(WEIGHT, 1 / self._num_ended)

    def seconds_until(self, num_ends: int, places: int) -> float:
        """Until so many of the places, all of them taken, have been given back; a lower bound."""
        return self.seconds * num_ends / places

    def retry_after(self, num_ends: int, places: int) -> int:
        """The same as a header's value."""
        seconds = math.ceil(self.seconds_until(num_ends, places))
        return min(max(seconds, SHORTEST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)
