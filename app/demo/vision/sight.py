"""A fresh model and a gallery in, a model whose tower tells colours and shapes out.

Asked in words from the start, the tower would learn too slowly: a whole answer says little about
a picture. So two heads, which are thrown away afterwards, first ask it directly: one what each
picture shows, one which squares of each patch the shape covers.
"""

import time
from collections.abc import Iterator
from random import Random
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Idefics3ForConditionalGeneration

from app.demo.vision.drawing import COLOURS, SHAPES
from app.demo.vision.gallery import MASK_DETAIL, Gallery, View
from app.demo.vision.schedule import set_rate

BATCH_SIZE: Final = 32
PEAK_LEARNING_RATE: Final = 1e-3
MASK_WEIGHT: Final = 3.0


class Examiner:
    """The tower, the connector and the two heads that ask them."""

    def __init__(self, model: Idefics3ForConditionalGeneration) -> None:
        self.tower = model.model.vision_model
        self.connector = model.model.connector
        self.naming = nn.Linear(model.config.text_config.hidden_size, len(COLOURS) + len(SHAPES))
        self.masking = nn.Linear(model.config.vision_config.hidden_size, MASK_DETAIL**2)
        parts = nn.ModuleList([self.tower, self.connector, self.naming, self.masking])
        self.parameters = [*parts.parameters()]

    def ask(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of colours and of shapes, a row a token, and of the squares of each patch.

        Each token must name the whole picture: wherever the text then looks, it is told.
        """
        patches = self.tower(pixels).last_hidden_state
        names = self.naming(self.connector(patches))
        colours, shapes = names.split([len(COLOURS), len(SHAPES)], dim=-1)
        return colours, shapes, self.masking(patches)


def teach_sight(model: Idefics3ForConditionalGeneration, gallery: Gallery, epochs: int) -> None:
    """Look at the whole gallery `epochs` times, with progress on stdout."""
    examiner = Examiner(model)
    optimizer = torch.optim.AdamW(
        examiner.parameters,
        lr=PEAK_LEARNING_RATE,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    random, started = Random(len(gallery)), time.monotonic()
    steps = epochs * (len(gallery) // BATCH_SIZE)
    right = 0.0
    for step, view in enumerate(_views(gallery, epochs, random)):
        set_rate(optimizer, PEAK_LEARNING_RATE, progress=step / steps)
        right += _step(examiner, optimizer, view)
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - started
            print(f"look {step + 1}/{steps}  {right:.1f} % right  {seconds:.0f} s", flush=True)
            right = 0.0


def _views(gallery: Gallery, epochs: int, random: Random) -> Iterator[View]:
    places = list(range(len(gallery)))
    for _ in range(epochs):
        random.shuffle(places)
        for start in range(0, len(places) - BATCH_SIZE + 1, BATCH_SIZE):
            yield gallery.view(places[start : start + BATCH_SIZE], random)


def _step(examiner: Examiner, optimizer: torch.optim.Optimizer, view: View) -> float:
    """One update; gives back the share of pictures whose colour and shape were right."""
    colours, shapes, masks = examiner.ask(view.pixels)
    naming = _loss(colours, view.colours) + _loss(shapes, view.shapes)
    masking = functional.binary_cross_entropy_with_logits(masks, view.masks)
    (naming + MASK_WEIGHT * masking).backward()
    nn.utils.clip_grad_norm_(examiner.parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    found = (_named(colours) == view.colours) & (_named(shapes) == view.shapes)
    return float(found.float().mean())


def _loss(logits: Tensor, expected: Tensor) -> Tensor:
    tokens = logits.shape[1]
    return functional.cross_entropy(logits.flatten(0, 1), expected.repeat_interleave(tokens))


def _named(logits: Tensor) -> Tensor:
    """What the tokens of each picture say together."""
    return logits.mean(dim=1).argmax(dim=1)
