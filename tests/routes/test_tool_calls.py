"""Tool calls over `/v1/chat/completions`, whole and streamed."""

from typing import Any

import httpx
import msgspec
import pytest

from app.engine.base import Text
from app.errors import GenerationFailed, InvalidRequest, Overloaded
from app.tools import offer
from app.tools.dialects import DIALECTS, HERMES, Dialect
from app.tools.gate.admitted import AdmittedSchema, admit
from tests.constraint_walk import accepts
from tests.fake_engine import FakeEngine, Script
from tests.sse_client import events
from tests.tools.test_turn import written

PATH = "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": [WEATHER, CLOCK],
}
HEAD = '\n{"name": "get_weather", "arguments": '
PARIS = HEAD + '{"city": "Paris </tool_call>"}}\n</tool_call>'
ROME = HEAD + '{"city": "Rome"}}\n</tool_call>'
WRONG = HEAD + '{"city": 5}}\n</tool_call>'
TWO = f"Let me see.\n<tool_call>{PARIS}\n<tool_call>{ROME}"


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def pieces(text: str, size: int = 3) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


class Answer:
    """One choice of a reply, whichever way it came."""

    def __init__(self) -> None:
        self.role: str | None = None
        self.content = ""
        self.reasoning: str | None = None
        self.calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None

    @property
    def functions(self) -> list[tuple[str, str]]:
        return [(each["function"]["name"], each["function"]["arguments"]) for each in self.calls]

    def read(self, message: dict[str, Any]) -> None:
        self.role = message["role"]
        self.content = message["content"] or ""
        self.reasoning = message.get("reasoning_content")
        self.calls = message.get("tool_calls", [])

    def add(self, delta: dict[str, Any]) -> None:
        self.role = delta.get("role", self.role)
        self.content += delta.get("content") or ""
        if "reasoning_content" in delta:
            self.reasoning = (self.reasoning or "") + delta["reasoning_content"]
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(self.calls):
                assert call["id"] and call["type"] == "function"
                self.calls.append({"id": call["id"], "function": {**call["function"]}})
            else:
                self.calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]


async def ask(client: httpx.AsyncClient, *, stream: bool, **fields: Any) -> list[Answer]:
    """The choices of a reply; an error event raises KeyError."""
    reply = await client.post(PATH, json={**ASK, **fields, "stream": stream})
    assert reply.status_code == 200, reply.text
    answers = [Answer() for _ in range(fields.get("n", 1))]
    if not stream:
        for choice in reply.json()["choices"]:
            answers[choice["index"]].read(choice["message"])
            answers[choice["index"]].finish_reason = choice["finish_reason"]
        return answers
    *chunks, done = events(reply.text)
    assert done == "[DONE]"
    for chunk in chunks:
        for choice in chunk["choices"]:
            assert answers[choice["index"]].finish_reason is None
            answers[choice["index"]].add(choice["delta"])
            answers[choice["index"]].finish_reason = choice["finish_reason"]
    return answers


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("delivery", ["atomic", "incremental"])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_text_and_two_calls(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool, delivery: str, size: int
) -> None:
    engine.enqueue(Script(pieces=pieces(TWO, size)))

    (answer,) = await ask(client, stream=stream, tool_call_delivery=delivery)

    assert (answer.role, answer.content) == ("assistant", "Let me see.")
    assert answer.functions == [
        ("get_weather", '{"city": "Paris </tool_call>"}'),
        ("get_weather", '{"city": "Rome"}'),
    ]
    assert len({call["id"] for call in answer.calls}) == 2
    assert answer.finish_reason == "tool_calls"


async def test_reply_of_calls_alone_has_no_content(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=[f"<tool_call>{ROME}"]))

    message = (await client.post(PATH, json=ASK)).json()["choices"][0]["message"]

    assert message["content"] is None
    assert "function_call" not in message


async def test_reply_without_calls_has_no_list_of_them(
    client: httpx.AsyncClient, stream: bool
) -> None:
    reply = await client.post(PATH, json={**ASK, "stream": stream})

    assert "Hello" in reply.text
    assert "tool_calls" not in reply.text


async def test_atomic_calls_come_as_one_delta_each(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=pieces(TWO)))

    *chunks, _ = events((await client.post(PATH, json={**ASK, "stream": True})).text)

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    calls = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert [(call["index"], sorted(call)) for (call,) in calls] == [
        (0, ["function", "id", "index", "type"]),
        (1, ["function", "id", "index", "type"]),
    ]


async def test_incremental_calls_come_as_they_grow(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=pieces(f"<tool_call>{ROME}", 5)))
    body = {**ASK, "stream": True, "tool_call_delivery": "incremental"}

    *chunks, _ = events((await client.post(PATH, json=body)).text)

    calls = [
        chunk["choices"][0]["delta"]["tool_calls"][0]
        for chunk in chunks
        if "tool_calls" in chunk["choices"][0]["delta"]
    ]
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert len(calls) > 3
    assert all(set(call) == {"index", "function"} for call in calls[1:])
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city": "Rome"}'


@pytest.mark.parametrize(
    ("choice", "text", "takes_text", "takes_call"),
    [
        ("auto", "It is sunny.", True, True),
        ("required", f"<tool_call>{ROME}", False, True),
        (
            {"type": "function", "function": {"name": "get_weather"}},
            f"<tool_call>{ROME}",
            False,
            True,
        ),
        ({"type": "function", "function": {"name": "get_time"}}, "", False, False),
    ],
    ids=["auto", "required", "named", "other named"],
)
async def test_choice_decides_the_constraint(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    choice: object,
    text: str,
    takes_text: bool,
    takes_call: bool,
) -> None:
    engine.enqueue(Script(pieces=[text]))

    await client.post(PATH, json={**ASK, "tool_choice": choice})

    constraint = engine.asked.sampling.constraint
    assert constraint is not None
    assert accepts(constraint, "It is sunny.") is takes_text
    assert accepts(constraint, f"<tool_call>{ROME}") is takes_call
    assert engine.asked.prompt.startswith("tool: get_weather\ntool: get_time\n")


async def test_none_is_a_chat_in_which_no_call_can_be_written(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    (answer,) = await ask(client, stream=stream, tool_choice="none")

    assert (answer.content, answer.calls, answer.finish_reason) == ("Hello, world!", [], "stop")
    constraint = engine.asked.sampling.constraint
    assert constraint is not None
    assert accepts(constraint, "It is sunny.")
    assert not accepts(constraint, f"<tool_call>{ROME}")
    assert "tool:" not in engine.asked.prompt


async def test_none_with_a_form_is_a_reply_of_that_form(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.enqueue(Script(pieces=["{", "}"]))

    (answer,) = await ask(client, stream=stream, tool_choice="none", response_format=FORMAT)

    assert answer.content == "{}"
    constraint = engine.asked.sampling.constraint
    assert constraint is not None
    assert not accepts(constraint, "It is sunny.")
    assert "tool:" not in engine.asked.prompt


async def test_without_parallel_calls_there_is_at_most_one(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await client.post(PATH, json={**ASK, "parallel_tool_calls": False})

    constraint = engine.asked.sampling.constraint
    assert constraint is not None
    assert accepts(constraint, f"<tool_call>{ROME}")
    assert not accepts(constraint, f"<tool_call>{ROME}\n<tool_call>{ROME}")


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_cut_at_every_position_no_half_call_is_delivered(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool, choice: str
) -> None:
    text = TWO if choice == "auto" else TWO[TWO.index("<") :]
    whole = ['{"city": "Paris </tool_call>"}', '{"city": "Rome"}']
    ends = [text.index(each) + len(each) for each in whole]
    for end in range(1, len(text)):
        engine.enqueue(Script(pieces=pieces(text[:end]), finish_reason="length"))

        (answer,) = await ask(client, stream=stream, tool_choice=choice)

        assert answer.finish_reason == "length"
        assert [each[1] for each in answer.functions] == whole[: sum(at <= end for at in ends)]
        assert "Let me see.".startswith(answer.content)


async def test_cut_at_every_position_a_growing_call_ends_with_an_error_event(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    body = {**ASK, "stream": True, "tool_call_delivery": "incremental"}
    text = f"<tool_call>{ROME}"
    begins, ends = text.index(" {", 20), text.index('"Rome"}') + len('"Rome"}')
    for end in range(1, len(text)):
        engine.enqueue(Script(pieces=pieces(text[:end]), finish_reason="length"))

        *chunks, last = events((await client.post(PATH, json=body)).text)

        if begins <= end < ends:
            assert last["error"]["code"] == "tool_call_incomplete"
        else:
            assert last == "[DONE]"
            assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("text", ["<tool_", "\n<tool_", "Hm.<tool_", "<"])
@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        ({"stop": ["call>"]}, False),
        ({"stop_token_ids": [5]}, False),
        ({"tool_choice": "required"}, False),
        ({"stop": []}, True),
        ({}, True),
    ],
    ids=str,
)
async def test_half_a_mark_is_text_only_where_nothing_can_have_cut_it(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    stream: bool,
    text: str,
    fields: dict[str, Any],
    keeps: bool,
) -> None:
    engine.enqueue(Script(pieces=list(text)))

    (answer,) = await ask(client, stream=stream, **fields)

    assert answer.content == (text if keeps else text.partition("<")[0].rstrip("\n"))
    assert answer.finish_reason == "stop"


async def test_required_call_that_a_stop_string_prevents_is_told_as_stopped(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.enqueue(Script(pieces=[f"<tool_call>{ROME}"[:30]]))

    (answer,) = await ask(client, stream=stream, tool_choice="required", stop=["Rom"])

    assert (answer.content, answer.calls, answer.finish_reason) == ("", [], "stop")


async def test_invalid_call_is_generated_anew_from_its_name(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    first = f"Let me see.\n<tool_call>{PARIS}\n<tool_call>{WRONG}"
    engine.enqueue(Script(pieces=pieces(first)), Script(pieces=pieces(ROME)))

    (answer,) = await ask(client, stream=stream, seed=7, temperature=0, max_tokens=500, top_p=0)

    assert answer.content == "Let me see."
    assert [each[1] for each in answer.functions] == [
        '{"city": "Paris </tool_call>"}',
        '{"city": "Rome"}',
    ]
    assert answer.finish_reason == "tool_calls"
    original, again = engine.submissions
    prefix = f"Let me see.\n<tool_call>{PARIS}\n<tool_call>"
    assert again.prompt == original.prompt + prefix
    assert original.closed.is_set() and again.closed.is_set()
    assert again.sampling.constraint is not None
    assert accepts(again.sampling.constraint, ROME)
    assert not accepts(again.sampling.constraint, "Or not.")
    arguments = dict(again.sampling.arguments)
    assert arguments == {
        **original.sampling.arguments,
        "seed": 9,
        "temperature": 0.7,
        "top_p": 0.7,
        "max_tokens": 500 - len(prefix),
    }


TEMPLATES = {
    "hermes": "<tool_call>",
    "llama3_json": '"parameters": header',
    "mistral_v11": "[TOOL_CALLS] [ARGS]",
    "mistral": "[TOOL_CALLS]",
    "generic": "plain",
}
DISTINCT = {
    "type": "function",
    "function": {
        "name": "mark",
        "parameters": {
            "type": "object",
            "properties": {
                "xs": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
            },
            "required": ["xs"],
        },
    },
}
GOOD, TWICE, NOW = ("mark", '{"xs": [1]}'), ("mark", '{"xs": [1, 1]}'), ("get_time", "{}")


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
@pytest.mark.parametrize("size", [1, 1000], ids=["tokens", "at once"])
@pytest.mark.parametrize("before", [[], [NOW]], ids=["first", "second"])
async def test_invalid_call_with_more_behind_it_is_generated_anew(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
    dialect: Dialect,
    size: int,
    before: list[tuple[str, str]],
) -> None:
    template = TEMPLATES[next(name for name, each in DIALECTS.items() if each is dialect)]
    monkeypatch.setattr(engine.tokenizer, "chat_template", template)
    text = "Hm." + dialect.lead + written(dialect, [*before, TWICE, NOW])
    start = text.index((dialect.reopening if before else dialect.opening) + "mark")
    mended = text.replace("[1, 1]", "[1]")[start:]
    engine.enqueue(Script(pieces=pieces(text, size)), Script(pieces=pieces(mended, size)))

    (answer,) = await ask(client, stream=stream, tools=[DISTINCT, CLOCK])

    assert answer.content == "Hm."
    assert answer.functions == [*before, GOOD, NOW]
    original, again = engine.submissions
    assert again.prompt == original.prompt + text[:start]
    assert again.sampling.constraint is not None
    assert accepts(again.sampling.constraint, mended)


async def test_growing_call_that_fails_before_another_one_is_told(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    text = written(HERMES, [TWICE, NOW])
    engine.enqueue(Script(pieces=[text]))
    body = {**ASK, "tools": [DISTINCT, CLOCK], "stream": True, "tool_call_delivery": "incremental"}

    last = events((await client.post(PATH, json=body)).text)[-1]

    assert last["error"]["code"] == "tool_call_invalid"


async def test_tokens_of_failed_attempts_are_counted(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.enqueue(Script(pieces=["<tool_call>", WRONG]), Script(pieces=[ROME[:9], ROME[9:]]))
    options = {"stream_options": {"include_usage": True}} if stream else {}

    reply = await client.post(PATH, json={**ASK, **options, "stream": stream})

    usage = events(reply.text)[-2]["usage"] if stream else reply.json()["usage"]
    prompt = len(engine.submissions[0].prompt)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, 4)


async def test_only_the_choice_that_failed_is_generated_anew(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    good, bad = pieces(f"<tool_call>{PARIS}"), pieces(f"<tool_call>{WRONG}")
    text = pieces("It is sunny, I think, as it was yesterday, and the day before that.")
    engine.enqueue(Script(choices=[bad, good, text, bad]), Script(pieces=[ROME]))
    engine.enqueue(Script(pieces=[WRONG]), Script(pieces=[ROME]))

    answers = await ask(client, stream=stream, n=4)

    cities = [[each[1] for each in answer.functions] for answer in answers]
    rome = ['{"city": "Rome"}']
    assert cities == [rome, ['{"city": "Paris </tool_call>"}'], [], rome]
    assert answers[2].content == "".join(text)
    assert [answer.finish_reason for answer in answers] == [
        "tool_calls",
        "tool_calls",
        "stop",
        "tool_calls",
    ]
    assert [each.sampling.arguments["n"] for each in engine.submissions] == [4, 1, 1, 1]


async def test_call_that_is_never_right_is_an_error(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.enqueue(Script(pieces=[f"<tool_call>{WRONG}"]), *[Script(pieces=[WRONG])] * 2)

    reply = await client.post(PATH, json={**ASK, "stream": stream})

    assert reply.status_code == (200 if stream else 500)
    error = events(reply.text)[-1]["error"] if stream else reply.json()["error"]
    assert error["code"] == "tool_call_invalid"
    assert len(engine.submissions) == 3
    assert all(submission.closed.is_set() for submission in engine.submissions)
    assert "city" not in reply.text


async def test_growing_call_that_turns_out_wrong_ends_with_an_error_event(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=pieces(f"<tool_call>{WRONG}")))
    body = {**ASK, "stream": True, "tool_call_delivery": "incremental"}

    last = events((await client.post(PATH, json=body)).text)[-1]

    assert last["error"]["code"] == "tool_call_invalid"
    assert len(engine.submissions) == 1


async def test_no_room_for_another_attempt_is_our_error(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    few = Script(refusal=InvalidRequest("max_tokens: too few.", param="max_tokens"))
    engine.enqueue(Script(pieces=[f"<tool_call>{WRONG}"]), few)

    reply = await client.post(PATH, json={**ASK, "max_tokens": 11})

    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "tool_call_invalid"
    assert engine.asked.sampling.arguments["max_tokens"] == 1


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (InvalidRequest("Too complex.", code="schema_too_complex"), 400),
        (Overloaded("Full."), 503),
    ],
)
async def test_what_the_engine_refuses_has_its_status(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool, refusal: Exception, status: int
) -> None:
    engine.enqueue(Script(refusal=refusal))

    reply = await client.post(PATH, json={**ASK, "stream": stream})

    assert reply.status_code == status
    assert reply.json()["error"]["code"] == refusal.code  # type: ignore[attr-defined]


async def test_refused_retry_of_a_stream_is_an_error_event(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(
        Script(pieces=["a", f"\n<tool_call>{WRONG}"]), Script(refusal=Overloaded("Full."))
    )

    *chunks, last = events((await client.post(PATH, json={**ASK, "stream": True})).text)

    assert chunks[-1]["choices"][0]["delta"] == {"content": "a"}
    assert last["error"]["code"] == "overloaded"


async def test_failing_generation_is_told(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script(pieces=["a", "<tool_call>"], failure=GenerationFailed("It broke.")))

    reply = await client.post(PATH, json={**ASK, "stream": True})

    assert events(reply.text)[-1]["error"]["message"] == "It broke."


async def test_outcomes_are_counted(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    async def counts() -> dict[str, float]:
        text = (await client.get("/metrics")).text
        name = 'slipstream_structured_outputs_total{kind="tool_call",outcome="'
        lines = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
        return {line.split('"')[0]: float(line.split()[-1]) for line in lines}

    before = await counts()
    engine.enqueue(
        Script(pieces=[TWO]),
        Script(pieces=[f"<tool_call>{WRONG}"]),
        Script(pieces=[f"{ROME}\n<tool_call>{ROME}"]),
        Script(pieces=[TWO[:-20]], finish_reason="length"),
    )
    for _ in range(3):
        await client.post(PATH, json=ASK)
    engine.enqueue(Script(pieces=[f"<tool_call>{WRONG}"]), *[Script(pieces=[WRONG])] * 2)
    await client.post(PATH, json=ASK)

    after = await counts()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown == {"verified": 4, "regenerated": 1, "truncated": 1, "invalid": 1}


FUNCTIONS: dict[str, Any] = {
    "messages": ASK["messages"],
    "functions": [WEATHER["function"], CLOCK["function"]],
}


async def test_older_spelling_is_answered_in_kind(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.enqueue(Script(pieces=pieces(f"<tool_call>{ROME}")))

    reply = await client.post(PATH, json={**FUNCTIONS, "stream": stream})

    call = {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    if stream:
        *chunks, last, _ = events(reply.text)
        assert chunks[-1]["choices"][0]["delta"] == {"function_call": call}
        assert last["choices"][0]["finish_reason"] == "function_call"
    else:
        (choice,) = reply.json()["choices"]
        assert choice["message"]["function_call"] == call
        assert choice["message"]["content"] is None
        assert choice["finish_reason"] == "function_call"
    assert "tool_calls" not in reply.text


async def test_older_spelling_grows_too(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script(pieces=pieces(f"<tool_call>{ROME}", 5)))
    body = {**FUNCTIONS, "stream": True, "tool_call_delivery": "incremental"}

    *chunks, _ = events((await client.post(PATH, json=body)).text)

    deltas = [chunk["choices"][0]["delta"].get("function_call") for chunk in chunks]
    calls = [delta for delta in deltas if delta]
    assert calls[0] == {"name": "get_weather", "arguments": ""}
    assert "".join(call["arguments"] for call in calls) == '{"city": "Rome"}'


@pytest.mark.parametrize(
    ("function_call", "required"), [("auto", False), ({"name": "get_weather"}, True)]
)
async def test_older_choice(
    client: httpx.AsyncClient, engine: FakeEngine, function_call: object, required: bool
) -> None:
    await client.post(PATH, json={**FUNCTIONS, "function_call": function_call})

    constraint = engine.submissions[0].sampling.constraint
    assert constraint is not None
    assert accepts(constraint, "Sunny.") is not required


async def test_reply_is_taken_back_as_a_message(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=[f"<tool_call>{ROME}"]))
    message = (await client.post(PATH, json=ASK)).json()["choices"][0]["message"]
    (call,) = message["tool_calls"]
    answer = {"role": "tool", "tool_call_id": call["id"], "content": "Sunny"}

    reply = await client.post(PATH, json={**ASK, "messages": [*ASK["messages"], message, answer]})

    assert reply.status_code == 200
    assert engine.asked.prompt.endswith("assistant: \ntool: Sunny")


async def test_older_reply_is_taken_back_as_a_message(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.enqueue(Script(pieces=[f"<tool_call>{ROME}"]))
    message = (await client.post(PATH, json=FUNCTIONS)).json()["choices"][0]["message"]
    answer = {"role": "function", "name": "get_weather", "content": "Sunny"}
    body = {**FUNCTIONS, "messages": [*ASK["messages"], message, answer]}

    assert (await client.post(PATH, json=body)).status_code == 200
    assert engine.asked.prompt.endswith("assistant: \ntool: Sunny")


@pytest.mark.parametrize(
    "template",
    ["<tool_call></think>", "<tool_call></think> enable_thinking"],
    ids=["perhaps", "first"],
)
@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_thinking_comes_apart(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
    template: str,
    choice: str,
) -> None:
    monkeypatch.setattr(engine.tokenizer, "chat_template", template)
    engine.enqueue(Script(pieces=pieces(f"<think>\nHm.\n</think>\n\n<tool_call>{ROME}")))

    (answer,) = await ask(client, stream=stream, tool_choice=choice)

    assert (answer.reasoning, answer.content) == ("\nHm.\n", "")
    assert answer.functions == [("get_weather", '{"city": "Rome"}')]
    assert answer.finish_reason == "tool_calls"


async def test_thinking_that_the_prompt_opened(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    monkeypatch.setattr(engine.tokenizer, "chat_template", "<tool_call></think>")
    engine.enqueue(Script(pieces=pieces(f"Hm.</think>Well.\n<tool_call>{ROME}")))
    messages = [{"role": "user", "content": "Weather? <think>\n"}]

    (answer,) = await ask(client, stream=stream, messages=messages)

    assert (answer.reasoning, answer.content) == ("Hm.", "Well.")
    assert engine.asked.sampling.constraint is not None
    first = engine.asked.sampling.constraint.segments[0]
    assert first == Text(until="</think>", then=1, may_end=False)


async def test_logprobs_of_every_token_are_given(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    tokens = pieces(f"Hm.\n<tool_call>{ROME}")
    engine.enqueue(Script(pieces=tokens))

    reply = await client.post(PATH, json={**ASK, "logprobs": True, "stream": stream})

    whole = events(reply.text)[:-1] if stream else [reply.json()]
    logprobs = [chunk["choices"][0]["logprobs"] for chunk in whole]
    given = [each["token"] for entry in logprobs if entry for each in entry["content"]]
    assert given == tokens


NAMED_OTHER = named("get_tide")
LISTED_OTHER = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED_OTHER]}}


async def test_loose_type_names_and_late_checks_are_told(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def admitted(schema: Any, param: str) -> AdmittedSchema:
        return msgspec.structs.replace(
            admit({**schema, "type": "object"}, param),
            aliases=("dict=object", "float=number"),
            checked=("/properties/ä\n", *[f"/properties/{i}/pattern" for i in range(99)]),
        )

    monkeypatch.setattr(offer, "admit", admitted)

    reply = await client.post(PATH, json=ASK)

    assert reply.headers["x-schema-aliases"] == "dict=object, float=number"
    late = reply.headers["x-schema-checked-after"]
    assert late.startswith("tools[0].function.parameters/properties/%C3%A4%0A, tools[0].")
    assert late.endswith("...")
    assert len(late) == 1024


async def test_without_loose_names_and_late_checks_there_are_no_headers(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.post(PATH, json=ASK)

    assert not any(name.startswith("x-schema") for name in reply.headers)


BAD_SCHEMA = {"type": "function", "function": {"name": "f", "parameters": {"type": "stsring"}}}
FORMAT = {"type": "json_object"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a\n"}}]}, "tools[0].function.name"),
        ({"tools": [CLOCK, BAD_SCHEMA]}, "tools[1].function.parameters"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": NAMED_OTHER}, "tool_choice"),
        ({"tool_choice": LISTED_OTHER}, "tool_choice"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": NAMED_OTHER}, "tool_choice"),
        ({"functions": [CLOCK["function"]]}, "functions"),
        ({"function_call": {"name": "get_time"}}, "function_call"),
        ({**FUNCTIONS, "tools": None, "function_call": {"name": "f"}}, "function_call"),
        ({**FUNCTIONS, "tools": None, "tool_choice": "auto"}, "tool_choice"),
        ({"response_format": FORMAT}, "response_format"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"tool_call_delivery": "sometimes"}, "tool_call_delivery"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_is_refused_by_name(
    client: httpx.AsyncClient, engine: FakeEngine, change: dict[str, Any], param: str
) -> None:
    reply = await client.post(PATH, json={**ASK, **change})

    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    assert not engine.submissions


@pytest.mark.parametrize(
    "neutral",
    [
        {"tools": None},
        {"tools": []},
        {"tools": None, "tool_choice": "none"},
        {"tools": None, "tool_choice": "auto", "parallel_tool_calls": True},
        {"function_call": "none"},
        {"functions": []},
        {"response_format": {"type": "text"}},
        {"tool_choice": "none", "response_format": FORMAT},
    ],
    ids=str,
)
async def test_saying_that_a_feature_is_not_used_is_fine(
    client: httpx.AsyncClient, engine: FakeEngine, neutral: dict[str, Any]
) -> None:
    engine.enqueue(Script(pieces=["{}"]))

    assert (await client.post(PATH, json={**ASK, **neutral})).status_code == 200
