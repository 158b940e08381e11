"""Requests that are answered, to be spoilt field by field; and what their refusal looks like."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from schemas.base import RequestStruct
from schemas.batch import BatchRequest
from schemas.chat import ChatRequest, PromptRequest
from schemas.chat_completions import ChatCompletionRequest
from schemas.completions import CompletionRequest
from schemas.generate import FunctionRequest, GenerateRequest
from schemas.tokens import DetokenizeRequest
from tests.scorecard.target import Target

JSON = {"content-type": "application/json"}
MESSAGES = [{"role": "user", "content": "a"}]
TOOLS = [{"name": "f", "parameters": {"type": "object"}}]
BODIES: dict[str, tuple[type[RequestStruct], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatCompletionRequest, {"messages": MESSAGES}),
    "/v1/completions": (CompletionRequest, {"prompt": "a"}),
    "/chat": (ChatRequest, {"messages": MESSAGES}),
    "/generate": (GenerateRequest, {"prompt": "a"}),
    "/generate_with_function": (FunctionRequest, {"messages": MESSAGES, "tools": TOOLS}),
    "/batch": (BatchRequest, {"prompts": ["a"]}),
    "/": (PromptRequest, {"prompt": "a"}),
    "/detokenize": (DetokenizeRequest, {"tokens": [1]}),
}
PATHS = pytest.mark.parametrize("path", BODIES)


WORK = ("slipstream_time_to_first_token_seconds_count", "vllm:prompt_tokens_total")
"""What counts requests that reached the engine, in ours and in vLLM's server."""


@contextmanager
def idle_engine(target: Target) -> Iterator[httpx.Client]:
    """A client whose requests all end before the engine has been asked anything."""
    before = sum(map(target.metric, WORK))
    with target.client() as client:
        yield client
    assert sum(map(target.metric, WORK)) == before, "the engine has been asked"


def asked(target: Target, path: str) -> tuple[type[RequestStruct], dict[str, Any]]:
    """A route's struct and a body that it answers."""
    if not (target.is_ours or path.startswith("/v1")):
        pytest.skip("a route of ours alone")
    struct, body = BODIES[path]
    return struct, {**body, "model": target.model}


def assert_refused(reply: httpx.Response, name: str = "") -> None:
    """In its path's dialect, and with the name of the field that is wrong."""
    if reply.request.url.path.startswith("/v1/"):
        assert reply.status_code == 400, reply.text
        assert (reply.json()["error"]["param"] or "").startswith(name), reply.text
    else:
        assert reply.status_code == 422, reply.text
        assert name in reply.json()["detail"], reply.text


def assert_refused_somehow(target: Target, reply: httpx.Response, name: str) -> None:
    """What the rows ask of all servers but in C1; ours names the field as well."""
    if target.is_ours:
        assert_refused(reply, name)
    assert reply.status_code in {400, 422}, reply.text
