"""What one reply is generated from, as often as it takes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from app.engine.base import Constraint, Generation, Logprob, RenderedPrompt, Sampling
from app.errors import GenerationFailed, InvalidRequest
from app.replies.usage import TokenCount
from app.sampling import retried

Submit = Callable[[RenderedPrompt, Sampling], Awaitable[Generation]]


class MadeCompletion(msgspec.Struct):
    """A `base.Completion` that is not the engine's own."""

    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob]] | None
    finish_reason: str | None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt, how to generate, and how often at most; all attempts at a reply share it."""

    submit: Submit
    prompt: RenderedPrompt
    sampling: Sampling
    max_attempts: int
    tokens: TokenCount
    count: Callable[[str], None]
    """Told the outcome of each call or reply, for the metrics."""

    async def begin(self) -> Generation:
        return await self.submit(self.prompt, self.sampling)

    async def again(
        self, attempt: int, constraint: Constraint, kept: Sequence[int] = ()
    ) -> Generation:
        """Generate one choice anew, behind the token ids that are kept of it.

        Raises GenerationFailed if those leave too few for the rest: that is no fault of the
        request. Raises what `Engine.submit` raises else.
        """
        max_tokens = self.sampling.arguments["max_tokens"] - len(kept)
        sampling = retried(self.sampling, attempt, constraint, max(max_tokens, 1))
        try:
            return await self.submit(self.prompt.followed_by(kept), sampling)
        except InvalidRequest as error:
            raise GenerationFailed(
                "A call did not satisfy its schema, and too few tokens are left for another one.",
                code="tool_call_invalid",
            ) from error
