"""Python functions as tools."""

import asyncio
import sys
import threading
from types import ModuleType
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from app.configuration import ConfigurationError
from app.errors import InvalidRequest
from app.tools.gate.admitted import admit
from app.tools.registry import ToolRegistry, load_registry, runnable


def get_weather(
    city: Annotated[str, Meta(description="Name of the city.")],
    days: Annotated[int, Meta(ge=1, le=7)] = 1,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
) -> dict[str, object]:
    """Forecast the weather."""
    return {"city": city, "days": days, "unit": unit}


async def look_up(word: str) -> str:
    """Look a word up."""
    await asyncio.sleep(0)
    return f"{word} is a word"


def fail() -> None:
    """Never works."""
    raise ValueError("no luck today")


def registry(*functions: object, seconds: float = 30.0) -> ToolRegistry:
    return ToolRegistry(map(runnable, functions), seconds)  # type: ignore[arg-type]


def test_hints_and_docstring_become_a_definition() -> None:
    (definition,) = registry(get_weather).among([])
    assert (definition.name, definition.description) == ("get_weather", "Forecast the weather.")
    schema = admit(definition.parameters, "tools")
    schema.verify('{"city": "Paris", "days": 7}')
    with pytest.raises(Exception, match="8"):
        schema.verify('{"city": "Paris", "days": 8}')


async def test_a_call_runs_the_function_with_its_defaults() -> None:
    result = await registry(get_weather).run("get_weather", '{"city": "Paris"}')
    assert msgspec.json.decode(result) == {"city": "Paris", "days": 1, "unit": "celsius"}


async def test_coroutine_functions_are_awaited() -> None:
    assert await registry(look_up).run("look_up", '{"word": "cat"}') == "cat is a word"


async def test_a_tool_that_raises_answers_with_its_error() -> None:
    result = await registry(fail).run("fail", "{}")
    assert msgspec.json.decode(result) == {"error": "ValueError: no luck today"}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(5)])
async def test_a_tool_that_raises_what_cannot_be_raised_further_answers_with_it(
    error: BaseException,
) -> None:
    def leave() -> None:
        """Leave."""
        raise error

    result = await registry(leave).run("leave", "{}")
    assert msgspec.json.decode(result) == {"error": f"RuntimeError: {error!r}"}


async def test_a_coroutine_function_cannot_end_the_server() -> None:
    async def leave() -> None:
        """Leave."""
        sys.exit("bye")

    assert "bye" in await registry(leave).run("leave", "{}")


async def test_a_tool_that_hangs_answers_with_its_limit() -> None:
    leave = threading.Event()

    def hang() -> str:
        """Wait for ever."""
        leave.wait()
        return "late"

    result = await registry(hang, seconds=0.05).run("hang", "{}")
    leave.set()
    assert "did not end within 0.05 seconds" in result


async def test_the_example_numbers_its_steps() -> None:
    tools = load_registry("app.tools.examples", 30)
    steps = '{"tasks": [{"task": "Find it", "description": "Look."}]}'
    assert await tools.run("decompose_task", steps) == "1. Find it: Look."


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def untyped(x): pass", "x has no type"),
        ("def many(*args: int): pass", "args has no schema"),
        ("x = 1", "no public function"),
        ("def odd(x: 'Missing'): pass", "cannot be a tool"),
    ],
)
def test_a_module_that_cannot_be_used_says_why(
    source: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("broken_tools")
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "broken_tools", module)
    with pytest.raises(ConfigurationError, match=reason):
        load_registry("broken_tools", 30)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no_such_module cannot be imported"):
        load_registry("no_such_module", 30)


def test_without_a_module_there_are_no_tools() -> None:
    with pytest.raises(InvalidRequest, match="no tools are registered"):
        load_registry("", 30).among([])
