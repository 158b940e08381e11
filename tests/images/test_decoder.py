import random
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from resource import getpagesize

import pytest
from PIL import ExifTags, Image, ImageChops

from app.errors import InvalidRequest
from app.images.decoder import decode_picture
from app.images.refusals import UNDECODABLE
from tests.images.pictures import (
    chunk,
    encoded,
    gif_bomb,
    jpeg_of_scans,
    plain,
    png,
    png_bomb,
    png_of_profiles,
    webp_bomb,
)

MAX_PIXELS = 36_000_000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def decode(picture: bytes, detail: str = "high", max_pixels: int = MAX_PIXELS) -> Image.Image:
    return decode_picture(picture, detail, max_pixels)  # type: ignore[arg-type]


def colours(picture: Image.Image) -> list[tuple[int, int, int]]:
    return list(picture.get_flattened_data())  # type: ignore[arg-type]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_a_picture_comes_out_as_it_went_in(kind: str) -> None:
    picture = Image.new("RGB", (4, 3), "red")
    picture.putpixel((3, 2), BLUE)

    found = decode(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))

    assert (found.mode, found.size) == ("RGB", (4, 3))
    assert colours(found) == [RED] * 11 + [BLUE]


def test_a_jpeg_comes_out_close_to_what_went_in() -> None:
    found = decode(plain(64, 48, "red", "JPEG"))

    assert (found.mode, found.size) == ("RGB", (64, 48))
    assert found.getpixel((30, 20)) == (254, 0, 0)


@pytest.mark.parametrize("picture", [plain(1, 1), plain(200, 1), plain(1, 200, kind="GIF")])
def test_the_smallest_picture_and_the_longest_strip_are_read(picture: bytes) -> None:
    assert min(decode(picture).size) == 1


@pytest.mark.parametrize("size", [(201, 1), (1, 3000), (3000, 14)])
def test_a_longer_strip_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="at most 200 times as long as wide"):
        decode(plain(*size))


@pytest.mark.parametrize(
    ("size", "detail", "expected"),
    [
        ((3000, 1500), "low", (512, 256)),
        ((3000, 1500), "auto", (2048, 1024)),
        ((3000, 1500), "high", (2048, 1024)),
        ((1500, 3000), "low", (256, 512)),
        ((512, 512), "low", (512, 512)),
        ((2048, 17), "high", (2048, 17)),
        ((300, 200), "low", (300, 200)),
        ((1024, 6), "low", (512, 3)),
        ((3000, 15), "low", (512, 3)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_detail_bounds_the_longest_edge_and_never_enlarges(
    size: tuple[int, int], detail: str, expected: tuple[int, int], kind: str
) -> None:
    assert decode(plain(*size, kind=kind), detail).size == expected


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    row = bytes([0, 255] * 1024)
    stripes = Image.frombytes("L", (2048, 1), row).resize((2048, 2048), Image.Resampling.NEAREST)

    low, high = decode(encoded(stripes), "low").convert("L").getextrema()

    assert isinstance(low, int) and isinstance(high, int)
    assert 100 < low <= high < 155


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_as_its_exif_says(orientation: int, kind: str) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 32, 16))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation

    found = decode(encoded(stored, kind, exif=exif))

    assert found.size == (64, 32)
    assert not found.info and not dict(found.getexif())
    difference = ImageChops.difference(found, upright).convert("L").point(lambda x: 255 * (x > 64))
    assert sum(colour > 0 for colour in colours(difference)) < 64 * 32 // 20  # type: ignore[operator]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\0\x09", b"Exif\0\0MM\0*\0\0\0\x08"])
def test_broken_exif_does_not_spoil_a_picture(exif: bytes) -> None:
    assert decode(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif)).size == (8, 8)


def test_odd_metadata_writes_nothing_to_the_log(tmp_path: Path) -> None:
    too_few_bytes = b"Exif\0\0MM\0*\0\0\0\x08\0\x09"
    file = tmp_path / "odd.jpg"
    file.write_bytes(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=too_few_bytes))
    code = (
        "import sys, pathlib; from app.images.decoder import decode_picture;"
        "print(decode_picture(pathlib.Path(sys.argv[1]).read_bytes(), 'low', 64).size)"
    )

    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("(8, 8)\n", "")


def test_transparent_pixels_are_white_and_half_transparent_ones_half() -> None:
    picture = Image.new("RGBA", (3, 1), "red")
    picture.putpixel((1, 0), (0, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 128))

    for kind in ("PNG", "WEBP"):
        found = decode(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert colours(found) == [RED, WHITE, (127, 127, 127)]


def test_grey_with_alpha_is_put_on_white() -> None:
    picture = Image.new("LA", (2, 1), (10, 255))
    picture.putpixel((1, 0), (10, 0))

    assert colours(decode(encoded(picture))) == [(10, 10, 10), WHITE]


def test_a_colour_that_trns_declares_transparent_is_white() -> None:
    red_and_green = bytes([0, *RED, *GREEN])
    hidden = chunk(b"tRNS", struct.pack(">3H", *RED))

    assert colours(decode(png(2, 1, 8, 2, red_and_green, hidden))) == [WHITE, GREEN]
    assert colours(decode(png(2, 1, 8, 2, red_and_green))) == [RED, GREEN]


def test_a_palette_with_alpha_is_put_on_white() -> None:
    palette = chunk(b"PLTE", bytes([*RED, *GREEN]))
    alphas = chunk(b"tRNS", bytes([0, 255]))

    assert colours(decode(png(2, 1, 8, 3, bytes([0, 0, 1]), palette, alphas))) == [WHITE, GREEN]


def test_twins_that_differ_in_their_palette_alone_are_different_pictures() -> None:
    rows = bytes([0, 0, 1])

    first = decode(png(2, 1, 8, 3, rows, chunk(b"PLTE", bytes([*RED, *GREEN]))))
    second = decode(png(2, 1, 8, 3, rows, chunk(b"PLTE", bytes([*GREEN, *RED]))))

    assert colours(first) == [RED, GREEN]
    assert colours(second) == [GREEN, RED]


def test_twins_that_differ_in_their_shape_alone_keep_their_shapes() -> None:
    shade = Image.linear_gradient("L").resize((100, 30))
    twin = Image.frombytes("L", (30, 100), shade.tobytes())

    assert decode(encoded(shade)).size == (100, 30)
    assert decode(encoded(twin)).size == (30, 100)


def test_sixteen_bits_a_channel_become_eight_without_clipping() -> None:
    grey = png(4, 1, 16, 0, b"\0" + struct.pack(">4H", 0, 256, 32768, 65535))
    colour = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 65535, 32768, 256))
    hidden = chunk(b"tRNS", struct.pack(">H", 0x8000))

    assert [pixel[0] for pixel in colours(decode(grey))] == [0, 1, 128, 255]
    assert colours(decode(colour)) == [(255, 128, 1)]
    assert colours(decode(png(2, 1, 16, 0, b"\0\x80\0\0\0", hidden))) == [(128,) * 3, (0,) * 3]


def test_one_bit_a_pixel_is_black_and_white() -> None:
    assert colours(decode(png(2, 1, 1, 0, b"\0\x40"))) == [(0, 0, 0), WHITE]


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    red, green, blue = decode(
        encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    ).getpixel((8, 8))  # type: ignore[misc]

    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}

    found = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))

    assert found.size == (8, 8)
    assert set(colours(found)) == {RED}


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"x",
        b"notanimage",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b"push graphic-context\nviewbox 0 0 640 480\n",
        b"P6 1 1 255\n\0\0\0",
        encoded(Image.new("RGB", (8, 8)), "BMP"),
        encoded(Image.new("RGB", (8, 8)), "TIFF"),
        encoded(Image.new("RGB", (8, 8)), "ICO"),
        encoded(Image.new("RGB", (8, 8)), "TGA"),
    ],
    ids=lambda garbage: ascii(garbage[:12]),
)
def test_what_is_no_picture_of_the_four_formats_is_refused_in_one_sentence(garbage: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(garbage)

    assert (refused.value.message, refused.value.code) == (UNDECODABLE, "invalid_image")
    assert "0x" not in refused.value.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(kind: str, share: float) -> None:
    noise = Image.effect_noise((100, 100), 64).convert("RGB")
    picture = encoded(noise, kind)

    with pytest.raises(InvalidRequest) as refused:
        decode(picture[: int(len(picture) * share)])

    assert refused.value.code == "invalid_image"


def test_the_limit_of_pixels_is_inclusive_and_named() -> None:
    assert decode(plain(64, 32), max_pixels=2048).size == (64, 32)
    with pytest.raises(InvalidRequest, match="at most 2047 pixels") as refused:
        decode(plain(64, 32), max_pixels=2047)

    assert refused.value.code == "image_too_large"


@pytest.mark.parametrize(
    "bomb",
    [
        png_bomb(13_000),
        png_bomb(20_000),
        png_bomb(9_000),
        webp_bomb(16_383),
        gif_bomb(65_535),
    ],
    ids=["png 13000", "png 20000", "png 9000", "webp", "gif"],
)
def test_a_bomb_is_refused_by_its_header_without_being_decoded(bomb: bytes) -> None:
    decode(plain(8, 8, kind="WEBP"))  # the decoders are imported now
    assert len(bomb) < 400_000
    before = resident_bytes()

    for _ in range(10):
        with pytest.raises(InvalidRequest) as refused:
            decode(bomb)
        assert refused.value.code == "image_too_large"

    assert resident_bytes() - before < 32 * 2**20


@pytest.mark.parametrize(
    "picture", [png_of_profiles(2000), jpeg_of_scans(2000, 600)], ids=["profiles", "scans"]
)
def test_a_picture_that_takes_longer_than_it_may_is_given_up(picture: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_picture(picture, "high", MAX_PIXELS, cpu_seconds=0.2)

    assert refused.value.code == "invalid_image"
    assert isinstance(refused.value.__cause__, TimeoutError)


def test_a_picture_at_the_limit_is_decoded_in_bounded_memory() -> None:
    picture = encoded(Image.new("RGBA", (6000, 6000), (255, 0, 0, 128)), compress_level=1)

    with peak_memory() as peak:
        found = decode(picture)

    assert (found.size, found.getpixel((0, 0))) == ((2048, 2048), (255, 127, 127))
    assert peak.bytes < 420 * 2**20


class Peak:
    bytes = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """How much more memory this process has had in between, looked at all the time."""
    start, peak, done = resident_bytes(), Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak.bytes = max(peak.bytes, resident_bytes() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


@pytest.mark.filterwarnings("ignore")  # as the server does
def test_of_a_mutated_picture_nothing_comes_but_a_picture_or_a_refusal() -> None:
    chance = random.Random(20)
    noise = Image.effect_noise((24, 24), 64).convert("RGB")
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 24), "red")]}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    seeds = [
        encoded(noise, "PNG", exif=exif, **frames),
        encoded(noise.quantize(8), "PNG", transparency=1),
        encoded(noise, "JPEG", exif=exif, progressive=True),
        encoded(noise, "MPO", **frames),
        encoded(noise, "WEBP", exif=exif, **frames),
        encoded(noise, "GIF", comment=b"hello", **frames),
    ]
    outcomes = {"picture": 0, "refusal": 0}
    for _ in range(3000):
        try:
            found = decode(mutated(chance, chance.choice(seeds)))
            assert found.mode == "RGB" and max(found.size) <= 2048
            outcomes["picture"] += 1
        except InvalidRequest as refused:
            assert "0x" not in refused.message
            outcomes["refusal"] += 1

    assert min(outcomes.values()) > 100


def mutated(chance: random.Random, picture: bytes) -> bytes:
    """One to eight bytes changed, and sometimes a piece cut out, doubled or cut off."""
    changed = bytearray(picture)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.choice((0, 1, 127, 128, 255))
    start, end = sorted(chance.randrange(len(changed)) for _ in range(2))
    match chance.randrange(8):
        case 0:
            del changed[start:end]
        case 1:
            changed[start:start] = changed[start:end]
        case 2:
            del changed[end:]
    return BytesIO(changed).getvalue()
