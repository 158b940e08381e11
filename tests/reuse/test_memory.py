"""The store in memory: bounded in bytes and in time."""

from datetime import timedelta

import pytest

from app.reuse.memory import ENTRY_BYTES, MemoryStore

KIB = 1024


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(4 * KIB, clock)


async def test_what_is_longest_unused_goes_first(store: MemoryStore) -> None:
    value = bytes(KIB - ENTRY_BYTES)
    for name in "abcd":
        await store.set(name, value)
    assert store.num_bytes == 4 * KIB
    assert await store.get("a") == value

    await store.set("e", value)

    assert [name for name in "abcde" if await store.exists(name)] == ["a", "c", "d", "e"]
    assert store.num_bytes == 4 * KIB


async def test_a_value_larger_than_the_store_drives_nothing_out(store: MemoryStore) -> None:
    await store.set("a", b"a")
    await store.set("large", bytes(5 * KIB))

    assert await store.get("a") == b"a"
    assert await store.get("large") is None


async def test_values_end(store: MemoryStore, clock: Clock) -> None:
    await store.set("a", "text", 10)
    await store.set("b", b"b", timedelta(minutes=1))
    await store.set("c", b"c")
    assert [await store.expires_in(name) for name in "abcd"] == [10, 60, -1, None]

    clock.now = 9.9
    assert await store.get("a", renew_for=5) == b"text"
    clock.now = 10.1
    assert await store.get("a") == b"text"
    clock.now = 15.0
    assert await store.get("a") is None
    assert await store.get("b") == b"b"
    clock.now = 1e9
    assert store.num_bytes == ENTRY_BYTES + 1
    assert await store.get("c", renew_for=1) == b"c"


async def test_values_are_deleted(store: MemoryStore) -> None:
    for name in "abc":
        await store.set(name, b"")

    await store.delete("a")
    await store.delete("unknown")
    assert [await store.exists(name) for name in "abc"] == [False, True, True]
    await store.delete_all()
    assert store.num_bytes == 0
