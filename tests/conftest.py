"""One server on the fake engine for the whole run, one on the real engine where it is wanted."""

import asyncio
import io
import os
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from xdist.scheduler import LoadScopeScheduling

from app.engine.environment import prepare_environment
from app.settings import Settings
from app.tools.dialects import MARKS
from tests.engine.adapter import make_adapter
from tests.fake_engine import FakeEngine
from tests.live_server import LiveServer, running_server

ENGINE_START_SECONDS = 300
MAIN_LOOP = pytest.StashKey[asyncio.AbstractEventLoop]()


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No server of the tests remembers anything in the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def main_loop(request: pytest.FixtureRequest) -> None:
    """Where tasks are looked for when a test does not end."""
    request.config.stash[MAIN_LOOP] = asyncio.get_running_loop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What took too long shows its tasks: of a loop that waits, a thread's stack shows nothing."""
    report = yield
    loop = item.config.stash.get(MAIN_LOOP, None)
    if call.excinfo is not None and loop and "Timeout (>" in str(call.excinfo.value):
        stacks = io.StringIO()
        for task in asyncio.all_tasks(loop):
            task.print_stack(file=stacks)
        report.sections.append(("tasks", stacks.getvalue()))
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fake_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[LiveServer, FakeEngine]]:
    engine = FakeEngine()
    adapter = make_adapter(tmp_path_factory.mktemp("adapters") / "pirate")
    settings = Settings(port=0, model="fake/model", adapters={"pirate": str(adapter)})
    async with running_server(settings, engine) as live:
        yield live, engine


@pytest.fixture
def live(fake_server: tuple[LiveServer, FakeEngine], engine: FakeEngine) -> LiveServer:
    return fake_server[0]


@pytest.fixture
def engine(fake_server: tuple[LiveServer, FakeEngine]) -> FakeEngine:
    """The fake behind `client`, fresh for each test."""
    fake_server[1].reset()
    return fake_server[1]


@pytest.fixture
def client(live: LiveServer) -> httpx.AsyncClient:
    return live.client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """The demo model on a real engine with an adapter; started once, when first wanted."""
    adapter = make_adapter(tmp_path_factory.mktemp("adapters") / "noise")
    settings = Settings(
        port=0,
        adapters={"noise": str(adapter)},
        adapter_dir=str(tmp_path_factory.mktemp("adapter_root")),
        admin_keys=("boss",),
        max_pinned_loras=3,
        index_cache_dir=str(tmp_path_factory.mktemp("indexes")),
        tools_module="app.tools.examples",
    )
    async with real_engine(settings) as live:
        yield live


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def random_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """A model of random weights on a real engine: nothing it says is right by itself."""
    from tests.engine.random_model import make_random_model

    model = make_random_model(tmp_path_factory.mktemp("models") / "random")
    indexes = tmp_path_factory.mktemp("indexes")
    settings = Settings(port=0, model=str(model), index_cache_dir=str(indexes))
    async with real_engine(settings) as live:
        yield live


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vision_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """The demo vision model on a real engine."""
    indexes = tmp_path_factory.mktemp("indexes")
    settings = Settings(port=0, model="demo-vision", index_cache_dir=str(indexes))
    async with real_engine(settings) as live:
        yield live


@asynccontextmanager
async def real_engine(settings: Settings) -> AsyncIterator[LiveServer]:
    """A server whose model is loaded."""
    prepare_environment(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from app.engine.vllm import VLLMEngine

    async with running_server(settings, VLLMEngine(settings, MARKS)) as live:
        await until_loaded(live)
        yield live


async def until_loaded(live: LiveServer) -> None:
    async with asyncio.timeout(ENGINE_START_SECONDS):
        while live.server.app.models.status == "loading":
            await asyncio.sleep(0.01)
    assert live.server.app.models.status == "ready"


ENGINES = ("real_server", "random_server", "vision_server")
"""Servers that take long to start."""


class EnginesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Deals out files whole, and those of tests/engine to one process: they share engines."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.rpartition("/")[0]
        return folder if folder.endswith("tests/engine") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return EnginesTogether(config, log)


def engine_of(item: pytest.Item) -> str:
    """The engine that it wants, else its file."""
    names: list[str] = getattr(item, "fixturenames", [])
    return next((name for name in ENGINES if name in names), str(item.path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What wants one engine runs without a break: vLLM's metrics are the last started engine's."""
    engines = [engine_of(item) for item in items]
    first = {engine: place for place, engine in reversed([*enumerate(engines)])}
    items.sort(key=lambda item: first[engine_of(item)])
    if not Path("/dev/nvidiactl").exists():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="this machine has no NVIDIA GPU"))


def pytest_configure(config: pytest.Config) -> None:
    """vLLM binds the engine of every process to the first core; here each process has its own."""
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is not None:
        cores = sorted(os.sched_getaffinity(0))
        number = int(worker["workerid"].removeprefix("gw"))
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(cores[number % len(cores)]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-wire", action="store_true", help="write tests/wire anew")
    parser.addoption("--target", help="URL of a server that tests/scorecard judges, not ours")
    parser.addoption("--target-pid", type=int, help="its process that speaks HTTP")
    parser.addoption("--target-model", help="its model")
    parser.addoption("--target-key", default="", help="a key that it accepts")
