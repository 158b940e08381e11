"""Patterns are compiled once, elsewhere, and what is too much for that leaves nothing behind."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio

from app.engine.base import END, Choice, Constraint, Match
from app.engine.constraints.automaton import INSIDE_STRING
from app.engine.constraints.compiler import ConstraintCompiler, compilations
from app.engine.constraints.program import Program
from app.engine.constraints.store import (
    CompiledPattern,
    checksum,
    index_key,
    string_store,
    vocabulary_path,
)
from app.errors import EngineDead, InvalidRequest
from app.settings import Settings
from tests.engine.constraints.vocabulary import VOCABULARY

BOMB = "(a|b)*a(a|b){24}"
DEADLINE_SECONDS = 60
pytestmark = pytest.mark.asyncio(loop_scope="module")


def matching(pattern: str, param: str = "response_format") -> Constraint:
    return Constraint((Match(pattern=pattern, param=param),))


def open_compiler(folder: Path, seconds: float = 30.0) -> ConstraintCompiler:
    settings = Settings(compile_seconds=seconds, compile_processes=1)
    compiler = ConstraintCompiler(settings, VOCABULARY, folder)
    compiler.open()
    return compiler


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compiler(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConstraintCompiler]:
    compiler = open_compiler(tmp_path_factory.mktemp("cache"))
    yield compiler
    await asyncio.to_thread(compiler.close)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hurried(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConstraintCompiler]:
    """One whose time is up soon."""
    compiler = open_compiler(tmp_path_factory.mktemp("cache"), seconds=0.3)
    yield compiler
    await asyncio.to_thread(compiler.close)


def count(outcome: str) -> float:
    return compilations.labels(outcome)._value.get()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def spawned() -> set[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return {each for each in children if "spawn_main" in " ".join(each.cmdline())}


async def test_a_program_names_indexes_in_the_place_of_patterns(
    compiler: ConstraintCompiler,
) -> None:
    constraint = Constraint((Choice(then={"x": 1}), Match(pattern="a+b", param="tools", then=END)))
    program = msgspec.json.decode(await compiler.program(constraint, 100), type=Program)
    choice, indexed = program.segments
    assert choice == constraint.segments[0]
    assert isinstance(compiler._store.load(indexed.key, CompiledPattern), CompiledPattern)
    assert program.max_tokens == 100
    assert program.vocabulary == VOCABULARY.digest


async def test_a_pattern_is_compiled_once_however_many_want_it(
    compiler: ConstraintCompiler,
) -> None:
    before = count("compiled")
    constraint = matching("once+")
    programs = await asyncio.gather(*(compiler.program(constraint, 100) for _ in range(20)))
    assert len(set(programs)) == 1
    assert count("compiled") == before + 1
    await compiler.program(constraint, 100)
    assert count("compiled") == before + 1


async def test_too_few_tokens_are_refused_by_number(compiler: ConstraintCompiler) -> None:
    with pytest.raises(InvalidRequest, match="about 4 tokens, and only 3") as caught:
        await compiler.program(matching("abcd"), 3)
    assert caught.value.param == "max_tokens"
    assert await compiler.program(matching("abcd"), 4)


async def test_what_takes_too_long_is_ended_and_remembered(hurried: ConstraintCompiler) -> None:
    with pytest.raises(InvalidRequest, match="cannot be compiled within") as caught:
        await hurried.program(matching(BOMB, "tools[0]"), 100)
    assert (caught.value.code, caught.value.param) == ("schema_too_complex", "tools[0]")
    before = count("refused")
    with pytest.raises(InvalidRequest, match="structured_outputs: it cannot be compiled"):
        await hurried.program(matching(BOMB, "structured_outputs"), 100)
    assert count("refused") == before + 1
    assert await hurried.program(matching("good"), 100)


async def test_a_compilation_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    others = spawned()
    compiler = open_compiler(tmp_path)
    await compiler.program(matching("warm"), 100)
    (worker,) = spawned() - others
    waiting = asyncio.create_task(compiler.program(matching(BOMB), 100))
    await until(lambda: bool(compiler._running))
    waiting.cancel()
    await asyncio.wait([waiting])
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert not compiler._running
    assert await compiler.program(matching("next"), 100)
    await asyncio.to_thread(compiler.close)
    assert not spawned() - others


async def test_what_still_waits_when_the_engine_closes_learns_that_it_died(tmp_path: Path) -> None:
    others = spawned()
    compiler = open_compiler(tmp_path)
    await compiler.program(matching("warm"), 100)
    waiting = asyncio.create_task(compiler.program(matching(BOMB), 100))
    await until(lambda: bool(compiler._running))

    await asyncio.to_thread(compiler.close)

    with pytest.raises(EngineDead):
        await waiting
    with pytest.raises(EngineDead):
        await compiler.program(matching("late"), 100)
    assert not spawned() - others


async def test_what_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    settings = Settings(compile_seconds=60, compile_processes=1, compile_memory_mib=512)
    compiler = ConstraintCompiler(settings, VOCABULARY, tmp_path)
    compiler.open()
    with pytest.raises(InvalidRequest, match="within 60 s and 512 MiB"):
        await compiler.program(matching("x(é|[^é]){0,200000}"), 100)
    assert await compiler.program(matching("good"), 100)
    await asyncio.to_thread(compiler.close)


async def test_one_that_leaves_does_not_end_it_for_others(compiler: ConstraintCompiler) -> None:
    constraint = matching("[a-z]{0,40}shared")
    first, second = (asyncio.create_task(compiler.program(constraint, 100)) for _ in range(2))
    await until(lambda: 2 in compiler._waiting.values())
    first.cancel()
    assert await second


async def test_what_outlines_refuses_is_refused_with_its_reason(
    compiler: ConstraintCompiler,
) -> None:
    with pytest.raises(InvalidRequest, match="cannot be compiled") as caught:
        await compiler.program(matching("(unbalanced"), 100)
    assert caught.value.code == "unsupported_schema"


async def test_a_cache_that_was_wiped_is_written_anew(tmp_path: Path) -> None:
    compiler = open_compiler(tmp_path)
    await compiler.program(matching("kept"), 100)
    shutil.rmtree(tmp_path)
    await compiler.program(matching("kept"), 100)
    assert string_store(tmp_path).touch(index_key(VOCABULARY.digest, INSIDE_STRING))
    assert vocabulary_path(tmp_path, VOCABULARY.digest).exists()
    await asyncio.to_thread(compiler.close)


async def test_a_damaged_index_is_compiled_anew(compiler: ConstraintCompiler) -> None:
    constraint = matching("damaged")
    program = msgspec.json.decode(await compiler.program(constraint, 100), type=Program)
    path = compiler._store.path(program.segments[0].key)
    path.write_bytes(path.read_bytes()[:-1])
    compiler._needs.clear()
    assert await compiler.program(constraint, 100)


async def test_processes_that_died_are_replaced(tmp_path: Path) -> None:
    others = spawned()
    compiler = open_compiler(tmp_path)
    await compiler.program(matching("warm"), 100)
    (worker,) = spawned() - others
    worker.kill()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert await compiler.program(matching("after"), 100)
    await asyncio.to_thread(compiler.close)


async def test_one_that_comes_when_the_last_has_left_waits_for_its_own(
    compiler: ConstraintCompiler,
) -> None:
    constraint = matching("[a-z]{0,30}again")
    first = asyncio.create_task(compiler.program(constraint, 100))
    await until(lambda: bool(compiler._running))
    first.cancel()
    second = asyncio.create_task(compiler.program(constraint, 100))
    await asyncio.wait([first])
    assert await second


async def test_a_file_of_another_version_counts_as_missing(compiler: ConstraintCompiler) -> None:
    constraint = matching("versions")
    program = msgspec.json.decode(await compiler.program(constraint, 100), type=Program)
    content = msgspec.msgpack.encode({"another": "version"})
    path = compiler._store.path(program.segments[0].key)
    path.write_bytes(checksum(content) + content)
    compiler._needs.clear()
    assert await compiler.program(constraint, 100)


async def test_a_choice_that_no_tokens_spell_is_refused(compiler: ConstraintCompiler) -> None:
    nothing = Constraint((Choice(then={}),))
    with pytest.raises(InvalidRequest, match="cannot be written"):
        await compiler.program(nothing, 100)


async def test_many_that_meet_a_broken_pool_open_one(tmp_path: Path) -> None:
    others = spawned()
    compiler = open_compiler(tmp_path)
    await compiler.program(matching("warm"), 100)
    (worker,) = spawned() - others
    worker.kill()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    wanted = (compiler.program(matching(f"after{number}"), 100) for number in range(8))
    assert all(await asyncio.gather(*wanted))
    await asyncio.to_thread(compiler.close)
    assert not spawned() - others
