"""Pictures for tests, the hostile ones made by hand."""

import base64
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image

from app.images.loader import ImageLoader
from schemas.messages import ImageURL


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(width: int = 4, height: int = 3, colour: str = "red", kind: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", (width, height), colour), kind)


def data_url(picture: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def image(picture: bytes, **fields: Any) -> ImageURL:
    return ImageURL(url=data_url(picture), **fields)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *before_data: bytes
) -> bytes:
    """A PNG of raw rows, each with its filter byte in front; `before_data` are whole chunks."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", head), *before_data, chunk(b"IDAT", zlib.compress(rows, 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def png_bomb(edge: int) -> bytes:
    """A black square of one byte a pixel: kilobytes that decode to `edge` squared bytes."""
    row_of_zeros = bytes(edge + 1)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row_of_zeros) for _ in range(edge)) + packer.flush()
    head = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def webp_bomb(edge: int) -> bytes:
    """A small picture on an announced canvas of `edge` squared pixels."""
    small = encoded(Image.new("RGB", (16, 16), "red"), "WEBP", lossless=True)
    canvas = bytes([2, 0, 0, 0]) + 2 * (edge - 1).to_bytes(3, "little")
    frame = bytes(6) + 2 * (15).to_bytes(3, "little") + bytes(4) + small[12:]
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(content)) + content
        for name, content in ((b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", frame))
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_bomb(edge: int) -> bytes:
    """Some fifty bytes that announce a frame of `edge` squared pixels."""
    screen = struct.pack("<HHBBB", edge, edge, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, edge, edge, 0)
    return b"GIF89a" + screen + frame + b"\x08\x01\0\0;"


def png_of_profiles(count: int) -> bytes:
    """Each colour profile unpacks to 1 MiB, which Pillow throws away."""
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**20), 9))
    return png(1, 1, 8, 2, bytes(4), *[profile] * count)


def jpeg_of_scans(edge: int, count: int) -> bytes:
    """A progressive JPEG whose last scan, a few bytes for the whole picture, is repeated."""
    jpeg = encoded(Image.new("RGB", (edge, edge), "red"), "JPEG", progressive=True)
    last_scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last_scan * count + jpeg[-2:]


async def load(
    loader: ImageLoader, images: Sequence[ImageURL], *, param: str = "messages"
) -> list[Image.Image]:
    """The pictures, kept longer than a server would."""
    async with loader.loaded(images, param=param) as found:
        return found
