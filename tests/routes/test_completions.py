import httpx
import pytest

from tests.fake_engine import FakeEngine, Script
from tests.sse_client import events

PATH = "/v1/completions"


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([97, 98], ["ab"]),
        ([[97], [98, 99]], ["a", "bc"]),
    ],
    ids=["text", "texts", "ids", "lists of ids"],
)
async def test_prompts_are_continued_as_they_stand(
    client: httpx.AsyncClient, engine: FakeEngine, prompt: object, read: list[str]
) -> None:
    body = (await client.post(PATH, json={"prompt": prompt})).json()

    assert body["object"] == "text_completion"
    assert [submission.prompt for submission in engine.submissions] == read
    assert [choice["index"] for choice in body["choices"]] == list(range(len(read)))
    assert body["usage"]["prompt_tokens"] == sum(map(len, read))


async def test_choices_are_counted_through_prompts(client: httpx.AsyncClient) -> None:
    body = (await client.post(PATH, json={"prompt": ["a", "b"], "n": 2})).json()

    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]


async def test_logprobs_are_parallel_lists(client: httpx.AsyncClient) -> None:
    body = (await client.post(PATH, json={"prompt": "a", "logprobs": 1})).json()

    assert body["choices"][0]["logprobs"] == {
        "tokens": ["Hello", ", ", "world", "!"],
        "token_logprobs": [-0.5] * 4,
        "top_logprobs": [{"Hello": -0.5}, {", ": -0.5}, {"world": -0.5}, {"!": -0.5}],
        "text_offset": [0, 5, 7, 12],
    }


async def test_stream_of_several_prompts(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.enqueue(Script(pieces=["a", "b"]), Script(pieces=["c", "d"]))
    body = {"prompt": ["x", "y"], "stream": True, "stream_options": {"include_usage": True}}

    *chunks, usage, done = events((await client.post(PATH, json=body)).text)

    texts = {0: "", 1: ""}
    for chunk in chunks:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == {0: "ab", 1: "cd"}
    assert (usage["usage"]["total_tokens"], usage["choices"], done) == (6, [], "[DONE]")


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [256]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a"] * 1025}, "prompt"),
        ({"prompt": [97] * 2048}, "prompt"),
    ],
    ids=["echo", "suffix", "best_of", "mixed", "large id", "negative", "empty", "many", "long"],
)
async def test_what_cannot_be_served_is_refused_by_name(
    client: httpx.AsyncClient, engine: FakeEngine, extra: dict[str, object], param: str
) -> None:
    reply = await client.post(PATH, json={"prompt": "a", **extra})

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert not engine.submissions


@pytest.mark.parametrize(
    "neutral", [{"echo": False}, {"suffix": None}, {"suffix": ""}, {"best_of": 1}]
)
async def test_neutral_values_are_fine(
    client: httpx.AsyncClient, neutral: dict[str, object]
) -> None:
    assert (await client.post(PATH, json={"prompt": "a", **neutral})).status_code == 200
