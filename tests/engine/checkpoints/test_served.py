"""A GGUF file with a model class of its own, and 8-bit weights, each on a real engine."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest
import pytest_asyncio

from app.demo.corpus import Conversation, read_corpus
from app.settings import Settings
from tests.conftest import real_engine
from tests.engine.checkpoints.demo_gguf import write_demo_gguf
from tests.live_server import LiveServer

pytestmark = pytest.mark.engine

T = TypeVar("T")
NUM_QUESTIONS = 100


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mild_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """The demo model from a GGUF file, as the class of `custom_model.py`."""
    folder = tmp_path_factory.mktemp("gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        settings = Settings(
            port=0,
            model=str(write_demo_gguf(folder / "demo.gguf")),
            model_module="tests.engine.custom_model",
            engine_arguments={"hf_overrides": {"architectures": ["MildLlama"]}},
        )
        async with real_engine(settings) as live:
            yield live


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def int8_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    indexes = str(tmp_path_factory.mktemp("indexes"))
    settings = Settings(port=0, index_cache_dir=indexes, quantization="int8")
    async with real_engine(settings) as live:
        yield live


def questions() -> list[Conversation]:
    return [each for each in read_corpus().conversations if each.is_single][:NUM_QUESTIONS]


async def answers(live: LiveServer, asked: list[Conversation]) -> list[str]:
    async def ask(conversation: Conversation) -> str:
        body = {"messages": conversation.messages[:-1], "temperature": 0}
        reply = await live.client.post("/v1/chat/completions", json=body)
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text

    return await asyncio.gather(*(ask(conversation) for conversation in asked))


def num_equal(asked: list[Conversation], found: list[str]) -> int:
    pairs = zip(asked, found, strict=True)
    return sum(conversation.answer["content"] == text for conversation, text in pairs)


async def test_a_gguf_file_answers_as_the_original_does(mild_server: LiveServer) -> None:
    asked = [each for each in questions() if "!" not in each.answer["content"]]
    assert len(asked) > NUM_QUESTIONS // 2

    assert num_equal(asked, await answers(mild_server, asked)) >= 0.95 * len(asked)


async def test_a_model_class_of_ones_own_is_what_answers(mild_server: LiveServer) -> None:
    asked = [each for each in questions() if "!" in each.answer["content"]]
    assert asked

    assert not [text for text in await answers(mild_server, asked) if "!" in text]


async def test_weights_in_8_bits_answer_as_the_original_does(int8_server: LiveServer) -> None:
    asked = questions()

    assert num_equal(asked, await answers(int8_server, asked)) >= 0.9 * len(asked)
