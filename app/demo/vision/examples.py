"""Lessons in, token ids with the pictures of their places out, singly and in batches.

Goes through the processor and the chat template that an engine uses too. Knows nothing of
training.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Idefics3Processor

from app.demo.tokenizer import TURN_END, TURN_START
from app.demo.vision.lessons import Lesson

UNLEARNED: Final = -100
"""Label of a token that is only read."""


class Example(NamedTuple):
    """Token ids, what of them is to be written, and pictures as (number, 3, side, side)."""

    ids: Tensor
    labels: Tensor
    pictures: Tensor


class Batch(NamedTuple):
    """Right-padded rows, and the pictures of all of them in order."""

    ids: Tensor
    labels: Tensor
    pictures: Tensor


class Reader:
    """Reads lessons as the processor does, and marks what the model is to write."""

    def __init__(self, processor: Idefics3Processor) -> None:
        self._processor = processor
        encode = processor.tokenizer.encode
        self._answer_start = encode(f"{TURN_START}assistant\n")
        self._answer_end = encode(TURN_END)[0]
        # The processor's own text for a picture that is not split into rows and columns.
        self._picture = processor.replace_image_token({"rows": [[0]], "cols": [[0]]}, 0)

    def read(self, lesson: Lesson, pictures: Sequence[Image]) -> Example:
        """The lesson with these pictures, through the whole processor."""
        text = self._processor.apply_chat_template(lesson.messages, tokenize=False)
        read = self._processor(text=text, images=[*pictures] or None, return_tensors="pt")
        pixels = read["pixel_values"][0] if pictures else torch.empty(0)
        return self._marked(read["input_ids"][0], pixels)

    def read_seen(self, lesson: Lesson, pixels: Sequence[Tensor]) -> Example:
        """The lesson with pictures that the processor has seen before, as (3, side, side)."""
        text = self._processor.apply_chat_template(lesson.messages, tokenize=False)
        ids = self._processor.tokenizer.encode(
            text.replace(self._processor.image_token, self._picture)
        )
        return self._marked(torch.tensor(ids), torch.stack([*pixels]) if pixels else torch.empty(0))

    def _marked(self, ids: Tensor, pixels: Tensor) -> Example:
        return Example(ids, self._labels(ids.tolist()), pixels)

    def _labels(self, ids: list[int]) -> Tensor:
        """The answers and the ends of their turns; nothing else is to be learned."""
        labels = [UNLEARNED] * len(ids)
        width = len(self._answer_start)
        for start in range(width, len(ids)):
            if ids[start - width : start] == self._answer_start:
                end = ids.index(self._answer_end, start) + 1
                labels[start:end] = ids[start:end]
        return torch.tensor(labels)


def batches(examples: Iterable[Example], most_tokens: int) -> list[Batch]:
    """Rows of like length together, at most `most_tokens` to a batch, the shortest first."""
    rows: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if not rows or (len(rows[-1]) + 1) * len(example.ids) > most_tokens:
            rows.append([])
        rows[-1].append(example)
    return [_padded(row) for row in rows]


def _padded(examples: Sequence[Example]) -> Batch:
    ids = pad_sequence([e.ids for e in examples], batch_first=True)
    labels = pad_sequence([e.labels for e in examples], batch_first=True, padding_value=UNLEARNED)
    shown = [e.pictures for e in examples if len(e.pictures)]
    return Batch(ids, labels, torch.cat(shown) if shown else torch.empty(0))
