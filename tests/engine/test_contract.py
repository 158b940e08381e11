"""What every engine must do; run on the fake, so that it cannot drift from the real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from app.engine.base import Engine, RenderedPrompt, Sampling
from app.errors import GenerationFailed
from app.metrics import Metrics
from app.settings import Settings
from app.supervision import SupervisedEngine
from tests.fake_engine import FakeEngine, Script

LONG = {"max_tokens": 2000, "ignore_eos": True}


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest_asyncio.fixture
async def supervised(fake: FakeEngine) -> AsyncIterator[Engine]:
    engine = SupervisedEngine(lambda: fake, Settings(), Metrics())
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(params=["fake", "supervised", pytest.param("real", marks=pytest.mark.engine)])
def any_engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "real":
        return request.getfixturevalue("real_server").server.app.engine
    engine: Engine = request.getfixturevalue(request.param)
    return engine


def prompt(engine: Engine) -> RenderedPrompt:
    turns = [{"role": "user", "content": "Hello"}]
    text = engine.tokenizer.render(turns, None, add_generation_prompt=True)
    return RenderedPrompt(engine.tokenizer.encode(text, add_special_tokens=False))


async def text_of(engine: Engine, *, stream: bool, **arguments: object) -> dict[int, str]:
    sampling = Sampling({"temperature": 0, "max_tokens": 50, **arguments}, stream)
    texts: dict[int, str] = {}
    async with aclosing(await engine.submit(prompt(engine), sampling, None)) as outputs:
        async for output in outputs:
            for completion in output.outputs:
                texts[completion.index] = texts.get(completion.index, "") + completion.text
    return texts


async def test_engine_is_ready_and_knows_its_limits(any_engine: Engine) -> None:
    assert any_engine.status == "ready"
    token_ids = prompt(any_engine).token_ids
    assert any_engine.limits.max_model_len > len(token_ids)
    assert max(token_ids) < any_engine.limits.vocabulary_size
    assert any_engine.limits.max_token_chars >= 1
    assert any_engine.description


async def test_text_survives_the_tokenizer(any_engine: Engine) -> None:
    text = "Hello, 你好, 您好嗎? \U0001f600"

    token_ids = any_engine.tokenizer.encode(text, add_special_tokens=False)

    assert any_engine.tokenizer.decode(token_ids) == text


async def test_deltas_add_up_to_the_whole(any_engine: Engine) -> None:
    streamed = await text_of(any_engine, stream=True)
    whole = await text_of(any_engine, stream=False)

    assert streamed == whole
    assert whole[0]


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_have_their_own_index(any_engine: Engine, stream: bool) -> None:
    texts = await text_of(any_engine, stream=stream, n=3, temperature=1.0, top_k=1)

    assert sorted(texts) == [0, 1, 2]
    assert len(set(texts.values())) == 1


async def test_whole_output_is_one_finished_output(any_engine: Engine) -> None:
    sampling = Sampling({"temperature": 0, "max_tokens": 50}, stream=False)

    async with aclosing(await any_engine.submit(prompt(any_engine), sampling, None)) as outputs:
        (output,) = [output async for output in outputs]

    assert output.finished
    assert output.outputs[0].finish_reason == "stop"
    assert output.metrics is not None
    assert output.metrics.first_token_latency > 0
    assert output.num_cached_tokens is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_each_token_has_its_logprobs(any_engine: Engine, stream: bool) -> None:
    sampling = Sampling({"temperature": 0, "max_tokens": 5, "logprobs": 2}, stream)

    async with aclosing(await any_engine.submit(prompt(any_engine), sampling, None)) as outputs:
        async for output in outputs:
            completion = output.outputs[0]
            assert completion.logprobs is not None
            assert len(completion.logprobs) == len(completion.token_ids)
            for token_id, place in zip(completion.token_ids, completion.logprobs, strict=True):
                assert place[token_id].logprob <= 0
                assert place[token_id].decoded_token is not None


async def test_closing_twice_is_harmless(any_engine: Engine) -> None:
    sampling = Sampling(LONG, stream=True)
    generation = await any_engine.submit(prompt(any_engine), sampling, None)

    await generation.aclose()
    await generation.aclose()


async def test_it_gives_a_sign_of_life_while_it_works(any_engine: Engine) -> None:
    generation = await any_engine.submit(prompt(any_engine), Sampling(LONG, True), None)

    async with aclosing(generation), asyncio.timeout(10):
        await any_engine.heartbeat()


async def test_abort_all_fails_what_is_running(any_engine: Engine, fake: FakeEngine) -> None:
    fake.enqueue(Script(pause=asyncio.Event()))
    generation = await any_engine.submit(prompt(any_engine), Sampling(LONG, True), None)

    await any_engine.abort_all()

    async with aclosing(generation):
        with pytest.raises(GenerationFailed):
            async for _ in generation:
                pass
