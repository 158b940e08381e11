"""Replies that as a whole must satisfy a format: checked when complete, generated anew if not."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from app.engine.base import Completion, Generation, Output, Take, Timings
from app.errors import GenerationFailed
from app.tools.attempts import MadeCompletion, Task
from app.tools.gate.admitted import SchemaViolation
from app.tools.structured import Format


class MendedOutput(msgspec.Struct):
    """A `base.Output` of which some completions took another attempt."""

    outputs: Sequence[Completion]
    prompt_token_ids: Sequence[int] | None
    num_cached_tokens: int | None
    finished: bool
    metrics: Timings | None


class FormattedGeneration:
    """A `base.Generation` whose complete replies satisfy a format.

    Whole replies that do not are generated anew. For a stream it is too late for that, so there
    it raises GenerationFailed, as it does when no attempt succeeds. A reply that was cut off at
    its token limit goes out as it is: its finish reason says so.
    """

    def __init__(self, task: Task, form: Format, generation: Generation) -> None:
        self._task = task
        self._form = form
        self._generation = generation
        self._texts: defaultdict[int, list[str]] = defaultdict(list)

    def __aiter__(self) -> "FormattedGeneration":
        return self

    async def __anext__(self) -> Output:
        return await self._checked(await anext(self._generation))

    async def pushed(self, take: Take) -> Output:
        texts = self._texts[0]

        def noted(text: str, token_ids: Sequence[int]) -> bool:
            is_taken = take(text, token_ids)
            if is_taken:
                texts.append(text)
            return is_taken

        return await self._checked(await self._generation.pushed(noted))

    async def _checked(self, output: Output) -> Output:
        for completion in output.outputs:
            self._texts[completion.index].append(completion.text)
        ended = [each for each in output.outputs if each.finish_reason is not None]
        broken = [each for each in ended if not self._passes(each)]
        return await self._mend(output, broken) if broken else output

    @property
    def num_tokens(self) -> int | None:
        return self._generation.num_tokens

    async def aclose(self) -> None:
        await self._generation.aclose()

    def _passes(self, ended: Completion) -> bool:
        text = "".join(self._texts.pop(ended.index))
        return self._is_counted(text, ended.finish_reason, "verified")

    def _is_counted(self, text: str, finish_reason: str | None, outcome: str) -> bool:
        """Whether a complete reply may go out; if so its outcome is counted."""
        if finish_reason == "length":
            outcome = "truncated"
        else:
            try:
                self._form.verify(text)
            except SchemaViolation:
                return False
        self._task.count(outcome)
        return True

    async def _mend(self, output: Output, broken: Sequence[Completion]) -> Output:
        if self._task.sampling.stream:
            raise self._failure()
        await self._generation.aclose()  # its places, lest all wait for another one's
        mended = {each.index: await self._mended(each) for each in broken}
        return MendedOutput(
            [mended.get(each.index, each) for each in output.outputs],
            output.prompt_token_ids,
            output.num_cached_tokens,
            output.finished,
            output.metrics,
        )

    async def _mended(self, broken: Completion) -> Completion:
        for attempt in range(1, self._task.max_attempts):
            self._task.tokens.completion += len(broken.token_ids)
            broken = await self._attempt(attempt, broken.index)
            if self._is_counted(broken.text, broken.finish_reason, "regenerated"):
                return broken
        raise self._failure()

    async def _attempt(self, attempt: int, index: int) -> Completion:
        generation = await self._task.again(attempt, self._form.constraint)
        try:
            (completion,) = (await anext(generation)).outputs
        finally:
            await generation.aclose()
        return MadeCompletion(
            index,
            completion.text,
            completion.token_ids,
            completion.logprobs,
            completion.finish_reason,
        )

    def _failure(self) -> GenerationFailed:
        self._task.count("invalid")
        message = "The reply does not satisfy its format."
        return GenerationFailed(message, code="response_format_invalid")
