"""Counting the tokens of a request, which may have several prompts and several choices."""

from app.engine.base import Output
from schemas.usage import PromptTokensDetails, Usage


class TokenCount:
    """Grows while a stream is built, so that an interrupted one is counted too."""

    __slots__ = ("cached", "completion", "is_abandoned", "prompt")

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt
        self.completion = 0
        self.cached = 0
        self.is_abandoned = False

    def add(self, output: Output) -> None:
        """Count one output; with deltas each token is in exactly one of them."""
        self.add_attempt(output)
        if output.finished:
            self.cached += output.num_cached_tokens or 0

    def add_attempt(self, output: Output) -> None:
        """Count what is generated for a reply that is being generated anew."""
        for completion in output.outputs:
            self.completion += len(completion.token_ids)

    def abandon(self, num_unread: int) -> None:
        """Count what the engine made for a reply that ended before it was read."""
        self.is_abandoned = True
        self.completion += num_unread

    @property
    def used_prompt(self) -> int:
        """Prompt tokens of which the engine has read any, as far as can be told."""
        return self.prompt if self.completion or self.is_abandoned else 0

    @property
    def used(self) -> int:
        """All tokens that cost something."""
        return self.used_prompt + self.completion

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            total_tokens=self.prompt + self.completion,
        )

    def detailed_usage(self) -> Usage:
        """With the share of the prompt that the prefix cache already had."""
        usage = self.usage()
        usage.prompt_tokens_details = PromptTokensDetails(cached_tokens=self.cached)
        return usage
