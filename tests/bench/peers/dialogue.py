"""How a child of the bench is talked to: a line of JSON in, a line of JSON out."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, TextIO

import msgspec


class Question(msgspec.Struct):
    """A workload by its name for so many seconds, or the texts that follow prompts."""

    workload: str = ""
    block: str = ""
    seconds: float = 0
    prompts: list[str] = []
    tokens: int = 0


def take_stdout() -> TextIO:
    """Where answers go; whatever else is printed goes to stderr from here on.

    Call it first: vLLM logs to stdout, and its processes get what we have.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def answer(answers: TextIO, what: Any) -> None:
    answers.write(msgspec.json.encode(what).decode() + "\n")


async def questions() -> AsyncIterator[Question]:
    """Until our parent closes the line."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield msgspec.json.decode(line, type=Question)
