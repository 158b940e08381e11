"""vLLM's `AsyncLLM.generate()` driven in a loop, without HTTP.

`python -m tests.bench.standin.direct PORT MODEL`: says `ready`, then reads an Errand a line from
its standard input and answers each with a Tally.
"""

import asyncio
import gc
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from app.engine.leash import tie
from tests.bench.standin.asks import Asks
from tests.bench.standin.launches import ENGINE
from tests.bench.standin.tally import Tally


class Errand(msgspec.Struct):
    """`asks`: a file with Asks in msgpack. In no seconds at all, every connection asks once."""

    asks: str
    connections: int
    seconds: float


class Driver:
    """So many requests at once for so long; the next begins when one ends."""

    def __init__(self, llm: Any, asks: Asks) -> None:
        self._llm = llm
        self._asks = asks
        self._turns = itertools.cycle(asks.asks)
        self._numbers = itertools.count()
        self._tally = Tally(0)

    async def run(self, connections: int, seconds: float) -> Tally:
        started = time.perf_counter()
        work = self._keep_asking if seconds else self._ask_next
        tasks = [asyncio.create_task(work()) for _ in range(connections)]
        await asyncio.wait(tasks, timeout=seconds or None, return_when=asyncio.FIRST_EXCEPTION)
        self._tally.seconds = time.perf_counter() - started
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        faults = [each for each in ends if isinstance(each, Exception)]
        self._tally.broken = len(faults)
        self._tally.complaint += repr(faults[0]) if faults else ""
        return self._tally

    async def _keep_asking(self) -> None:
        while True:
            await self._ask_next()

    async def _ask_next(self) -> None:
        ask = next(self._turns)
        prompt = {"type": "token", "prompt_token_ids": ask.prompt_token_ids}
        name = f"direct-{id(self)}-{next(self._numbers)}"
        pieces, num_tokens = [], 0
        async for output in self._llm.generate(prompt, self._parameters(), name):
            (completion,) = output.outputs
            pieces.append(completion.text)
            num_tokens += len(completion.token_ids)
        self._tally.replies += 1
        self._tally.events += len(pieces)
        if "".join(pieces) != ask.text or num_tokens != self._asks.num_tokens:
            self._tally.wrong += 1
            self._tally.complaint = f"{num_tokens} tokens: {''.join(pieces)}"

    def _parameters(self) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA if self._asks.stream else RequestOutputKind.FINAL_ONLY
        return SamplingParams(
            max_tokens=self._asks.num_tokens,
            temperature=0,
            ignore_eos=True,
            output_kind=kind,
            skip_clone=True,
        )


def make_llm(model: str, port: int) -> Any:
    """With the arguments that the servers get; see `launches.ENGINE`."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.engine.async_llm_engine import AsyncLLMEngine

    arguments = {name.replace("-", "_"): value for name, value in ENGINE.items()}
    arguments |= {"data_parallel_rpc_port": port, "enforce_eager": True}
    return AsyncLLMEngine.from_engine_args(AsyncEngineArgs(model=model, **arguments))


async def main(port: int, model: str) -> None:
    llm = make_llm(model, port)
    gc.collect()
    gc.freeze()  # as the servers do
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async for line in reader:
        errand = msgspec.json.decode(line, type=Errand)
        tally = await Driver(llm, read_asks(errand.asks)).run(errand.connections, errand.seconds)
        print(msgspec.json.encode(tally).decode(), flush=True)


def read_asks(path: str) -> Asks:
    return msgspec.msgpack.decode(Path(path).read_bytes(), type=Asks)


if __name__ == "__main__":
    tie(os.getppid())
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
