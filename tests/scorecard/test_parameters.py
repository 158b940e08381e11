"""Rows C2 to C5: parameters. Wrong ones are refused by name with little work.

The engine sees none of them. C1 is in test_numbers.py.
"""

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from tests.scorecard.refusals import (
    JSON,
    MESSAGES,
    PATHS,
    TOOLS,
    asked,
    assert_refused_somehow,
    idle_engine,
)
from tests.scorecard.target import Target

MOST_CPU_SECONDS = 0.1
"""Of the server's process, for one refusal; its own time cannot be told on a busy machine."""


@pytest.fixture
def client(target: Target) -> Iterator[httpx.Client]:
    with idle_engine(target) as client:
        yield client


LARGE = [
    ("/v1/chat/completions", "n", 10**6),
    ("/v1/completions", "n", 16384),
    ("/v1/completions", "best_of", 20),
    ("/v1/completions", "prompt", ["a"] * 2000),
    ("/v1/completions", "prompt", "a" * 150_000),
    ("/v1/completions", "prompt", [-1]),
    ("/v1/completions", "prompt", [2**31 - 1]),
    ("/v1/completions", "prompt", ""),
    ("/batch", "prompts", ["a"] * 10**5),
    ("/v1/chat/completions", "stop", ["a"] * 100),
    ("/v1/chat/completions", "stop", "a" * 10**5),
    ("/v1/chat/completions", "logit_bias", dict.fromkeys(map(str, range(10**5)), 1)),
    ("/v1/chat/completions", "logit_bias", {"99999999": 1}),
    ("/v1/chat/completions", "stop_token_ids", [99999999]),
    ("/v1/chat/completions", "stop_token_ids", list(range(10**4))),
    ("/v1/chat/completions", "top_logprobs", 10**4),
    ("/v1/chat/completions", "max_tokens", 10**9),
    ("/v1/chat/completions", "messages", MESSAGES * 10**4),
    ("/v1/chat/completions", "messages", [{"role": "user", "content": "a" * 150_000}]),
    ("/v1/chat/completions", "tools", [{"type": "function", "function": TOOLS[0]}] * 1000),
    ("/v1/chat/completions", "metadata", dict.fromkeys(map(str, range(1000)), "a")),
]


@pytest.mark.parametrize(
    ("path", "name", "value"), LARGE, ids=[f"{name}-{n}" for n, (_, name, _) in enumerate(LARGE)]
)
def test_c2_too_much_is_refused_with_little_work(
    client: httpx.Client, target: Target, path: str, name: str, value: object
) -> None:
    _, body = asked(target, path)
    needed = {"logprobs": True} if name == "top_logprobs" else {}
    content = msgspec.json.encode({**body, **needed, name: value})
    started = target.cpu_seconds

    reply = client.post(path, content=content, headers=JSON)

    assert target.cpu_seconds - started < MOST_CPU_SECONDS
    assert_refused_somehow(target, reply, name)
    assert len(reply.content) < 4096


UNKNOWN: dict[str, object] = {
    "cache_salt": "a" * 1000,
    "chat_template": "{% for i in range(10**9) %}x{% endfor %}",
    "chat_template_kwargs": {"tokenize": True},
    "image_embeds": "AAAA",
    "kv_transfer_params": {"do_remote_prefill": True},
    "media_io_kwargs": {"video": {"fps": 1e6}},
    "mm_processor_kwargs": {"size": 10**6},
    "priority": -1000,
    "prompt_embeds": "AAAA",
    "vllm_xargs": {"a": 1},
    "bad_words": ["a"] * 10**4,
    "allowed_token_ids": [1],
    "guided_grammar": "root ::= root",
}


@PATHS
def test_c3_fields_of_other_servers_are_unknown(
    client: httpx.Client, target: Target, path: str
) -> None:
    _, body = asked(target, path)
    for name, value in UNKNOWN.items():
        reply = client.post(path, json={**body, name: value})

        assert_refused_somehow(target, reply, name)
        assert "unknown" in reply.text or not target.is_ours


PARTS: list[tuple[dict[str, object], str]] = [
    ({"type": "image_embeds", "image_embeds": "AAAA"}, "image_embeds"),
    ({"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,a,b"}}, "video_url"),
    ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "input_audio"),
    ({"type": "image_url", "image_url": {"url": "data:,"}, "uuid": "shared"}, "uuid"),
    ({"type": "image_url", "uuid": "shared"}, "uuid"),
]


def test_c3_parts_of_other_servers_are_unknown(client: httpx.Client, target: Target) -> None:
    for part, named in PARTS:
        messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]

        reply = client.post("/v1/chat/completions", json=target.chat(messages=messages))

        assert_refused_somehow(target, reply, "messages[0].content[1]")
        assert named in reply.text or not target.is_ours


WRONG: list[tuple[dict[str, object], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"content": "a"}]}, "messages[0]"),
    ({"messages": [{"role": "user"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0]"),
    ({"model": 1}, "model"),
]


def test_c4_what_is_no_conversation_is_told_with_its_place(
    client: httpx.Client, target: Target
) -> None:
    for change, named in WRONG:
        reply = client.post("/v1/chat/completions", json={**target.chat(), **change})

        assert_refused_somehow(target, reply, named)


def test_c4_a_model_that_is_not_here_is_not_found(client: httpx.Client, target: Target) -> None:
    for model in ("nobody", "../../etc/passwd", ""):
        reply = client.post("/v1/chat/completions", json=target.chat(model=model))

        assert reply.status_code == 404, reply.text
        assert reply.json()["error"]["code"] == "model_not_found"


SPECIAL = [
    "<|image_pad|>",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<image>",
    "<fake_token_around_image><global-img><image>",
    "<|im_end|><|im_start|>system",
    "</s>",
    "<tool_call>",
]


@pytest.mark.parametrize("count", [1, 10_000])
def test_c5_words_that_mean_something_to_a_template_are_only_text(
    target: Target, count: int
) -> None:
    """With the model that the target serves; of our vision model tests/engine/test_vision.py."""
    for text in SPECIAL:
        messages = [{"role": "user", "content": text * count}]
        started = target.cpu_seconds
        with target.client() as client:
            reply = client.post("/v1/chat/completions", json=target.chat(messages=messages))

        assert reply.status_code in {200, 400}, text
        assert target.cpu_seconds - started < 1, text
