"""Replies with tool calls, each call checked before it leaves and generated anew if it fails.

A retry begins behind the mark of the call that failed: the prefix cache has all before it.
"""

from collections.abc import AsyncIterator, Sequence

import msgspec

from app.engine.base import Completion, Generation, Output, Tokenizer
from app.errors import GenerationFailed
from app.prompts import run_sized
from app.tools.attempts import Task
from app.tools.dialects import Thinking
from app.tools.gate.admitted import SchemaViolation
from app.tools.offer import Offer
from app.tools.parts import Begun, Broken, Called, Grown, Part


class Piece(msgspec.Struct, frozen=True):
    """What one output adds to a choice; the last piece of a choice has its finish reason."""

    index: int
    parts: Sequence[Part]
    finish_reason: str | None
    completion: Completion


class VerifiedTurns:
    """The choices of one reply in parts, each call in them verified; always close it.

    `grows`: calls come as they grow, so that a bad one can only be told of, not mended.
    """

    def __init__(
        self, task: Task, offer: Offer, tokenizer: Tokenizer, thinking: Thinking, *, grows: bool
    ) -> None:
        self.first: Output | None = None
        self._task = task
        self._offer = offer
        self._tokenizer = tokenizer
        num_choices = task.sampling.arguments.get("n", 1)
        self._choices = [CheckedTurn(task, offer, thinking, grows) for _ in range(num_choices)]
        self._generation: Generation | None = None

    async def begin(self) -> None:
        """Once this returns, everything that can be refused has been."""
        self._generation = await self._task.begin()

    async def pieces(self) -> AsyncIterator[Piece]:
        """All choices at once, then one by one those of which a call is generated anew.

        Raises GenerationFailed with code `tool_call_invalid` when no attempt is left, and with
        `tool_call_incomplete` when a call that came as it grew is cut off.
        """
        async for output in self._outputs():
            self.first = self.first or output
            self._task.tokens.add(output)
            for completion in output.outputs:
                yield self._choices[completion.index].read(completion, completion.index)
            if all(choice.is_over for choice in self._choices):
                break
        for index, choice in enumerate(self._choices):
            while choice.is_broken:
                async for piece in self._again(choice, index):
                    yield piece

    async def _again(self, choice: "CheckedTurn", index: int) -> AsyncIterator[Piece]:
        await self.aclose()
        text = choice.rewind()
        kept = await run_sized(
            len(text), lambda: self._tokenizer.encode(text, add_special_tokens=False)
        )
        constraint = self._offer.constraint_from_name(is_first=not choice.num_calls)
        self._generation = await self._task.again(choice.attempts, constraint, kept)
        async for output in self._outputs():
            self._task.tokens.add_attempt(output)
            for completion in output.outputs:
                yield choice.read(completion, index)
            if choice.is_over:
                break

    def _outputs(self) -> Generation:
        if self._generation is None:
            raise RuntimeError("A reply is read before it was begun. This is a bug.")
        return self._generation

    async def aclose(self) -> None:
        """Abort what is still running."""
        if self._generation is not None:
            await self._generation.aclose()


class CheckedTurn:
    """One choice as it is read, and how often it has been generated."""

    def __init__(self, task: Task, offer: Offer, thinking: Thinking, grows: bool) -> None:
        self.num_calls = 0
        self.attempts = 1
        self.is_over = False
        self.is_broken = False
        """It is over because of a call that does not pass."""

        self._task = task
        self._offer = offer
        self._turn = offer.turn(thinking)
        self._grows = grows
        arguments = task.sampling.arguments
        can_stop = bool(arguments.get("stop") or arguments.get("stop_token_ids"))
        self._may_stop_in_mark = offer.required or can_stop
        """What may be the beginning of a call's mark at the end is no text then."""

        self._has_half = False
        self._outcome = "verified"

    def read(self, completion: Completion, index: int) -> Piece:
        """What may go out of one output. Raises GenerationFailed when no attempt is left."""
        parts = () if self.is_over else self._passed(completion)
        finish_reason = None
        if completion.finish_reason is not None and not self.is_over:
            self.is_over = True
            finish_reason = self._finish_reason(completion.finish_reason)
        return Piece(index, parts, finish_reason, completion)

    def rewind(self) -> str:
        """Forget the call that does not pass, and all behind it; returns the text before its name.

        All calls before it have passed, so that their count is its number.
        """
        self.is_over = self.is_broken = False
        self._outcome = "regenerated"
        return self._turn.rewind(self.num_calls)

    def _passed(self, completion: Completion) -> Sequence[Part]:
        parts = self._turn.feed(completion.text)
        if completion.finish_reason is not None:
            cut = self._may_stop_in_mark or completion.finish_reason == "length"
            parts += self._turn.finish(cut=cut)
        passed = []
        for part in parts:
            if isinstance(part, Broken) or (isinstance(part, Called) and not self._is_valid(part)):
                self._break()
                break
            if self._goes_out(part):
                passed.append(part)
        return passed

    def _is_valid(self, call: Called) -> bool:
        try:
            self._offer.verify(call)
        except SchemaViolation:
            return False
        self._task.count(self._outcome)
        self._outcome = "verified"
        self.num_calls += 1
        self._has_half = False
        return True

    def _goes_out(self, part: Part) -> bool:
        """A call goes out either as it grows or as a whole."""
        if isinstance(part, Begun | Grown):
            self._has_half = self._grows
            return self._grows
        return not (self._grows and isinstance(part, Called))

    def _break(self) -> None:
        if self._has_half or self.attempts >= self._task.max_attempts:
            self._task.count("invalid")
            raise GenerationFailed(
                "The model's call does not satisfy the tool's schema.", code="tool_call_invalid"
            )
        self.attempts += 1
        self.is_over = self.is_broken = True

    def _finish_reason(self, finish_reason: str) -> str:
        """The engine's, unless there are calls, of which none was cut off."""
        if self._turn.is_cut:
            self._task.count("truncated")
            self._refuse_half()
        elif self.num_calls and finish_reason != "length":
            return "function_call" if self._offer.legacy else "tool_calls"
        return finish_reason

    def _refuse_half(self) -> None:
        if self._has_half:
            raise GenerationFailed(
                "The reply was cut off inside a call.", code="tool_call_incomplete"
            )
