"""Whether an engine lives: it is asked for signs of life, and listened to."""

import asyncio
import math
import time
from contextlib import suppress
from typing import Literal

from app.engine.base import Engine
from app.errors import EngineDead

LOOK_SECONDS = 0.1
"""How often it is looked whether the engine lives, as often as the server looks whether to stop."""

STOPPED_SECONDS = 1.0
"""Later than this after the last look, we were stopped meanwhile, perhaps with the engine: it was
a container that was paused, or a machine that slept."""

HEARTBEAT_SECONDS = 1.0
"""From one sign of life to asking for the next."""

Failure = Literal["died", "hung"]


class Pulse:
    """Of one engine after the other."""

    def __init__(self, hang_seconds: float) -> None:
        self._hang_seconds = hang_seconds
        self._asked = math.inf

    @property
    def silence_seconds(self) -> float:
        """For how long a sign of life has been waited for; 0 if none is."""
        return max(0.0, time.monotonic() - self._asked)

    async def failure(self, engine: Engine) -> Failure:
        """Wait until it has died or hangs.

        Time for which we were stopped ourselves is no silence of its.
        """
        listening = asyncio.create_task(self._listen(engine))
        looked = time.monotonic()
        try:
            while engine.status != "failed":
                if self.silence_seconds > self._hang_seconds:
                    return "hung"
                await asyncio.sleep(LOOK_SECONDS)
                was, looked = looked, time.monotonic()
                self._forgive(looked - was - STOPPED_SECONDS)
            return "died"
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            self._asked = math.inf

    def _forgive(self, seconds: float) -> None:
        """Of a silence that was our own; an asking from after that is not moved into the future."""
        latest = max(self._asked, time.monotonic())
        self._asked = min(self._asked + max(0.0, seconds), latest)

    async def _listen(self, engine: Engine) -> None:
        """Until the engine dies; from one that hangs nothing comes."""
        with suppress(EngineDead):
            while True:
                self._asked = time.monotonic()
                await engine.heartbeat()
                self._asked = math.inf
                await asyncio.sleep(HEARTBEAT_SECONDS)
