from pathlib import Path

import httpx
import pytest

SUITE = Path(__file__).parents[2] / "shared/data/json_test_suite/test_parsing"
JSON = {"content-type": "application/json"}
FILES = sorted(SUITE.glob("*.json"))


@pytest.mark.skipif(not FILES, reason="the JSON parsing test suite is not beside this repository")
@pytest.mark.parametrize("prefix", ["y_", "n_", "i_"])
async def test_no_json_text_breaks_the_server(client: httpx.AsyncClient, prefix: str) -> None:
    files = [path for path in FILES if path.name.startswith(prefix)]
    assert files

    for path in files:
        reply = await client.post("/v1/completions", content=path.read_bytes(), headers=JSON)

        assert reply.status_code == 400, path.name
        message = reply.json()["error"]["message"]
        assert len(reply.content) < 4096
        if prefix == "y_":
            assert "not valid JSON" not in message, path.name


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
