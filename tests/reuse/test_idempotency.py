"""POSTs that are sent again under the same `Idempotency-Key`, through the HTTP door."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from app.errors import GenerationFailed, Overloaded
from app.settings import Settings
from tests.engine.adapter import make_adapter
from tests.fake_engine import FakeEngine, Script
from tests.live_server import LiveServer, running_server
from tests.redis_server import RedisServer
from tests.reuse.test_single_flight import start, until

CHAT = {"messages": [{"role": "user", "content": "a"}]}
ROUTES = ["/chat", "/v1/chat/completions"]


async def post(
    client: httpx.AsyncClient, key: str, path: str = "/chat", body: Any = CHAT, **headers: str
) -> httpx.Response:
    return await client.post(path, json=body, headers={"idempotency-key": key, **headers})


def is_replayed(reply: httpx.Response) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_answer_comes_again_byte_for_byte(
    client: httpx.AsyncClient, engine: FakeEngine, words: str, path: str, stream: bool
) -> None:
    body = CHAT | {"stream": stream, "max_tokens": 5}
    first = await post(client, words, path, body)
    second = await post(client, words, path, body)

    assert second.status_code == first.status_code == 200
    assert second.content == first.content
    assert [is_replayed(each) for each in (first, second)] == [False, True]
    assert len(engine.submissions) == 1
    own = {"x-request-id", "idempotent-replayed"}
    kept = [{k: v for k, v in each.headers.items() if k not in own} for each in (first, second)]
    assert kept[0] == kept[1]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


async def test_the_answers_own_headers_come_again(
    client: httpx.AsyncClient, engine: FakeEngine, words: str
) -> None:
    body = CHAT | {"user": "me"}
    replies = [await post(client, words, ROUTES[1], body) for _ in range(2)]

    assert [each.headers["x-ignored-params"] for each in replies] == ["user", "user"]


async def test_a_key_with_another_body_conflicts(
    client: httpx.AsyncClient, engine: FakeEngine, words: str
) -> None:
    body = CHAT | {"max_tokens": 5}
    for path in ROUTES:
        await post(client, words, path)
    native, conflict = [await post(client, words, path, body) for path in ROUTES]

    assert native.status_code == conflict.status_code == 409
    assert "another body" in native.json()["detail"]
    assert conflict.json()["error"]["code"] == "idempotency_conflict"
    assert len(engine.submissions) == 2


async def test_a_key_is_of_one_route(
    client: httpx.AsyncClient, engine: FakeEngine, words: str
) -> None:
    replies = [await post(client, words, path) for path in ROUTES]

    assert not any(map(is_replayed, replies))


async def test_the_second_waits_for_the_first(
    client: httpx.AsyncClient, engine: FakeEngine, live: LiveServer, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    requests = [start(post(client, words)) for _ in range(3)]
    await until(lambda: live.server.app.admission.in_flight == 3 and bool(engine.submissions))
    conflict = await post(client, words, body=CHAT | {"max_tokens": 5})

    hold.set()
    replies = await asyncio.gather(*requests)

    assert conflict.status_code == 409
    assert sorted(map(is_replayed, replies)) == [False, True, True]
    assert len({each.content for each in replies}) == 1
    assert len(engine.submissions) == 1


async def test_when_the_first_leaves_the_second_is_computed(
    client: httpx.AsyncClient, engine: FakeEngine, live: LiveServer, words: str
) -> None:
    engine.enqueue(Script(hold=asyncio.Event()))
    first = start(post(client, words))
    await until(lambda: bool(engine.submissions))
    second = start(post(client, words))
    await until(lambda: live.server.app.admission.in_flight == 2)

    first.cancel()
    reply = await asyncio.wait_for(second, 5)

    assert reply.status_code == 200
    assert not is_replayed(reply)
    assert engine.submissions[0].closed.is_set()
    assert is_replayed(await post(client, words))


async def test_who_waits_may_leave(
    client: httpx.AsyncClient, engine: FakeEngine, live: LiveServer, words: str
) -> None:
    hold = asyncio.Event()
    engine.enqueue(Script(hold=hold))
    first, second = start(post(client, words)), start(post(client, words))
    await until(lambda: live.server.app.admission.in_flight == 2 and bool(engine.submissions))

    second.cancel()
    await until(lambda: live.server.app.admission.in_flight == 1)
    hold.set()

    assert (await first).status_code == 200


async def test_a_stream_that_was_left_is_not_kept(
    client: httpx.AsyncClient, engine: FakeEngine, live: LiveServer, words: str
) -> None:
    engine.enqueue(Script(pause=asyncio.Event()))
    body, headers = CHAT | {"stream": True}, {"idempotency-key": words}
    async with client.stream("POST", "/chat", json=body, headers=headers) as left:
        assert left.status_code == 200
    again = await post(client, words, body=body)

    assert "[DONE]" in again.text
    assert not is_replayed(again)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script(refusal=GenerationFailed("no")), 500),
        (Script(refusal=Overloaded("no")), 503),
        (Script(failure=GenerationFailed("no")), 200),
    ],
)
async def test_what_may_succeed_next_time_is_not_kept(
    client: httpx.AsyncClient, engine: FakeEngine, words: str, script: Script, status: int
) -> None:
    engine.enqueue(script)
    body = CHAT | {"stream": True}
    first = await post(client, words, body=body)
    second = await post(client, words, body=body)

    assert first.status_code == status
    assert second.status_code == 200
    assert "[DONE]" in second.text
    assert not is_replayed(second)


@pytest.mark.parametrize(("path", "status"), [("/chat", 422), ("/v1/chat/completions", 400)])
async def test_a_refusal_of_the_request_itself_is_kept(
    client: httpx.AsyncClient, engine: FakeEngine, words: str, path: str, status: int
) -> None:
    replies = [await post(client, words, path, CHAT | {"temperature": 9}) for _ in range(2)]

    assert [each.status_code for each in replies] == [status, status]
    assert replies[0].content == replies[1].content
    assert is_replayed(replies[1])


async def test_a_model_that_is_not_there_may_be_later(
    client: httpx.AsyncClient, engine: FakeEngine, words: str
) -> None:
    for _ in range(2):
        reply = await post(client, words, body=CHAT | {"model": "missing"})
        assert reply.status_code == 404
        assert not is_replayed(reply)


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "x" * 256, "sch\u00f6n"])
async def test_a_key_that_is_none_is_refused(
    client: httpx.AsyncClient, engine: FakeEngine, key: str
) -> None:
    headers = {"idempotency-key": key.encode("latin-1")}
    reply = await client.post("/v1/chat/completions", json=CHAT, headers=headers)

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "idempotency-key"
    assert "1 to 255" in reply.json()["error"]["message"]
    assert not engine.submissions


async def test_the_longest_key_is_one(
    client: httpx.AsyncClient, engine: FakeEngine, words: str
) -> None:
    key = words + "~" * (255 - len(words))

    assert not is_replayed(await post(client, key))
    assert is_replayed(await post(client, key))


async def test_it_means_nothing_on_a_get(client: httpx.AsyncClient, words: str) -> None:
    for _ in range(2):
        reply = await client.get("/v1/models", headers={"idempotency-key": words})
        assert reply.status_code == 200
        assert not is_replayed(reply)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keyed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """A server with keys that keeps small answers only, and may load an adapter."""
    root: Path = tmp_path_factory.mktemp("adapters")
    settings = Settings(
        port=0,
        model="fake/model",
        api_keys=("alice", "bob"),
        admin_keys=("boss",),
        adapter_hub=False,
        adapter_dir=str(root),
        idempotency_entry_kib=1,
    )
    make_adapter(root / "pirate")
    async with running_server(settings, FakeEngine()) as live:
        yield live


async def test_no_other_owner_gets_the_answer(keyed: LiveServer, words: str) -> None:
    async def ask(key: str) -> httpx.Response:
        return await post(keyed.client, words, authorization=f"Bearer {key}")

    first, other, none, again = [await ask(key) for key in ("alice", "bob", "eve", "alice")]

    assert [each.status_code for each in (first, other, none)] == [200, 200, 401]
    assert [is_replayed(each) for each in (first, other, none, again)] == [False] * 3 + [True]


async def test_an_answer_over_the_limit_is_computed_again(keyed: LiveServer, words: str) -> None:
    engine = keyed.server.app.engine
    assert isinstance(engine, FakeEngine)
    engine.enqueue(*[Script(pieces=["x" * 600, "y" * 600])] * 4)
    for stream in (False, True):
        for _ in range(2):
            reply = await post(
                keyed.client,
                f"{words}{stream}",
                body=CHAT | {"stream": stream},
                authorization="Bearer alice",
            )
            assert "y" * 600 in reply.text
            assert not is_replayed(reply)


async def test_answers_of_other_kinds_of_routes_come_again(keyed: LiveServer, words: str) -> None:
    body = {"name": "pirate", "folder": "pirate"}
    replies = [
        await post(keyed.client, words, "/v1/adapters", body, authorization="Bearer boss")
        for _ in range(2)
    ]

    assert replies[0].status_code == replies[1].status_code
    assert replies[0].json()["id"] == "pirate"
    assert replies[0].content == replies[1].content
    assert is_replayed(replies[1])


async def test_answers_in_redis_outlive_the_server(redis: RedisServer, words: str) -> None:
    settings = Settings(port=0, model="fake/model", reply_cache=redis.url)
    async with running_server(settings, FakeEngine()) as live:
        first = await post(live.client, words)
    async with running_server(settings, FakeEngine()) as live:
        second = await post(live.client, words)

    assert is_replayed(second)
    assert second.content == first.content


async def test_it_can_be_turned_off(words: str) -> None:
    settings = Settings(port=0, model="fake/model", idempotency_seconds=0, single_flight=False)
    async with running_server(settings, FakeEngine()) as live:
        for _ in range(2):
            assert not is_replayed(await post(live.client, words))


async def test_with_the_official_client(live: LiveServer, engine: FakeEngine, words: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        replies = [
            await client.chat.completions.with_raw_response.create(
                model="fake/model",
                messages=[{"role": "user", "content": "a"}],
                extra_headers={"Idempotency-Key": words},
            )
            for _ in range(2)
        ]

    assert replies[0].parse() == replies[1].parse()
    assert replies[1].headers["idempotent-replayed"] == "true"
    assert len(engine.submissions) == 1
