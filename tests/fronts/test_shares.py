from pathlib import Path

import pytest
from msgspec.structs import replace

import app.cluster.__main__ as cluster_command
from app.configuration import ConfigurationError
from app.fronts.listeners import bind_all
from app.fronts.numbers import SharedNumbers
from app.fronts.shares import check_shareable, shares
from app.keys.file import KeyFile
from app.keys.grant import Grant
from app.keys.ring import KeyRing
from app.settings import Settings

SHAREABLE = Settings(
    frontends=3, idempotency_seconds=0, max_engine_failures=0, max_pinned_loras=0, log_dir="logs"
)
HASH = "sha256:" + "0" * 64


def test_bounds_are_divided_and_logs_are_apart() -> None:
    parts = shares(replace(SHAREABLE, max_in_flight=10, reply_cache_mib=1))

    assert [part.max_in_flight for part in parts] == [4, 4, 4]
    assert [part.reply_cache_mib for part in parts] == [1, 1, 1]
    assert [part.log_dir for part in parts] == [f"logs/frontend-{n}" for n in range(3)]
    assert {part.max_body_bytes for part in parts} == {SHAREABLE.max_body_bytes}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"idempotency_seconds": 1}, "LLM_FRONTENDS=3 needs LLM_IDEMPOTENCY_SECONDS=0 or a Redis"),
        ({"max_engine_failures": 1}, "LLM_FRONTENDS=3 needs LLM_MAX_ENGINE_FAILURES=0"),
        ({"max_pinned_loras": 1}, "LLM_FRONTENDS=3 needs LLM_MAX_PINNED_LORAS=0"),
        ({"data_parallel_size": 2}, "LLM_FRONTENDS=3 needs LLM_DATA_PARALLEL_SIZE=1"),
    ],
)
def test_what_several_cannot_do_is_refused_naming_both(
    changed: dict[str, int], sentence: str
) -> None:
    check_shareable(SHAREABLE)
    check_shareable(replace(SHAREABLE, frontends=1, **changed))

    with pytest.raises(ConfigurationError, match=sentence):
        check_shareable(replace(SHAREABLE, **changed))


def test_answers_that_are_kept_in_redis_are_everybodys() -> None:
    check_shareable(replace(SHAREABLE, idempotency_seconds=1, reply_cache="redis://localhost"))


def test_a_replica_has_one_frontend() -> None:
    with pytest.raises(ConfigurationError, match=r"LLM_FRONTENDS=3 .* LLM_MAX_REPLICAS"):
        cluster_command.alone(SHAREABLE)


async def test_limits_of_keys_are_refused_at_the_start_and_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(tmp_path / "keys.toml")
    file.add("alice", Grant(hash=HASH))
    settings = replace(SHAREABLE, key_file=str(file.path))
    ring = KeyRing(settings)
    file.remove("alice")
    file.add("alice", Grant(hash=HASH, requests_per_minute=1))

    await ring.reload()

    assert "the keys stay as they were: The key file limits 'alice'" in caplog.text
    with pytest.raises(ConfigurationError, match=r"limits 'alice'.*LLM_FRONTENDS"):
        KeyRing(settings)
    KeyRing(replace(settings, frontends=1))


def test_a_version_has_one_number_as_long_as_somebody_uses_it() -> None:
    numbers = SharedNumbers()

    assert [numbers.take("a@1"), numbers.take("a@1"), numbers.take("a@2")] == [1, 1, 2]
    assert [numbers.give_back("a@1"), numbers.give_back("a@1")] == [False, True]
    assert numbers.take("a@1") == 3


def test_an_address_is_shared_among_frontends_alone() -> None:
    ours = bind_all("127.0.0.1", 0, 3)
    try:
        assert len({each.getsockname() for each in ours}) == 1
        for each in ours:
            each.listen()
        with pytest.raises(ConfigurationError, match="cannot be listened on"):
            bind_all(*ours[0].getsockname(), 2)
    finally:
        for each in ours:
            each.close()
