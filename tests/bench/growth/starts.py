"""How long our server and `vllm serve` take from the start of the process to the first reply."""

import http.client
import time
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from tests.bench.growth.connection import CHAT, num_tokens
from tests.bench.growth.engines import engine_arguments, start_server
from tests.bench.growth.rows import OURS, VLLM, StartRow
from tests.bench.peers.peers import Server
from tests.bench.peers.workloads import KEY, chat_body
from tests.bench.standin.tally import WrongAnswers

ATTEMPTS = 3
POLL_SECONDS = 0.05
WAIT_SECONDS = 300


def measure_starts(folder: Path) -> list[StartRow]:
    """In turns, there and back. Raises RuntimeError and TimeoutError."""
    arguments, rows = engine_arguments(), []
    for attempt in range(1, ATTEMPTS + 1):
        for name in (OURS, VLLM) if attempt % 2 else (VLLM, OURS):
            began = time.perf_counter()
            server = start_server(name, arguments, folder / f"{name}-{attempt}")
            try:
                until_reply(server)
                rows.append(StartRow(name, attempt, time.perf_counter() - began))
            finally:
                server.close()
            print(rows[-1], flush=True)
    return rows


def until_reply(server: Server) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not replies(server):
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} has ended: {server.said()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{server.name} is not ready after {WAIT_SECONDS} s")
        time.sleep(POLL_SECONDS)


def replies(server: Server) -> bool:
    """Whether it answers a chat. Raises WrongAnswers."""
    body = msgspec.json.encode(chat_body("Hello", 1, stream=False))
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    with closing(connection), suppress(ConnectionError):
        connection.request("POST", CHAT, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        if reply.status == 200 and num_tokens(content) != 1:
            raise WrongAnswers(f"{server.name}: {content[:500]!r}")
        return reply.status == 200
    return False
