"""A source of randomness in, pictures of one coloured shape out.

Training and tests draw here, with different seeds. Knows nothing of models and languages.
"""

import math
from io import BytesIO
from random import Random
from typing import Final, NamedTuple

import numpy
from PIL import Image, ImageDraw, ImageFilter

RGB = tuple[int, int, int]
Points = list[tuple[float, float]]

COLOURS: Final[dict[str, tuple[RGB, ...]]] = {
    "red": ((255, 0, 0), (205, 25, 35), (235, 40, 30)),
    "orange": ((255, 165, 0), (245, 130, 20), (255, 140, 0)),
    "yellow": ((255, 255, 0), (245, 215, 40), (250, 230, 80)),
    "green": ((0, 128, 0), (45, 165, 70), (0, 220, 30)),
    "blue": ((0, 0, 255), (30, 80, 200), (60, 110, 235)),
    "purple": ((128, 0, 128), (120, 50, 165), (150, 60, 200)),
    "pink": ((255, 192, 203), (255, 105, 180), (245, 150, 190)),
    "brown": ((150, 55, 35), (120, 75, 35), (95, 55, 25)),
    "black": ((0, 0, 0), (25, 25, 25), (10, 10, 30)),
    "white": ((255, 255, 255), (245, 245, 245), (240, 245, 250)),
    "gray": ((128, 128, 128), (150, 150, 150), (110, 115, 120)),
}
"""Each colour is what lies between its tones; the first is CSS's, except for brown, whose CSS
tone people take for a dark red."""

SHORTEST_SIDE: Final = 64
LONGEST_SIDE: Final = 400
WIDEST_RATIO: Final = 1.5

# Between a shape and its background, in RGB: less is hard to see for people too.
_LEAST_CONTRAST: Final = 130.0
_TONE_JITTER: Final = 8
# Drawn this much larger and then reduced: PIL's polygons have hard edges.
_OVERSAMPLING: Final = 3
# Radians to either side.
_MOST_TILT: Final = 0.35


class Subject(NamedTuple):
    """What is on a picture: a key of `COLOURS` and one of `SHAPES`."""

    colour: str
    shape: str


def any_subject(random: Random) -> Subject:
    return Subject(random.choice(list(COLOURS)), random.choice(list(SHAPES)))


def any_size(random: Random) -> tuple[int, int]:
    """Width and height in pixels, half of the time those of a square, small as often as large."""
    side = round(SHORTEST_SIDE * (LONGEST_SIDE / SHORTEST_SIDE) ** random.random())
    if random.random() < 0.5:
        return side, side
    other = round(side / random.uniform(1.0, WIDEST_RATIO))
    sides = [side, max(other, SHORTEST_SIDE)]
    random.shuffle(sides)
    return sides[0], sides[1]


def draw(random: Random, colour: str, shape: str, size: tuple[int, int]) -> Image.Image:
    """An RGB picture of one shape: somewhere, a little tilted, on a background that contrasts.

    `size` is width and height in pixels. The same `random` draws the same picture.
    """
    return draw_masked(random, colour, shape, size)[0]


def draw_masked(
    random: Random, colour: str, shape: str, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image]:
    """The same picture, and in gray levels where on it the shape is."""
    tone = _tone(random, COLOURS[colour])
    picture = Image.new("RGB", size, _background(random, tone))
    mask = _mask(random, SHAPES[shape], size)
    picture.paste(tone, mask=mask)
    return _spoilt(random, picture), mask


def _tone(random: Random, tones: tuple[RGB, ...]) -> RGB:
    """A colour between two of `tones`, a little off."""
    first, second = random.choice(tones), random.choice(tones)
    share = random.random()
    mixed = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    red, green, blue = (_clipped(c + random.uniform(-_TONE_JITTER, _TONE_JITTER)) for c in mixed)
    return red, green, blue


def _clipped(value: float) -> int:
    return min(255, max(0, round(value)))


def _background(random: Random, tone: RGB) -> RGB:
    """Light, dark, neutral or any colour, but far enough from `tone`."""
    while True:
        found = _any_background(random)
        if math.dist(found, tone) >= _LEAST_CONTRAST:
            return found


def _any_background(random: Random) -> RGB:
    kind = random.random()
    if kind < 0.4:
        return _tone(random, COLOURS["white"])
    if kind < 0.6:
        return _tone(random, COLOURS["black"])
    if kind < 0.85:
        level = random.randint(0, 255)
        return level, level, level
    return random.randint(0, 255), random.randint(0, 255), random.randint(0, 255)


def _mask(random: Random, outline: Points, size: tuple[int, int]) -> Image.Image:
    """Where the shape is, as gray levels."""
    width, height = (side * _OVERSAMPLING for side in size)
    radius = min(width, height) / 2 * random.uniform(0.5, 0.95)
    across = random.uniform(radius, width - radius)
    down = random.uniform(radius, height - radius)
    mask = Image.new("L", (width, height))
    tilted = _turned(outline, random.uniform(-_MOST_TILT, _MOST_TILT))
    points = [(across + x * radius, down + y * radius) for x, y in tilted]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return mask.reduce(_OVERSAMPLING)


def _spoilt(random: Random, picture: Image.Image) -> Image.Image:
    """As it comes from cameras and the web: perhaps blurred, noisy, squeezed through JPEG."""
    if random.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    if random.random() < 0.5:
        picture = _noisy(random, picture)
    if random.random() < 0.4:
        picture = _as_jpeg(picture, random.randint(40, 95))
    return picture


def _noisy(random: Random, picture: Image.Image) -> Image.Image:
    levels = numpy.asarray(picture)
    normal = numpy.random.default_rng(random.getrandbits(64)).standard_normal
    noise = normal(levels.shape, numpy.float32) * random.uniform(2, 12)
    return Image.fromarray((levels + noise).clip(0, 255).astype(numpy.uint8))


def _as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _circle() -> Points:
    return _polar([1.0] * 72)


def _square() -> Points:
    return _turned(_polar([1.0] * 4), math.pi / 4)


def _triangle() -> Points:
    return _polar([1.0] * 3)


def _star() -> Points:
    return _polar([1.0, 0.42] * 5)


def _cross() -> Points:
    corners = [(0.95, -0.28), (0.95, 0.28), (0.28, 0.28), (0.28, 0.95), (-0.28, 0.95)]
    corners.append((-0.28, 0.28))
    return [*corners, *((-x, -y) for x, y in corners)]


def _heart() -> Points:
    """The well-known curve of sines, which spans 17 from its centre to its tip."""
    steps = [math.tau * i / 60 for i in range(60)]
    return [(16 / 17 * math.sin(t) ** 3, _heart_height(t) / 17) for t in steps]


def _heart_height(t: float) -> float:
    return -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))


def _polar(radii: list[float]) -> Points:
    """Corners at equal angles, clockwise from the top, at these distances from the centre."""
    angles = [math.tau * i / len(radii) - math.pi / 2 for i in range(len(radii))]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _turned(outline: Points, angle: float) -> Points:
    sine, cosine = math.sin(angle), math.cos(angle)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in outline]


SHAPES: Final[dict[str, Points]] = {
    "circle": _circle(),
    "square": _square(),
    "triangle": _triangle(),
    "star": _star(),
    "cross": _cross(),
    "heart": _heart(),
}
"""Outlines in the unit circle, upright."""
