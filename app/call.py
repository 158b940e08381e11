"""One HTTP request's way to the engine and back, in the steps that all generating routes share."""

from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from litestar.response.base import ASGIResponse

from app.body import JSONRequest
from app.disconnect import run_unless_disconnected
from app.engine.base import Constraint, Engine, Generation, Output, Sampling
from app.merge import MergedGenerations
from app.models import ServedModels
from app.record import RequestRecord
from app.replies.usage import TokenCount
from app.sampling import sampling_for
from schemas.sampling import NativeSampling, SamplingFields

T = TypeVar("T")

NATIVE_MAX_TOKENS = 512
"""New tokens on native routes that name no limit, as in the documents they come from."""


class Call:
    """A request, the engine it is for, and the record of what happened to it.

    Its verbs wait only as long as the client does, and raise ClientDisconnected beside what
    `Engine.submit` raises.
    """

    def __init__(self, request: JSONRequest) -> None:
        self.request = request
        self.engine: Engine = request.app.state.engine
        self.models: ServedModels = request.app.state.models
        self.record: RequestRecord = request.scope["record"]  # type: ignore[typeddict-item]
        self.tokens = self.record.tokens = TokenCount(0)

    def choose_model(self, requested: str | None) -> str:
        """Settle which model answers. Raises ModelNotFound."""
        self.record.model = self.models.resolve(requested)
        return self.record.model

    async def stream(
        self, prompt: list[int], fields: SamplingFields, constraint: Constraint | None = None
    ) -> Generation:
        """Start one generation of deltas; everything refusable is past once it is here."""
        sampling = self.sampling(prompt, fields, stream=True, constraint=constraint)
        generation = await self.unless_disconnected(self.submit(prompt, sampling))
        self.note_first_token()
        return generation

    async def complete(
        self, prompt: list[int], fields: SamplingFields, constraint: Constraint | None = None
    ) -> Output:
        """Generate to the end."""
        sampling = self.sampling(prompt, fields, constraint=constraint)
        output = await self.unless_disconnected(whole(self.submit(prompt, sampling)))
        self.note_first_token(output)
        self.tokens.add(output)
        return output

    async def complete_all(
        self, prompts: Sequence[list[int]], fields: SamplingFields
    ) -> list[Output]:
        """Generate for all prompts at once; if one fails, none is left running."""
        merged = self.merge(prompts, fields, stream=False)
        outputs = await self.unless_disconnected(merged.collect())
        self.note_first_token(outputs[0])
        for output in outputs:
            self.tokens.add(output)
        return outputs

    async def stream_all(
        self, prompts: Sequence[list[int]], fields: SamplingFields, *, deltas: bool
    ) -> MergedGenerations:
        """Outputs of all prompts as they come: their deltas, or each when it is whole."""
        merged = self.merge(prompts, fields, stream=deltas)
        await self.unless_disconnected(merged.wait_for_first())
        self.note_first_token()
        return merged

    def merge(
        self, prompts: Sequence[list[int]], fields: SamplingFields, *, stream: bool
    ) -> MergedGenerations:
        samplings = [self.sampling(prompt, fields, stream=stream) for prompt in prompts]
        pairs = zip(prompts, samplings, strict=True)
        return MergedGenerations([partial(self.submit, *pair) for pair in pairs])

    def sampling(
        self,
        prompt: list[int],
        fields: SamplingFields,
        *,
        stream: bool = False,
        constraint: Constraint | None = None,
    ) -> Sampling:
        self.tokens.prompt += len(prompt)
        return sampling_for(
            fields,
            self.engine.limits,
            len(prompt),
            default_max_tokens=NATIVE_MAX_TOKENS if isinstance(fields, NativeSampling) else None,
            stream=stream,
            constraint=constraint,
        )

    async def submit(self, prompt: list[int], sampling: Sampling) -> Generation:
        model = self.record.model
        if model is None:
            raise RuntimeError("A generation starts before its model is chosen. This is a bug.")
        return await self.engine.submit(prompt, sampling, self.models.adapter(model))

    def note_first_token(self, whole: Output | None = None) -> None:
        """A delta's time is now; a whole reply comes late, so there the engine's measure counts."""
        measured = whole.metrics.first_token_latency if whole and whole.metrics else 0
        self.record.first_token_seconds = measured or self.record.elapsed_seconds

    async def unless_disconnected(self, work: Coroutine[Any, Any, T]) -> T:
        return await run_unless_disconnected(self.request.receive, work)


async def provide_call(request: JSONRequest) -> Call:
    """Litestar dependency of the generating routes."""
    return Call(request)


async def whole(submission: Coroutine[Any, Any, Generation]) -> Output:
    """The one output of a generation without deltas."""
    generation = await submission
    try:
        return await anext(generation)
    finally:
        await generation.aclose()


def json_reply(reply: msgspec.Struct, headers: dict[str, str] | None = None) -> ASGIResponse:
    """A reply struct as JSON, encoded once."""
    body = msgspec.json.encode(reply)
    return ASGIResponse(body=body, media_type="application/json", headers=headers)
