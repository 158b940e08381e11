import httpx
import pytest

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"prompt":"\xff"}',
        b'{"prompt":"\\ud800"}',
        b'{"temperature":NaN}',
        b'{"temperature":1e999}',
        b'{"seed":' + b"9" * 5000 + b"}",
        b'\xef\xbb\xbf{"prompt":"a"}',
    ],
    ids=["empty", "array", "deep", "not utf-8", "surrogate", "nan", "inf", "long int", "bom"],
)
async def test_malformed_body_is_the_clients_fault(client: httpx.AsyncClient, body: bytes) -> None:
    reply = await client.post("/v1/completions", content=body, headers=JSON)

    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"prompt":"a","prompt":"b"}', "prompt"),
        (b'{"prompt":"a","stream_options":{"include_usage":true,"include_usage":false}}',
         "include_usage"),
        (b'{"prompt":"a","pr\\u006fmpt":"b"}', "prompt"),
    ],
    ids=["plain", "nested", "escaped"],
)  # fmt: skip
async def test_name_that_comes_twice_is_refused(
    client: httpx.AsyncClient, body: bytes, param: str
) -> None:
    reply = await client.post("/v1/completions", content=body, headers=JSON)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"0,"], ids=["lists", "objects", "numbers"])
async def test_body_of_countless_values_is_refused_at_once(
    client: httpx.AsyncClient, unit: bytes
) -> None:
    body = b'{"prompt":[' + unit * (15 * 2**20 // len(unit)) + b"0]}"

    reply = await client.post("/v1/completions", content=body, headers=JSON)

    assert reply.status_code == 400
    assert "takes at most" in reply.json()["error"]["message"]


async def test_long_name_of_a_client_is_told_shortened(client: httpx.AsyncClient) -> None:
    body = b'{"prompt":"a","' + b"x" * 10_000 + b'":1}'

    error = (await client.post("/v1/completions", content=body, headers=JSON)).json()["error"]

    assert len(error["message"]) < 300
    assert len(error["param"]) < 200


async def test_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    headers = {**JSON, "content-encoding": "gzip"}

    reply = await client.post("/v1/completions", content=b'{"prompt":"a"}', headers=headers)

    assert reply.status_code == 415
    assert "gzip" in reply.json()["error"]["message"]
