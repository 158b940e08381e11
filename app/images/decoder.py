"""One encoded picture in, an upright RGB picture of bounded size without metadata out.

Runs in threads and knows nothing of where the bytes come from. They are hostile: four formats
are tried and no others, the size is checked before pixels are decoded, and CPU time is limited.
"""

import time
import warnings
from io import BytesIO
from typing import Literal

from PIL import ExifTags, Image

from app.errors import InvalidRequest
from app.images.refusals import too_large, undecodable

Detail = Literal["auto", "low", "high"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
LONGEST_EDGE = {"low": 512, "auto": 2048, "high": 2048}
"""In pixels, as in OpenAI's guide to vision. Models shrink further as they need."""

MAX_EDGE_RATIO = 200
"""Qwen-VL's processor refuses longer strips, with an error that is not the client's."""

REDUCING_GAP = 2
"""How much larger than wanted cheap reduction may leave a picture, before Lanczos."""

CPU_SECONDS = 5.0
"""A legitimate picture of 36 million pixels takes 0.1 to 0.6 s on one core of 2025."""

READ_BYTES = 4096
"""What a decoder is given at a time; between two readings the CPU time is looked at."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an orientation of EXIF."""

# Pillow's limit is one for the process and in part only a warning; `check_shape` is ours.
Image.MAX_IMAGE_PIXELS = None
# Odd metadata is no reason to refuse a picture, and its 65,536 entries none to fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")


class MeteredBytes(BytesIO):
    """Bytes that can be read only as long as the reading thread has CPU time left.

    Pillow reads headers, chunks and scans piece by piece, so this ends what would go on for
    minutes: JPEGs of empty scans, PNGs of thousands of compressed profiles.
    """

    def __init__(self, encoded: bytes, cpu_seconds: float) -> None:
        super().__init__(encoded)
        self._end = time.thread_time() + cpu_seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._end:
            raise TimeoutError("the picture takes too long to decode")
        return super().read(size)


def decode_picture(
    encoded: bytes, detail: Detail, max_pixels: int, cpu_seconds: float = CPU_SECONDS
) -> Image.Image:
    """The first frame, upright, on white, RGB, its longest edge at most as `detail` says.

    Raises InvalidRequest.
    """
    try:
        with Image.open(MeteredBytes(encoded, cpu_seconds), formats=FORMATS) as picture:
            check_shape(*picture.size, max_pixels)
            picture.decodermaxblock = READ_BYTES
            return normalise(picture, LONGEST_EDGE[detail])
    except InvalidRequest:
        raise
    except Exception as error:  # what a parser raises over hostile bytes has no common class
        raise undecodable(type(error).__name__) from error


def check_shape(width: int, height: int, max_pixels: int) -> None:
    """Raises InvalidRequest for too many pixels and for strips."""
    if width * height > max_pixels:
        raise too_large(max_pixels, "pixels")
    if max(width, height) > MAX_EDGE_RATIO * min(width, height):
        message = f"image_url: a picture may be at most {MAX_EDGE_RATIO} times as long as wide."
        raise InvalidRequest(message, code="invalid_image")


def normalise(picture: Image.Image, longest_edge: int) -> Image.Image:
    """A new picture of nothing but pixels."""
    size = fitting(*picture.size, longest_edge)
    # JPEG alone can be decoded smaller; for other formats this does nothing.
    picture.draft(None, (size[0] * REDUCING_GAP, size[1] * REDUCING_GAP))
    flat = flatten(picture)
    small = flat.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    upright = small if turn is None else small.transpose(turn)
    upright.info = {}
    return upright


def fitting(width: int, height: int, longest_edge: int) -> tuple[int, int]:
    """The size with the same ratio that fits, at least 1 by 1 and never larger than before."""
    scale = min(1.0, longest_edge / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def flatten(picture: Image.Image) -> Image.Image:
    """As RGB, on white where it is transparent by alpha, palette or one colour (tRNS)."""
    picture.load()
    if picture.mode == "I;16":
        # Pillow would clip at 255; its tRNS, a 16-bit value, is dropped.
        picture = picture.point(lambda value: value / 256).convert("L")
        picture.info = {}
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    canvas = Image.new("RGB", layer.size, "white")
    canvas.paste(layer, mask=layer)
    return canvas
