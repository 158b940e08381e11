import pytest

from app.engine.base import Output, RenderedPrompt, Sampling
from app.merge import MergedGenerations
from tests.fake_engine import FakeEngine, FakeGeneration

NUM_TOKENS = 4


@pytest.mark.parametrize("num_read", range(2 * NUM_TOKENS + 1))
async def test_every_output_is_read_or_counted_as_unread(num_read: int) -> None:
    """Also what is on its way from a generation to its reader when the latter leaves."""
    engine = FakeEngine()
    generations: list[FakeGeneration] = []
    unread: list[Output] = []

    async def submit() -> FakeGeneration:
        sampling = Sampling({"max_tokens": NUM_TOKENS}, stream=True)
        generations.append(await engine.submit(RenderedPrompt([1]), sampling, None))
        return generations[-1]

    merged = MergedGenerations([submit, submit], unread.append)
    await merged.wait_for_first()
    for _ in range(num_read):
        await anext(merged)
    await merged.aclose()
    await merged.aclose()

    assert all(each.closed.is_set() for each in engine.submissions)
    assert num_read + len(unread) == sum(each.num_tokens for each in generations)
