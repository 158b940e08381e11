"""Two registries of adapters on one engine, as two frontends have them."""

import asyncio
import shutil
from pathlib import Path

import pytest

from app.adapters.registry import AdapterRegistry
from app.errors import AdapterNotFound
from app.fronts.numbers import SharedNumbers
from app.settings import Settings
from tests.engine.adapter import make_adapter
from tests.fake_engine import FakeEngine


class Pair:
    """Both registries, and who tells one of the other."""

    def __init__(self, settings: Settings, engine: FakeEngine) -> None:
        self.numbers = SharedNumbers()
        self.registries = [AdapterRegistry(settings, engine, self) for _ in range(2)]

    async def number(self, name: str) -> int:
        return self.numbers.take(name)

    async def release(self, name: str) -> bool:
        return self.numbers.give_back(name)

    async def follow(self) -> None:
        await asyncio.gather(*(each.reconcile() for each in self.registries))


async def until_removed(engine: FakeEngine, number: int) -> None:
    async with asyncio.timeout(10):
        while number in engine.adapters:
            await asyncio.sleep(0.01)


async def test_one_version_is_loaded_once_and_removed_by_the_last(tmp_path: Path) -> None:
    engine = FakeEngine()
    make_adapter(tmp_path / "root" / "pirate")
    settings = Settings(
        adapter_dir=str(tmp_path / "root"), state_dir=str(tmp_path / "state"), model="fake/model"
    )
    pair = Pair(settings, engine)
    one, other = pair.registries
    for each in pair.registries:
        await each.open()
    assert one["pirate"].version.adapter == other["pirate"].version.adapter

    with other.hold("pirate") as old:
        make_adapter(tmp_path / "root" / "pirate", seed=1)
        await one.load("pirate", None, None)
        new = one["pirate"].version.adapter
        assert other["pirate"].version.adapter == new != old
        assert old.number in engine.adapters
    await until_removed(engine, old.number)

    shutil.rmtree(tmp_path / "root" / "pirate")
    await one.reconcile()
    assert new.number in engine.adapters
    await other.reconcile()
    await until_removed(engine, new.number)
    for each in pair.registries:
        with pytest.raises(AdapterNotFound):
            each["pirate"]
        await each.close()
