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

        It hangs if it is silent at two looks: a silence may have been our own, if we were stopped.
        """
        listening = asyncio.create_task(self._listen(engine))
        was_silent = False
        try:
            while engine.status != "failed":
                is_silent = self.silence_seconds > self._hang_seconds
                if was_silent and is_silent:
                    return "hung"
                was_silent = is_silent
                await asyncio.sleep(LOOK_SECONDS)
            return "died"
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            self._asked = math.inf

    async def _listen(self, engine: Engine) -> None:
        """Until the engine dies; from one that hangs nothing comes."""
        with suppress(EngineDead):
            while True:
                self._asked = time.monotonic()
                await engine.heartbeat()
                self._asked = math.inf
                await asyncio.sleep(HEARTBEAT_SECONDS)
