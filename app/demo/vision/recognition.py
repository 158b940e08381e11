"""Examples and a model in, those that it answers wrongly out.

Used at the end of training and by the tests. Knows nothing of how the model was trained.
"""

from collections.abc import Iterable
from random import Random

import torch
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

from app.demo.vision.drawing import any_size, any_subject, draw
from app.demo.vision.examples import UNLEARNED, Example, Reader
from app.demo.vision.lessons import asked
from app.demo.vision.phrases import read_languages


def unseen(processor: Idefics3Processor, number: int, *, pictures: int, seed: int) -> list[Example]:
    """What is in the picture? `number` times, about as many new `pictures` each time."""
    reader, random, english = Reader(processor), Random(seed), read_languages()["en"]
    question = english.questions["thing"][0]
    examples = []
    for _ in range(number):
        subjects = [any_subject(random) for _ in range(pictures)]
        drawn = [draw(random, *subject, any_size(random)) for subject in subjects]
        examples.append(reader.read(asked(english, "thing", question, subjects), drawn))
    return examples


def mistaken(examples: Iterable[Example], model: Idefics3ForConditionalGeneration) -> list[Example]:
    """The examples whose greedy answers differ from the written ones in any token.

    Greedy decoding writes an answer if each of its tokens is the likeliest after those before
    it, so one pass over the written text tells as much as writing it anew.
    """
    return [example for example in examples if not _is_right(example, model)]


def _is_right(example: Example, model: Idefics3ForConditionalGeneration) -> bool:
    pictures = example.pictures[None] if len(example.pictures) else None
    with torch.inference_mode():
        read = model(input_ids=example.ids[None], pixel_values=pictures)
    targets = example.labels[1:]
    written = targets != UNLEARNED
    return bool((read.logits[0, :-1].argmax(dim=-1) == targets)[written].all())
