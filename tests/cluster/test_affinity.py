from collections import Counter
from typing import Any

import msgspec
import pytest

from app.cluster.affinity import PREFIX_BYTES, affinity_key, ranked

SYSTEM = {"role": "system", "content": "You are a pirate."}
ASKED = {"role": "user", "content": "What is LoRA?"}
ANSWERED = {"role": "assistant", "content": "Arr."}
OTHER = {"role": "user", "content": "What is a token?"}
LONG = "All of our rules. " * 100


def key(body: Any = None, **headers: str) -> str:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return affinity_key(pairs, b"" if body is None else msgspec.json.encode(body))


def test_a_session_has_one_key_whatever_it_says() -> None:
    session = {"x-session-id": "anne"}

    assert key({"messages": [ASKED]}, **session) == key({"messages": [OTHER]}, **session)
    assert key({"messages": [ASKED]}, **session) != key({"messages": [ASKED]})
    assert key(**session) != key(**{"x-session-id": "bob"})


def test_a_conversation_keeps_its_key_while_it_grows() -> None:
    first = {"messages": [SYSTEM, ASKED]}
    later = {"messages": [SYSTEM, ASKED, ANSWERED, OTHER], "stream": True}

    assert key(first) == key(later) != key({"messages": [SYSTEM, OTHER]})


def test_one_conversation_has_one_key_on_every_route() -> None:
    native = {"temperature": 0.5, "messages": [ASKED]}
    openai = {"model": "slipstream-demo", "messages": [ASKED], "max_completion_tokens": 5}

    assert key(native) == key(openai)


def test_long_instructions_keep_different_questions_together() -> None:
    rules = {"role": "developer", "content": LONG}
    assert len(LONG) > PREFIX_BYTES

    assert key({"messages": [rules, ASKED]}) == key({"messages": [rules, OTHER]})
    assert key({"prompt": LONG + "a"}) == key({"prompt": LONG + "b"})


def test_tools_come_before_what_is_said() -> None:
    tools = [{"type": "function", "function": {"name": "get_weather"}}]

    assert key({"messages": [ASKED], "tools": tools}) != key({"messages": [ASKED]})


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a"},
        {"prompts": ["a", "b"]},
        {"prompt": [1, 2]},
        {"prompt": "b", "history": [ASKED]},
    ],
)
def test_every_kind_of_prompt_has_a_key(body: Any) -> None:
    assert key(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"{", b'{"messages": 1}', b'{"messages": []}', b"\xff", b"[" * 100_000],
)
def test_a_body_without_a_prompt_has_no_key(body: bytes) -> None:
    assert affinity_key([], body) == ""


def test_an_empty_session_header_names_no_session() -> None:
    assert key(**{"x-session-id": ""}) == ""


def test_the_same_key_prefers_the_same_replica_under_any_load_below_the_limit() -> None:
    firsts = {ranked("k", {"a": a, "b": b, "c": 3}, 64)[0] for a in range(64) for b in range(64)}

    assert len(firsts) == 1


def test_keys_are_spread_evenly() -> None:
    firsts = Counter(ranked(str(n), {"a": 0, "b": 0, "c": 0}, 64)[0] for n in range(3000))

    assert all(900 < count < 1100 for count in firsts.values())


def test_a_replica_that_goes_moves_only_its_own_keys() -> None:
    three, two = {"a": 0, "b": 0, "c": 0}, {"a": 0, "b": 0}
    before = {str(n): ranked(str(n), three, 64)[0] for n in range(300)}

    assert all(ranked(key, two, 64)[0] == first for key, first in before.items() if first != "c")


def test_a_full_replica_is_not_preferred() -> None:
    preferred, other = ranked("k", {"a": 0, "b": 0}, 4)

    assert ranked("k", {preferred: 4, other: 3}, 4) == [other, preferred]
    assert ranked("k", {preferred: 3, other: 0}, 4) == [preferred, other]


def test_among_full_replicas_and_without_a_key_the_least_loaded_is_first() -> None:
    assert ranked("k", {"a": 9, "b": 7, "c": 8}, 4) == ["b", "c", "a"]
    assert ranked("", {"a": 3, "b": 1, "c": 2}, 4) == ["b", "c", "a"]
