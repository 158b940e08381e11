"""The engine driven from Python without HTTP: what a server in front of it is measured against.

Started by the bench with the engine arguments that our server gives; asked as `dialogue` says.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import uvloop

from tests.bench.peers.dialogue import Question, answer, questions, take_stdout
from tests.bench.peers.settings import bench_settings
from tests.bench.peers.workloads import BATCH_PROMPTS, WORKLOADS, Load, Workload, prompt

RESOLVED = {
    "scheduler_config": ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill"),
    "cache_config": ("enable_prefix_caching",),
    "model_config": ("max_model_len",),
}
"""Engine arguments that vLLM chooses itself, some by who starts it."""


class Direct:
    """An engine, and clients that are tasks of the same loop."""

    def __init__(self, llm: Any) -> None:
        from vllm.sampling_params import RequestOutputKind

        self._llm = llm
        self._tokenizer = llm.get_tokenizer()
        self._kinds = {True: RequestOutputKind.DELTA, False: RequestOutputKind.FINAL_ONLY}
        self._asked = 0

    async def reply(self, content: str, tokens: int, *, stream: bool) -> tuple[str, int, int]:
        """One chat: its text, its tokens, and how many outputs with text came."""
        from vllm import SamplingParams

        sampling = SamplingParams(
            max_tokens=tokens, temperature=0, ignore_eos=True, output_kind=self._kinds[stream]
        )
        self._asked += 1
        text, count, events = "", 0, 0
        async for output in self._llm.generate(self._input(content), sampling, str(self._asked)):
            text += output.outputs[0].text
            count += len(output.outputs[0].token_ids)
            events += bool(output.outputs[0].text)
        if count != tokens:
            raise RuntimeError(f"The engine made {count} tokens instead of {tokens}.")
        return text, count, events

    def _input(self, content: str) -> dict[str, Any]:
        """Rendered as a server would; as token ids, which vLLM takes without a thread of its."""
        turns = [{"role": "user", "content": content}]
        text = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return {"type": "token", "prompt_token_ids": ids}

    async def loop(self, workload: Workload, block: str, seconds: float) -> Load:
        """Clients that ask again and again; what the end cuts off does not count, as with wrk."""
        done: list[tuple[str, int, int]] = []

        async def client(number: int) -> None:
            while True:
                content = prompt(block, number)
                done.append(await self.reply(content, workload.tokens, stream=workload.stream))
                number += workload.connections

        began = time.perf_counter()
        clients = [asyncio.create_task(client(number)) for number in range(workload.connections)]
        ended, _ = await asyncio.wait(clients, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        took = time.perf_counter() - began
        for task in clients:
            task.cancel()
        await asyncio.wait(clients)
        for task in ended:
            task.result()
        return Load(len(done), sum(x[1] for x in done), took, sum(x[2] for x in done))

    async def batches(self, workload: Workload, block: str, seconds: float) -> Load:
        """All prompts at once, again until the time is over."""
        replies, began = 0, time.perf_counter()
        while not replies or time.perf_counter() - began < seconds:
            contents = [prompt(f"{block}-{replies}", number) for number in range(BATCH_PROMPTS)]
            asked = (self.reply(each, workload.tokens, stream=False) for each in contents)
            await asyncio.gather(*asked)
            replies += 1
        tokens = replies * BATCH_PROMPTS * workload.tokens
        return Load(replies, tokens, time.perf_counter() - began)

    async def answer(self, asked: Question) -> Any:
        if asked.prompts:
            return [(await self.reply(p, asked.tokens, stream=False))[0] for p in asked.prompts]
        workload = WORKLOADS[asked.workload]
        run: Callable[..., Any] = self.batches if workload.way == "batch" else self.loop
        return await run(workload, asked.block, asked.seconds)


def chosen_arguments(llm: Any) -> dict[str, Any]:
    """What another engine has to be started with to be like this one."""
    from app.engine.arguments import on_cpu, ours

    settings = bench_settings()
    resolved = {
        name: getattr(getattr(llm.vllm_config, config), name)
        for config, names in RESOLVED.items()
        for name in names
    }
    given = ours(settings) | on_cpu() | {"model": settings.model_path} | resolved
    return {name: value for name, value in given.items() if value is not None}


async def main() -> None:
    answers = take_stdout()
    from vllm.engine.async_llm_engine import AsyncLLMEngine

    from app.engine.arguments import engine_arguments

    settings = bench_settings()
    arguments = engine_arguments(settings, {"model": settings.model_path})
    llm = AsyncLLMEngine.from_engine_args(arguments)
    try:
        direct = Direct(llm)
        await direct.reply("Hello", 1, stream=False)
        answer(answers, chosen_arguments(llm))
        async for asked in questions():
            answer(answers, await direct.answer(asked))
    finally:
        llm.shutdown()


if __name__ == "__main__":
    uvloop.run(main())
