"""One HTTP request's way to the engine and back, in the steps that all generating routes share."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from app.body import JSONRequest
from app.disconnect import run_unless_disconnected
from app.engine.base import (
    ANYBODY,
    NORMAL,
    Adapter,
    Constraint,
    Engine,
    Generation,
    Origin,
    Output,
    RenderedPrompt,
    Sampling,
    Submitter,
)
from app.keys.caller import Caller
from app.metrics import Metrics
from app.models import ServedModels
from app.prompts import Prompt, Renderer, run_sized
from app.record import RequestRecord
from app.replies.usage import TokenCount
from app.reuse.terms import terms_of
from app.sampling import sampling_for
from app.settings import Settings
from app.tools.attempts import Task
from app.tools.dialects import Dialect, Thinking, dialect_of, thinking_of
from app.tools.formatted import FormattedGeneration
from app.tools.registry import ToolRegistry
from app.tools.structured import Format
from app.urgency import deadline_of, priority_of, until
from schemas.sampling import NativeSampling, SamplingFields

T = TypeVar("T")

NATIVE_MAX_TOKENS = 512
"""New tokens on native routes that name no limit, as in the documents they come from."""


class Call:
    """A request, the engine it is for, and the record of what happened to it.

    Its verbs wait only as long as the client does, and raise ClientDisconnected and
    DeadlineExceeded beside what `Submitter.submit` raises.
    """

    def __init__(self, request: JSONRequest) -> None:
        self.request = request
        state = request.app.state
        self.engine: Engine = state.engine
        self.submitter: Submitter = state.submitter
        self.models: ServedModels = state.models
        self.settings: Settings = state.settings
        self.metrics: Metrics = state.metrics
        self.registry: ToolRegistry = state.registry
        self.renderer: Renderer = state.renderer
        self.record: RequestRecord = request.scope["record"]  # type: ignore[typeddict-item]
        self.tokens = self.record.tokens = TokenCount(0)
        self.reuse = self.record.reuse = terms_of(request.headers.get("cache-control", ""))
        self.adapter: Adapter | None = None
        self.origin = ANYBODY

    def choose_model(self, requested: str | None) -> str:
        """Settle which model answers, in which version of its adapter. Raises ModelNotFound."""
        allows = self.caller.grant.allows
        self.record.model = model = self.models.resolve(requested, allows)
        self.adapter = self.record.held.enter_context(self.models.hold(model))
        return model

    @property
    def caller(self) -> Caller:
        """Who holds the key of this request."""
        return self.record.caller

    def begin(self, model: str | None, timeout: float | None, priority: int = NORMAL) -> str:
        """Settle which model answers, how urgent that is, and until when.

        Raises ModelNotFound, InvalidRequest and DeadlineExceeded.
        """
        headers, record = self.request.headers, self.record
        longest = (timeout, self.settings.max_request_seconds)
        record.deadline = deadline_of(headers, longest, record.elapsed_seconds)
        self.origin = Origin(
            owner=self.caller.owner,
            priority=priority_of(headers, priority, self.caller.grant.priority),
            deadline=record.deadline,
            note_queued=record.note_queued,
            abandon=self.tokens.abandon,
            reuse=self.reuse,
        )
        return self.choose_model(model)

    @property
    def dialect(self) -> Dialect:
        """How the model writes tool calls."""
        return dialect_of(self.engine.tokenizer.chat_template, self.settings.tool_dialect)

    def thinking(self, prompt: RenderedPrompt) -> Thinking:
        """What a reply to this prompt begins with."""
        return thinking_of(self.engine.tokenizer.chat_template, prompt.ending)

    async def admitted(self, admit: Callable[[], T]) -> T:
        """What gates a request's schemas, in a thread where they are large."""
        return await run_sized(len(await self.request.body()), admit)

    async def rendered(self, prompt: Prompt) -> RenderedPrompt:
        """What the engine reads; only pictures take so long that the client may leave meanwhile.

        Raises InvalidRequest and PromptTooLong.
        """
        work = self.renderer.rendered(prompt)
        return await (self.unless_disconnected(work) if prompt.images else work)

    async def all_rendered(self, prompts: Sequence[Prompt]) -> list[RenderedPrompt]:
        """The same for many."""
        work = self.renderer.all_rendered(prompts)
        has_images = any(prompt.images for prompt in prompts)
        return await (self.unless_disconnected(work) if has_images else work)

    async def stream(
        self, prompt: RenderedPrompt, fields: SamplingFields, form: Format | None = None
    ) -> Generation:
        """Start one generation of deltas; everything refusable is past once it is here."""
        sampling = self.sampling(prompt, fields, stream=True, constraint=constraint_of(form))
        generation = await self.unless_disconnected(self.submit(prompt, sampling, form))
        self.note_first_token()
        return generation

    async def complete(
        self, prompt: RenderedPrompt, fields: SamplingFields, form: Format | None = None
    ) -> Output:
        """Generate to the end."""
        sampling = self.sampling(prompt, fields, constraint=constraint_of(form))
        output = await self.unless_disconnected(whole(self.submit(prompt, sampling, form)))
        self.note_first_token(output)
        self.tokens.add(output)
        return output

    def task(self, prompt: RenderedPrompt, sampling: Sampling, kind: str) -> Task:
        counter = self.metrics.structured_outputs
        return Task(
            submit=self.submit,
            prompt=prompt,
            sampling=sampling,
            max_attempts=self.settings.tool_call_attempts,
            tokens=self.tokens,
            count=lambda outcome: counter.labels(kind, outcome).inc(),
        )

    def sampling(
        self,
        prompt: RenderedPrompt,
        fields: SamplingFields,
        *,
        stream: bool = False,
        constraint: Constraint | None = None,
    ) -> Sampling:
        [sampling] = self.samplings([prompt], fields, stream=stream, constraint=constraint)
        return sampling

    def samplings(
        self,
        prompts: Sequence[RenderedPrompt],
        fields: SamplingFields,
        *,
        stream: bool,
        constraint: Constraint | None,
    ) -> list[Sampling]:
        """How to generate for each prompt; what all may need is reserved of the key's tokens.

        Raises InvalidRequest and RateLimited.
        """
        lengths = [len(prompt.token_ids) for prompt in prompts]
        default = NATIVE_MAX_TOKENS if isinstance(fields, NativeSampling) else None
        samplings = [
            sampling_for(
                fields,
                self.engine.limits,
                num_tokens,
                default_max_tokens=default,
                stream=stream,
                constraint=constraint,
            )
            for num_tokens in lengths
        ]
        self.reserve(sum(lengths) + sum(each.max_tokens for each in samplings))
        self.tokens.prompt += sum(lengths)
        return samplings

    def reserve(self, num_tokens: int) -> None:
        """Raises RateLimited, unless the request has been let in: then it may go on."""
        self.caller.reserve(num_tokens, is_let_in=bool(self.tokens.completion))
        self.record.reserved_tokens += num_tokens

    async def submit(
        self, prompt: RenderedPrompt, sampling: Sampling, form: Format | None = None
    ) -> Generation:
        """Start one generation, of which complete replies satisfy the form."""
        if self.record.model is None:
            raise RuntimeError("A generation starts before its model is chosen. This is a bug.")
        origin = self.origin.going_on() if self.tokens.completion else self.origin
        generation = await self.submitter.submit(prompt, sampling, self.adapter, origin)
        if form is None:
            return generation
        return FormattedGeneration(self.task(prompt, sampling, "response_format"), form, generation)

    def note_first_token(self, whole: Output | None = None) -> None:
        """A delta's time is now; a whole reply comes late, so there the engine's measure counts.

        That may have begun before this request, where the reply is shared with an earlier one.
        """
        elapsed = self.record.elapsed_seconds
        measured = whole.metrics.first_token_latency if whole and whole.metrics else 0
        self.record.first_token_seconds = min(measured or elapsed, elapsed)

    async def unless_disconnected(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something for the client, while it is there and wants it."""
        async with until(self.record.deadline):
            return await run_unless_disconnected(self.record.client, self.request.receive, work)


def constraint_of(form: Format | None) -> Constraint | None:
    return None if form is None else form.constraint


async def whole(submission: Coroutine[Any, Any, Generation]) -> Output:
    """The one output of a generation without deltas."""
    generation = await submission
    try:
        return await anext(generation)
    finally:
        await generation.aclose()
