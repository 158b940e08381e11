"""Short blocks of load that go round the frontends, there and back, and what they cost."""

import statistics
import time
from collections.abc import Iterator, Sequence

import msgspec

from tests.bench.standin.asks import Asks
from tests.bench.standin.frontends import Frontend
from tests.bench.standin.measure import cpu_seconds

SETTLE_SECONDS = 0.5
"""After a block, until the frontend has dealt with what was on its way and its clients left."""

NUM_TOKENS = 64
TOKENS_PER_SECOND = 8000.0
"""That a paced core emits at 16 connections and more: about what a small model does on a CPU, and
within what the slowest frontend carries, so that nobody merges tokens to keep up."""

SHORTEST_STEP_SECONDS = 0.001


class Workload(msgspec.Struct, frozen=True):
    """Streams of 64 tokens or plain replies of one, at a core's pace; 0 is flat out."""

    connections: int
    stream: bool
    step_seconds: float = 0.0

    @property
    def name(self) -> str:
        kind = f"streams of {NUM_TOKENS}" if self.stream else "plain replies of 1"
        pace = f"a step every {self.step_seconds * 1000:g} ms" if self.step_seconds else "flat out"
        return f"{kind}, {self.connections} connections, {pace}"


class Block(msgspec.Struct):
    """One block of one frontend.

    Rates are of complete replies, costs of all tokens and requests that the core has seen, those
    included whose clients left at the end.
    """

    seconds: float
    replies: int
    reply_tokens: int
    events: int
    tokens: int
    requests: int
    cpu_seconds: float

    @property
    def requests_per_second(self) -> float:
        return self.replies / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.reply_tokens / self.seconds

    @property
    def events_per_token(self) -> float:
        """Below 1 if tokens were merged."""
        return self.events / self.reply_tokens

    @property
    def token_microseconds(self) -> float:
        return self.cpu_seconds * 1e6 / self.tokens

    @property
    def request_microseconds(self) -> float:
        return self.cpu_seconds * 1e6 / self.requests

    @property
    def busy(self) -> float:
        """Share of its processor core that the frontend used: near 1 where it is the limit."""
        return self.cpu_seconds / self.seconds


Blocks = dict[str, list[Block]]
"""By frontend, in the order of the rounds."""


def workloads(connections: Sequence[int]) -> list[Workload]:
    """Streams at a pace, streams and plain replies flat out."""
    paces = [max(each / TOKENS_PER_SECOND, SHORTEST_STEP_SECONDS) for each in connections]
    return [
        *(Workload(each, True, pace) for each, pace in zip(connections, paces, strict=True)),
        *(Workload(each, True) for each in connections),
        *(Workload(each, False) for each in connections),
    ]


def run_blocks(
    frontends: Sequence[Frontend], workload: Workload, asks: Asks, rounds: int, seconds: float
) -> Blocks:
    """A warm-up each, then the rounds. Raises WrongAnswers."""
    for frontend in frontends:
        run_block(frontend, workload, asks, seconds)
    blocks: Blocks = {frontend.name: [] for frontend in frontends}
    for frontend in there_and_back(frontends, rounds):
        blocks[frontend.name].append(run_block(frontend, workload, asks, seconds))
    return blocks


def there_and_back(frontends: Sequence[Frontend], rounds: int) -> Iterator[Frontend]:
    """A drift of the machine's speed hits all alike."""
    for number in range(rounds):
        yield from frontends if number % 2 == 0 else reversed(frontends)


def run_block(frontend: Frontend, workload: Workload, asks: Asks, seconds: float) -> Block:
    before, spent = frontend.order(workload.step_seconds), cpu_seconds(frontend.pid)
    tally = frontend.load(asks, workload.connections, seconds)
    tally.check(frontend.name)
    time.sleep(SETTLE_SECONDS)
    spent, after = cpu_seconds(frontend.pid) - spent, frontend.order(0)
    return Block(
        seconds=tally.seconds,
        replies=tally.replies,
        reply_tokens=tally.replies * asks.num_tokens,
        events=tally.events,
        tokens=after.tokens - before.tokens,
        requests=after.added - before.added,
        cpu_seconds=spent,
    )


COLUMNS = (
    ("req/s", "requests_per_second", "9.1f"),
    ("tok/s", "tokens_per_second", "9.0f"),
    ("us/token", "token_microseconds", "9.1f"),
    ("us/request", "request_microseconds", "11.0f"),
    ("events/tok", "events_per_token", "11.2f"),
    ("busy", "busy", "6.2f"),
)


def print_blocks(workload: Workload, blocks: Blocks) -> None:
    """Medians, and of the ratios of neighbouring blocks the median and the range."""
    print(f"\n{workload.name}")
    print(" " * 14 + "".join(title.rjust(int(form.split(".")[0])) for title, _, form in COLUMNS))
    for name, those in blocks.items():
        cells = [f"{median(those, field):{form}}" for _, field, form in COLUMNS]
        print(f"  {name:12}{''.join(cells)}{ratios(blocks, name)}", flush=True)


def median(blocks: Sequence[Block], field: str) -> float:
    return statistics.median(getattr(block, field) for block in blocks)


def ratios(blocks: Blocks, name: str) -> str:
    """How ours compares with this one."""
    if name == "ours" or "ours" not in blocks:
        return ""
    rates = quotients(blocks, name, "tokens_per_second")
    costs = quotients(blocks, name, "token_microseconds")
    return f"   ours/this: tok/s {spread(rates)}, us/token {spread(costs)}"


def quotients(blocks: Blocks, name: str, field: str) -> list[float]:
    pairs = zip(blocks["ours"], blocks[name], strict=True)
    return [getattr(mine, field) / getattr(theirs, field) for mine, theirs in pairs]


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"
