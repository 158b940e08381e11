"""Make the demo vision model anew: `python -m app.demo.vision.train`.

Drawn pictures and phrases in; tokenizer, processor, weights and generation settings out, under
`DEMO_VISION_PATH`. The run is seeded throughout: the same machine writes the same files.
"""

import time
from collections.abc import Iterator
from random import Random
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationConfig, Idefics3ForConditionalGeneration, Idefics3Processor

from app.demo import DEMO_VISION_PATH
from app.demo.vision.examples import UNLEARNED, Batch, Reader, batches
from app.demo.vision.gallery import Gallery
from app.demo.vision.lessons import Lessons
from app.demo.vision.network import build_model, build_processor
from app.demo.vision.phrases import read_languages
from app.demo.vision.recognition import mistaken, unseen
from app.demo.vision.schedule import set_rate
from app.demo.vision.sight import teach_sight

SEED: Final = 7
THREADS: Final = 1
PICTURES: Final = 36_000
LOOKS: Final = 6
"""Epochs of the gallery before the first question."""

STEPS: Final = 1400
BATCH_TOKENS: Final = 1024
SHELF: Final = 256
"""Lessons from which batches of like length are made."""

PEAK_LEARNING_RATE: Final = 2e-3
TOWER_SHARE: Final = 0.3
"""Of that rate, for the parts that can see already."""

UNSEEN: Final = 200


def supply(processor: Idefics3Processor, gallery: Gallery) -> Iterator[Batch]:
    """Endless lessons with pictures of `gallery`, in batches of like length, in random order."""
    lessons, reader, random = Lessons(SEED), Reader(processor), Random(SEED)
    while True:
        shelf = []
        for _ in range(SHELF):
            lesson = lessons.lesson()
            pixels = [gallery.any_of(subject, random) for subject in lesson.subjects]
            shelf.append(reader.read_seen(lesson, pixels))
        rows = batches(shelf, BATCH_TOKENS)
        random.shuffle(rows)
        yield from rows


def teach(model: Idefics3ForConditionalGeneration, lessons: Iterator[Batch]) -> None:
    """`STEPS` updates, with progress on stdout."""
    optimizer = _optimizer(model)
    started, losses = time.monotonic(), []
    for step, batch in zip(range(STEPS), lessons, strict=False):
        set_rate(optimizer, PEAK_LEARNING_RATE, progress=step / STEPS)
        losses.append(_step(model, optimizer, batch))
        if (step + 1) % 100 == 0:
            seconds, loss = time.monotonic() - started, sum(losses) / len(losses)
            print(f"step {step + 1}/{STEPS}  loss {loss:.4f}  {seconds:.0f} s", flush=True)
            losses.clear()


def _optimizer(model: Idefics3ForConditionalGeneration) -> torch.optim.Optimizer:
    eyes = nn.ModuleList([model.model.vision_model, model.model.connector])
    groups = [
        {"params": [*eyes.parameters()], "share": TOWER_SHARE},
        {"params": [*model.model.text_model.parameters()], "share": 1.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def _step(
    model: Idefics3ForConditionalGeneration, optimizer: torch.optim.Optimizer, batch: Batch
) -> float:
    """One update; the vocabulary is projected only where something is to be learned."""
    targets = batch.labels[:, 1:]
    learned = targets != UNLEARNED
    pictures = batch.pictures[None] if len(batch.pictures) else None
    read = model.model(input_ids=batch.ids[:, :-1], pixel_values=pictures)
    words = model.lm_head(read.last_hidden_state[learned])
    loss = functional.cross_entropy(words, targets[learned])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.item())


def save(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor) -> None:
    """Write everything an engine loads; sampling is left to the request, so none is set here."""
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.bfloat16().save_pretrained(DEMO_VISION_PATH)
    processor.save_pretrained(DEMO_VISION_PATH)
    (DEMO_VISION_PATH / "model.safetensors").chmod(0o644)


def main() -> None:
    """Train, save, and say how many unseen pictures are named rightly."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    languages = read_languages()
    processor = build_processor(text for tag in languages for text in languages[tag].texts())
    model = build_model(processor.tokenizer)
    gallery = Gallery(processor, PICTURES, SEED)
    teach_sight(model, gallery, LOOKS)
    teach(model, supply(processor, gallery))
    save(model, processor)
    saved = Idefics3ForConditionalGeneration.from_pretrained(DEMO_VISION_PATH, dtype=torch.bfloat16)
    for number in (1, 2):
        examples = unseen(processor, UNSEEN, pictures=number, seed=SEED + number)
        right = UNSEEN - len(mistaken(examples, saved))
        print(f"{right} of {UNSEEN} right, each about {number} new pictures")


if __name__ == "__main__":
    main()
