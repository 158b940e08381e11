"""The way of the seeds: transformers' `generate`, one request at a time, whoever waits meanwhile.

Started by the bench; asked as `dialogue` says. Without HTTP, which would cost it a little.
"""

import asyncio
import time
from typing import Any

from tests.bench.peers.dialogue import Question, answer, questions, take_stdout
from tests.bench.peers.settings import bench_settings
from tests.bench.peers.workloads import WORKLOADS, Load, prompt


class Transformers:
    """A model and its tokenizer, as a script of the seeds' loads them."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")

    def reply(self, content: str, tokens: int) -> str:
        """Exactly so many tokens, the likeliest ones."""
        turns = [{"role": "user", "content": content}]
        text = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        asked = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")
        made = self._model.generate(
            asked.input_ids,
            attention_mask=asked.attention_mask,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
        )
        new = made[0][asked.input_ids.shape[1] :]
        if len(new) != tokens:
            raise RuntimeError(f"generate() made {len(new)} tokens instead of {tokens}.")
        return str(self._tokenizer.decode(new, skip_special_tokens=True))

    def loop(self, asked: Question) -> Load:
        """However many clients there are, they wait for one another."""
        tokens = WORKLOADS[asked.workload].tokens
        replies, began = 0, time.perf_counter()
        while not replies or time.perf_counter() - began < asked.seconds:
            self.reply(prompt(asked.block, replies), tokens)
            replies += 1
        return Load(replies, replies * tokens, time.perf_counter() - began)


async def main() -> None:
    answers = take_stdout()
    way = Transformers(bench_settings().model_path)
    answer(answers, {})
    async for asked in questions():
        answer(answers, way.loop(asked))


if __name__ == "__main__":
    asyncio.run(main())
