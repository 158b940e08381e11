"""Reading server-sent events in tests."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec


def events(text: str) -> list[Any]:
    """Every event of a whole stream, decoded; `[DONE]` stays text."""
    frames = text.removesuffix("\n\n").split("\n\n")
    return [payload(frame) for frame in frames]


def payload(line: str) -> Any:
    data = line.removeprefix("data: ")
    return data if data == "[DONE]" else msgspec.json.decode(data)


async def read_event(lines: AsyncIterator[str]) -> Any:
    """The next event of a stream that is still running."""
    async for line in lines:
        if line:
            return payload(line)
    raise AssertionError("the stream ended")
