"""Any bytes as a body: a struct, or an error that is the client's."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import app.routes  # noqa: F401 - the structs of all routes are known once these are
from app.body import decode_body
from app.errors import InvalidRequest, encode_error
from app.openapi import subclasses
from schemas.base import RequestStruct
from schemas.chat_completions import ChatCompletionRequest

STRUCTS = sorted(set(subclasses(RequestStruct)), key=lambda struct: struct.__name__)

CONTENT = [
    {"type": "text", "text": "看"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODY = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "a"},
        {"role": "user", "content": CONTENT},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "x", "tool_call_id": "1"},
    ],
    "temperature": 0.5,
    "seed": -(2**63),
    "stop": ["\n", "é"],
    "logit_bias": {"7": -100},
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
}
"""Something of every kind of field."""

VALID = msgspec.json.encode(BODY)
PIECES = [
    *(b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b'\\"', b"\\"),
    *(b"[" * 2000, b'{"":' * 2000, b"1e999", b"-0", b"NaN", b"9" * 5000, b"null", b'"', b","),
]
"""What JSON decoders have stumbled over."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid body with a few of its bytes replaced by others."""
    body = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 8))
        body[start : start + length] = draw(st.sampled_from(PIECES) | st.binary(max_size=8))
    return bytes(body)


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """A valid body in which some fields have another value."""
    changes = draw(st.dictionaries(st.sampled_from(sorted(BODY)), JSON, min_size=1))
    return msgspec.json.encode({**BODY, **changes})


def test_the_body_that_is_spoilt_here_is_valid() -> None:
    assert isinstance(decode_body(VALID, ChatCompletionRequest), ChatCompletionRequest)


@given(body=st.binary() | damaged() | odd())
def test_a_body_is_decoded_or_refused(body: bytes) -> None:
    assert_decoded_or_refused(body, ChatCompletionRequest)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_struct_is_decoded_or_refused(struct: type[RequestStruct]) -> None:
    for piece in PIECES:
        for body in (piece, b'{"model":' + piece, b'{"messages":[' + piece + b"]}"):
            assert_decoded_or_refused(body, struct)


def assert_decoded_or_refused(body: bytes, struct: Any) -> None:
    try:
        decoded = decode_body(body, struct)
    except InvalidRequest as error:
        status, text = encode_error(error, "/v1/chat/completions")
        assert status == 400
        assert len(text) < 4096
    else:
        assert isinstance(decoded, struct)
