"""Row B5: what one key has asked makes nothing faster for another one."""

import pytest

from tests.live_server import LiveServer

pytestmark = pytest.mark.engine


async def cached_tokens(live: LiveServer, prompt: str, key: str | None) -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"prompt": prompt, "max_tokens": 1}
    reply = await live.client.post("/v1/completions", json=body, headers=headers)
    assert reply.status_code == 200
    cached: int = reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached


async def test_b5_no_key_is_answered_from_what_another_one_asked(real_server: LiveServer) -> None:
    prompt = "What one tenant asks is no business of another's. " * 40

    first = await cached_tokens(real_server, prompt, None)
    again = await cached_tokens(real_server, prompt, None)
    other = await cached_tokens(real_server, prompt, "boss")
    other_again = await cached_tokens(real_server, prompt, "boss")

    assert (first, other) == (0, 0)
    assert again == other_again > 100
