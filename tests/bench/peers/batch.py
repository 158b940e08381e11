"""Our `/batch`, one request of 256 prompts after the other."""

import time

import httpx
import msgspec

from tests.bench.peers.workloads import BATCH_PROMPTS, KEY, Load, Workload, WrongReply, prompt


def run_batches(url: str, workload: Workload, block: str, seconds: float) -> Load:
    """At least one, and no new one after the time. Raises WrongReply."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    replies, began = 0, time.perf_counter()
    with httpx.Client(base_url=url, headers=headers, timeout=300) as client:
        while not replies or time.perf_counter() - began < seconds:
            body = batch_body(f"{block}-{replies}", workload.tokens)
            check(client.post("/batch", content=body), workload.tokens)
            replies += 1
    return Load(
        replies=replies,
        tokens=replies * BATCH_PROMPTS * workload.tokens,
        seconds=time.perf_counter() - began,
    )


def batch_body(block: str, tokens: int) -> bytes:
    prompts = [prompt(block, number) for number in range(BATCH_PROMPTS)]
    asked = {"prompts": prompts, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return msgspec.json.encode(asked)


def check(reply: httpx.Response, tokens: int) -> None:
    if reply.status_code != 200:
        raise WrongReply(reply.text[:500])
    answer = reply.json()
    counted = len(answer["results"]), answer["usage"]["completion_tokens"]
    if counted != (BATCH_PROMPTS, BATCH_PROMPTS * tokens):
        raise WrongReply(f"{counted[0]} results with {counted[1]} tokens")
