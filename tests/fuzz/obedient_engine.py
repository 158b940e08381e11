"""A model that knows nothing and says whatever it may: random texts within each constraint."""

import asyncio
import random

from app.engine.base import (
    ANYBODY,
    END,
    Adapter,
    Choice,
    Constraint,
    Limits,
    Match,
    Origin,
    RenderedPrompt,
    Sampling,
    Text,
)
from tests.fake_engine import FakeEngine, FakeGeneration, Script
from tests.tools.gate.walking import walk

LONG = 12
"""Segments after which the shortest way to the end is taken."""


class ObedientEngine(FakeEngine):
    """Greets where nothing is asked for; keeps count of generations and not what they were."""

    def __init__(self, seed: int = 0, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.generator = random.Random(seed)
        self.started = 0

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> FakeGeneration:
        if sampling.constraint is not None:
            n = sampling.arguments.get("n", 1)
            texts = [obedient_text(sampling.constraint, self.generator) for _ in range(n)]
            self.enqueue(Script(choices=[pieces(text) for text in texts]))
        generation = await super().submit(prompt, sampling, adapter, origin)
        self.started += 1
        self.submissions = [each for each in self.submissions if not each.closed.is_set()]
        await asyncio.sleep(0)
        return generation


def pieces(text: str) -> list[str]:
    """At least one, as of every model."""
    return [text[at : at + 7] for at in range(0, len(text), 7)] or [""]


def obedient_text(constraint: Constraint, generator: random.Random) -> str:
    """A whole reply that the constraint allows."""
    parts: list[str] = []
    number = 0
    while number != END:
        segment = constraint.segments[number]
        match segment:
            case Text():
                parts.append("Well. ")
                if segment.may_end and (len(parts) > LONG or generator.random() < 0.3):
                    break
                parts.append(segment.until)
                number = segment.then
            case Choice():
                ways = [*segment.then.items(), *([("", END)] if segment.may_end else [])]
                ending = [way for way in ways if way[1] == END] if len(parts) > LONG else []
                text, number = generator.choice(ending or ways)
                parts.append(text)
            case Match():
                parts.append(walk(segment.pattern, generator))
                number = segment.then
    return "".join(parts)
