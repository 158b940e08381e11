"""One generation's deltas on their way into a stream: given away at once, or one by one."""

from collections.abc import AsyncIterator, Callable, Sequence

from app.engine.base import Generation, Output
from app.replies.frames import Write
from app.replies.usage import TokenCount

Render = Callable[[str], bytes]
"""Events of plain text of the only choice, once that has begun; none is empty bytes."""


async def deltas(
    generation: Generation, tokens: TokenCount, render: Render, write: Write | None
) -> AsyncIterator[Output]:
    """All outputs without `write`; with it those that `render` cannot render. Counts all of them.

    What is written is not waited for: neither does the task of the stream wake up, nor is there an
    output. It is one event a delta either way, and the same bytes.
    """
    if write is None:
        async for output in generation:
            tokens.add(output)
            yield output
        return
    send = write

    def take(text: str, token_ids: Sequence[int]) -> bool:
        is_sent = send(render(text))
        if is_sent:
            tokens.completion += len(token_ids)
        return is_sent

    output = await anext(generation)
    while not output.finished:
        tokens.add(output)
        yield output
        output = await generation.pushed(take)
    tokens.add(output)
    yield output
