"""Several prompts of one request: all in the engine at once, on the way of a `Call`."""

from collections.abc import Sequence
from functools import partial

from app.call import Call, constraint_of
from app.engine.base import Output, RenderedPrompt
from app.merge import MergedGenerations
from app.tools.structured import Format
from schemas.sampling import SamplingFields


async def complete_all(
    call: Call,
    prompts: Sequence[RenderedPrompt],
    fields: SamplingFields,
    form: Format | None = None,
) -> list[Output]:
    """Generate for all prompts; if one fails, none is left running."""
    merged = merge(call, prompts, fields, form, stream=False)
    outputs = await call.unless_disconnected(merged.collect(call.tokens.add))
    call.note_first_token(outputs[0])
    return outputs


async def stream_all(
    call: Call,
    prompts: Sequence[RenderedPrompt],
    fields: SamplingFields,
    form: Format | None = None,
    *,
    deltas: bool,
) -> MergedGenerations:
    """Outputs of all prompts as they come: their deltas, or each when it is whole."""
    merged = merge(call, prompts, fields, form, stream=deltas)
    await call.unless_disconnected(merged.wait_for_first())
    call.note_first_token()
    return merged


def merge(
    call: Call,
    prompts: Sequence[RenderedPrompt],
    fields: SamplingFields,
    form: Format | None,
    *,
    stream: bool,
) -> MergedGenerations:
    constraint = constraint_of(form)
    samplings = call.samplings(prompts, fields, stream=stream, constraint=constraint)
    pairs = zip(prompts, samplings, strict=True)
    submissions = [partial(call.submit, *pair, form) for pair in pairs]
    return MergedGenerations(submissions, call.tokens.add_attempt)
