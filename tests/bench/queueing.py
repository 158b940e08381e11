"""What waiting in the queue costs: a submission when nothing waits, and throughput when much does.

python -m tests.bench.queueing: starts an engine of its own, which runs 64 requests at a time.
"""

import asyncio
import statistics
import time
from contextlib import aclosing

import msgspec

from app.engine.base import Engine, Limits, RenderedPrompt, Sampling, Submitter
from app.engine.environment import prepare_environment
from app.metrics import Metrics
from app.queueing.queue import FairQueue
from app.settings import Settings
from app.tools.dialects import MARKS
from tests.bench.pauses import without_collections
from tests.fake_engine import FakeEngine

SUBMISSIONS = 2000
ROUNDS = 9
SUBMISSION_ROUNDS = 20
MARGINS = (0.0, 0.25, 1.0)
PROMPTS = 512
SAMPLING = {"max_tokens": 64, "ignore_eos": True, "temperature": 0}
RUNNING = 64


async def submission_seconds(submitter: Submitter) -> float:
    """Of the processor, which is all that it takes where nothing waits."""
    prompt, sampling = RenderedPrompt([1] * 30), Sampling(SAMPLING, False)
    with without_collections():
        started = time.thread_time()
        for _ in range(SUBMISSIONS):
            await (await submitter.submit(prompt, sampling, None)).aclose()
        return (time.thread_time() - started) / SUBMISSIONS


async def measure_submissions() -> None:
    ways: dict[str, list[float]] = {"directly": [], "in the queue": []}
    for _ in range(SUBMISSION_ROUNDS):
        engine = FakeEngine(Limits(2048, 256, 1))
        ways["directly"].append(await submission_seconds(engine))
        queue = FairQueue(FakeEngine(), Settings(), Metrics())
        ways["in the queue"].append(await submission_seconds(queue))
    direct, queued = (min(seconds) * 1e6 for seconds in ways.values())
    print(f"fake engine, nothing waits   {direct:5.1f} µs directly, {queued - direct:5.1f} µs more")


async def generate(submitter: Submitter, token_ids: list[int]) -> None:
    generation = await submitter.submit(RenderedPrompt(token_ids), Sampling(SAMPLING, True), None)
    async with aclosing(generation):
        async for _ in generation:
            pass


async def throughput(submitter: Submitter, engine: Engine) -> float:
    """Tokens per second."""
    texts = [f"What is {number}?" for number in range(PROMPTS)]
    prompts = [engine.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    started = time.perf_counter()
    await asyncio.gather(*(generate(submitter, each) for each in prompts))
    return PROMPTS * 64 / (time.perf_counter() - started)


async def measure_throughput() -> None:
    settings = Settings(engine_arguments={"max_num_seqs": RUNNING})
    prepare_environment(settings)
    from app.engine.vllm import VLLMEngine

    engine = VLLMEngine(settings, MARKS)
    await engine.start()
    ways: dict[str, Submitter] = {"directly": engine}
    for margin in MARGINS:
        with_margin = msgspec.structs.replace(settings, queue_margin=margin)
        ways[f"margin {margin}"] = FairQueue(engine, with_margin, Metrics())
    try:
        await throughput(engine, engine)
        rates = [[await throughput(way, engine) for way in ways.values()] for _ in range(ROUNDS)]
    finally:
        await engine.close()
    for number, name in enumerate(ways):
        rate = statistics.median(each[number] for each in rates)
        ratio = statistics.median(each[number] / each[0] for each in rates)
        print(f"{PROMPTS} at once, {name:12} {rate:6.0f} tokens/s, {ratio:.2f} of directly")


async def main() -> None:
    await measure_submissions()
    await measure_throughput()


if __name__ == "__main__":
    asyncio.run(main())
