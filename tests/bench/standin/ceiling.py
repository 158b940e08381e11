"""How many tokens a second a frontend carries before tokens wait for each other.

Flat out, vLLM's own client merges the tokens that wait into one event, which is cheaper: that rate
says little of how many events there can be. So the pace is raised step by step, until tokens are
merged or no more of them arrive.
"""

from collections.abc import Sequence

from tests.bench.standin.asks import Asks
from tests.bench.standin.blocks import Block, Workload, run_block
from tests.bench.standin.frontends import Frontend

FIRST_RATE = 4000.0
"""Tokens a second: every frontend carries them."""

FACTOR = 1.25
LEAST_EVENTS_PER_TOKEN = 0.95
CLIMBS_IN_VAIN = 2
"""After so many that were merged or not faster, it is over."""


def print_ceilings(
    frontends: Sequence[Frontend], connections: Sequence[int], asks: Asks, seconds: float
) -> None:
    """One climb a frontend and number of connections; raises WrongAnswers."""
    for number in connections:
        print(
            f"\nstreams of {asks.num_tokens}, {number} connections: most tokens a second unmerged"
        )
        for frontend in frontends:
            best = climb(frontend, number, asks, seconds)
            print(
                f"  {frontend.name:12} {best.tokens_per_second:9.0f} tok/s"
                f" {best.token_microseconds:7.1f} us/token, busy {best.busy:.2f}",
                flush=True,
            )


def climb(frontend: Frontend, connections: int, asks: Asks, seconds: float) -> Block:
    """The fastest block in which no tokens were merged, or the first."""
    rate, in_vain = FIRST_RATE, 0
    best = run_at(frontend, connections, rate, asks, seconds)
    while in_vain < CLIMBS_IN_VAIN:
        rate *= FACTOR
        block = run_at(frontend, connections, rate, asks, seconds)
        in_vain += 1
        if is_unmerged(block) and block.tokens_per_second > best.tokens_per_second:
            best, in_vain = block, 0
    return best


def run_at(frontend: Frontend, connections: int, rate: float, asks: Asks, seconds: float) -> Block:
    """A block at the pace that makes so many tokens a second of all connections together."""
    workload = Workload(connections, stream=True, step_seconds=connections / rate)
    return run_block(frontend, workload, asks, seconds)


def is_unmerged(block: Block) -> bool:
    return block.events_per_token >= LEAST_EVENTS_PER_TOKEN
