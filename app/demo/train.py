"""Make the demo model anew: `python -m app.demo.train`.

Corpus in; tokenizer, weights and generation settings out, under `DEMO_MODEL_PATH`. The run is
seeded throughout: the same machine writes the same files.
"""

import math
import time
from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.demo import DEMO_MODEL_PATH
from app.demo.corpus import Corpus, read_corpus
from app.demo.recall import Lesson, all_lessons, chat_lesson, forgotten, raw_lesson
from app.demo.tokenizer import train_tokenizer
from app.demo.variations import Variations, read_phrases

SEED: Final = 7
THREADS: Final = 2
CONTEXT_LENGTH: Final = 8192
EPOCHS: Final = 40
BATCH_TOKENS: Final = 768
PEAK_LEARNING_RATE: Final = 2.5e-3
WARMUP: Final = 0.03
SHARPNESS: Final = 1.5

# What the loss passes over.
_UNLEARNED: Final = -100


class Example(NamedTuple):
    """Token ids, and how many of them at the start are only read."""

    ids: list[int]
    prompt_length: int


class Batch(NamedTuple):
    """Right-padded rows; `labels` marks what is not to be learned."""

    ids: Tensor
    labels: Tensor


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh Llama of less than 3 M parameters; vLLM's CPU attention wants heads of 32."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=5,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def examples_of(corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Example]]:
    """`EPOCHS` epochs of the varied corpus as token ids."""
    variations = Variations(corpus, read_phrases(), SEED)
    passages = [raw_lesson(passage) for passage in corpus.passages]
    for _ in range(EPOCHS):
        chats = [chat_lesson(conversation, tokenizer) for conversation in variations.epoch()]
        yield [_encoded(lesson, tokenizer) for lesson in chats + passages]


def _encoded(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> Example:
    prompt, answer = (tokenizer.encode(text) for text in lesson)
    return Example(prompt + answer, len(prompt))


def teach(model: LlamaForCausalLM, epochs: Iterator[list[Example]]) -> None:
    """One pass over `epochs`, with progress on stdout."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    random, started = Random(SEED), time.monotonic()
    for number, examples in enumerate(epochs):
        rows = batches(examples, random)
        losses = []
        for step, batch in enumerate(rows):
            _set_rate(optimizer, progress=(number + step / len(rows)) / EPOCHS)
            losses.append(_step(model, optimizer, batch))
        seconds = time.monotonic() - started
        loss = sum(losses) / len(losses)
        print(f"epoch {number + 1}/{EPOCHS}  loss {loss:.4f}  {seconds:.0f} s", flush=True)


def _set_rate(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Warm up, then fall to nothing along a cosine; `progress` runs from 0 to 1."""
    warmth = min(1.0, progress / WARMUP)
    for group in optimizer.param_groups:
        group["lr"] = PEAK_LEARNING_RATE * warmth * (1 + math.cos(math.pi * progress)) / 2


def batches(examples: list[Example], random: Random) -> list[Batch]:
    """Rows of like length together, about `BATCH_TOKENS` to a batch, in random order."""
    rows: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if not rows or (len(rows[-1]) + 1) * len(example.ids) > BATCH_TOKENS:
            rows.append([])
        rows[-1].append(example)
    random.shuffle(rows)
    return [_padded(row) for row in rows]


def _padded(examples: list[Example]) -> Batch:
    width = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full_like(ids, _UNLEARNED)
    for row, example in enumerate(examples):
        values = torch.tensor(example.ids)
        ids[row, : len(values)] = values
        labels[row, example.prompt_length : len(values)] = values[example.prompt_length :]
    return Batch(ids, labels)


def _step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One update; the vocabulary is projected only where something is to be learned."""
    targets = batch.labels[:, 1:]
    learned = targets != _UNLEARNED
    hidden = model.model(input_ids=batch.ids[:, :-1]).last_hidden_state[learned]
    loss = functional.cross_entropy(model.lm_head(hidden), targets[learned])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.item())


def sharpen(model: LlamaForCausalLM) -> None:
    """Scale the logits: clients sample at up to 1.2 and must still get readable text."""
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPNESS)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write everything an engine loads; sampling is left to the request, so none is set here."""
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.bfloat16().save_pretrained(DEMO_MODEL_PATH)
    tokenizer.save_pretrained(DEMO_MODEL_PATH)
    (DEMO_MODEL_PATH / "model.safetensors").chmod(0o644)


def main() -> None:
    """Train, save, and say how much of the corpus is known by heart."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    corpus = read_corpus()
    tokenizer = train_tokenizer(corpus.texts(), CONTEXT_LENGTH)
    model = build_model(tokenizer)
    teach(model, examples_of(corpus, tokenizer))
    sharpen(model)
    save(model, tokenizer)
    lessons = all_lessons(corpus, tokenizer)
    saved = LlamaForCausalLM.from_pretrained(DEMO_MODEL_PATH, dtype=torch.bfloat16)
    missed = forgotten(lessons, saved, tokenizer)
    print(f"{len(lessons) - len(missed)} of {len(lessons)} answers reproduced exactly")


if __name__ == "__main__":
    main()
