"""What a schema costs when it is new and when it is known, with 131,072 tokens."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from app.engine.base import Constraint, Match
from app.engine.constraints.compiler import ConstraintCompiler
from app.errors import InvalidRequest
from app.settings import Settings
from app.tools.gate.admitted import admit
from tests.engine.random_model import tekken_vocabulary


async def measure_compile(tools: list[dict[str, Any]]) -> None:
    """Through the compiler that the server uses, in a cache that is empty at first."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = tekken_vocabulary()
        compiler = ConstraintCompiler(Settings(compile_seconds=30), vocabulary, Path(folder))
        compiler.open()
        seconds: dict[str, list[float]] = {"gate": [], "new": [], "known": []}
        for tool in tools:
            started = time.perf_counter()
            try:
                pattern = admit(tool["parameters"], "tools").pattern
            except InvalidRequest as error:
                print(f"refused: {tool['name']}: {error}")
                continue
            seconds["gate"].append(time.perf_counter() - started)
            match = Match(pattern=f" {pattern}\\}}\\n", param="tools")
            for kind in ("new", "known"):
                started = time.perf_counter()
                await compiler.program(Constraint((match,)), 2**20)
                seconds[kind].append(time.perf_counter() - started)
        await asyncio.to_thread(compiler.close)
    print(f"\n{len(seconds['gate'])} schemas, {len(vocabulary.tokens)} tokens, one after the other")
    print(f"{'':8} {'p50':>9} {'p90':>9} {'p99':>9} {'max':>9}")
    for kind, times in seconds.items():
        print(f"{kind:8} {' '.join(f'{each * 1000:6.1f} ms' for each in spread(times))}")


def spread(values: list[float]) -> list[float]:
    """The median, the 90th and 99th percentile, and the largest."""
    ordered = sorted(values)
    return [
        ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.9, 0.99, 1)
    ]
