"""A processor and a number in, that many drawn pictures out, as the model sees them.

Drawing costs as much as learning, so training draws once and looks often, from another side
each time: seen unchanged, the pictures themselves would be learned by heart. Knows nothing of
what is asked about the pictures.
"""

import math
from random import Random
from typing import Final, NamedTuple

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import Idefics3Processor

from app.demo.vision.drawing import COLOURS, SHAPES, Subject, any_size, any_subject, draw_masked
from app.demo.vision.network import PATCHES, PICTURE_SIDE

MASK_DETAIL: Final = 4
"""Squares a side into which a patch is divided to say where on it the shape is."""

# Radians to either side.
_MOST_TURN: Final = 0.15
_MASK_SIDE: Final = PATCHES * MASK_DETAIL


class View(NamedTuple):
    """Some pictures: what the tower reads, and what is to be found on them.

    `pixels` is (number, 3, side, side) from -1 to 1, `masks` the share of each square that the
    shape covers, `colours` and `shapes` are places in `COLOURS` and `SHAPES`.
    """

    pixels: Tensor
    masks: Tensor
    colours: Tensor
    shapes: Tensor


class Gallery:
    """Pictures that are drawn once; a byte a channel, since they are many."""

    def __init__(self, processor: Idefics3Processor, number: int, seed: int) -> None:
        random = Random(seed)
        self._subjects = [any_subject(random) for _ in range(number)]
        self._pixels = torch.empty(number, 3, PICTURE_SIDE, PICTURE_SIDE, dtype=torch.uint8)
        self._masks = torch.empty(number, _MASK_SIDE, _MASK_SIDE, dtype=torch.uint8)
        self._places: dict[Subject, list[int]] = {}
        for i, subject in enumerate(self._subjects):
            picture, mask = draw_masked(random, *subject, any_size(random))
            self._pixels[i] = _bytes_seen(processor, picture)
            self._masks[i] = torch.from_numpy(_reduced(mask))
            self._places.setdefault(subject, []).append(i)

    def __len__(self) -> int:
        return len(self._subjects)

    def any_of(self, subject: Subject, random: Random) -> Tensor:
        """One picture of `subject` as (3, side, side)."""
        place = random.choice(self._places[subject])
        return _moved(self._seen(self._pixels[[place]]), [_motion(random)])[0]

    def view(self, places: list[int], random: Random) -> View:
        """The pictures at these places, each looked at a little differently every time."""
        motions = [_motion(random) for _ in places]
        pixels = _moved(self._seen(self._pixels[places]), motions)
        masks = _moved(self._masks[places].unsqueeze(1) / 255, motions).squeeze(1)
        subjects = [self._subjects[place] for place in places]
        colours = torch.tensor([list(COLOURS).index(s.colour) for s in subjects])
        shapes = torch.tensor([list(SHAPES).index(s.shape) for s in subjects])
        return View(pixels, _by_patch(masks), colours, shapes)

    @staticmethod
    def _seen(pixels: Tensor) -> Tensor:
        """What the processor makes of bytes."""
        return pixels / 127.5 - 1


def _bytes_seen(processor: Idefics3Processor, picture: Image.Image) -> Tensor:
    seen = processor.image_processor(picture, return_tensors="pt")["pixel_values"][0, 0]
    return ((seen + 1) * 127.5).round().to(torch.uint8)


def _reduced(mask: Image.Image) -> numpy.ndarray:
    return numpy.array(mask.resize((_MASK_SIDE, _MASK_SIDE), Image.Resampling.BOX))


def _motion(random: Random) -> list[list[float]]:
    """A mirror, a turn, a stretch and a step, none of which renames a shape; as 2 rows of 3."""
    angle = random.uniform(-_MOST_TURN, _MOST_TURN)
    across, down = (random.uniform(0.95, 1.25) for _ in range(2))
    right, below = ((scale - 1) * random.uniform(-1, 1) for scale in (across, down))
    mirror = random.choice([-1, 1])
    sine, cosine = math.sin(angle), math.cos(angle)
    return [
        [mirror * across * cosine, -across * sine, right],
        [mirror * down * sine, down * cosine, below],
    ]


def _moved(pictures: Tensor, motions: list[list[list[float]]]) -> Tensor:
    """Pictures as (number, channels, side, side); what comes into view is like their edge."""
    grid = functional.affine_grid(torch.tensor(motions), pictures.shape, align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _by_patch(masks: Tensor) -> Tensor:
    """(number, side, side) to (number, patches, squares of a patch)."""
    tiles = masks.unflatten(2, (PATCHES, MASK_DETAIL)).unflatten(1, (PATCHES, MASK_DETAIL))
    return tiles.transpose(2, 3).flatten(3).flatten(1, 2)
