import asyncio
import random
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from PIL.Image import Image

from app.errors import InvalidRequest
from app.images.decoder import decode_picture
from app.images.loader import ImageLoader
from app.images.refusals import BAD_URL, UNDECODABLE
from app.images.urls import WebURL, parse_url
from app.settings import Settings
from schemas.messages import ImageURL
from tests.images.pictures import data_url, image, load, plain, png_bomb
from tests.images.test_urls import BAD


@pytest_asyncio.fixture(loop_scope="session")
async def loader() -> AsyncIterator[ImageLoader]:
    loader = ImageLoader(Settings(max_image_bytes=200_000, max_image_pixels=1_000_000))
    yield loader
    await loader.close()


async def refusal(loader: ImageLoader, *images: ImageURL) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        await load(loader, images, param="messages[3]")
    assert refused.value.param == "messages[3]"
    assert "0x" not in refused.value.message
    return refused.value


async def test_pictures_come_back_in_their_order(loader: ImageLoader) -> None:
    sizes = [(1000, 900), (1, 1), (30, 20), (500, 500), (2, 3), (64, 64)]

    found = await load(loader, [image(plain(*size)) for size in sizes])

    assert [picture.size for picture in found] == sizes


async def test_no_pictures_are_no_pictures(loader: ImageLoader) -> None:
    assert await load(loader, []) == []


async def test_detail_is_of_each_picture(loader: ImageLoader) -> None:
    wide = plain(1000, 500)

    found = await load(loader, [image(wide, detail="low"), image(wide), image(wide, detail="high")])

    assert [picture.size for picture in found] == [(512, 256), (1000, 500), (1000, 500)]


async def test_the_same_picture_is_read_again_after_a_refused_request(loader: ImageLoader) -> None:
    picture = image(plain(30, 100))
    await refusal(loader, picture, ImageURL(url="data:image/png;base64,bm90YW5pbWFnZQ=="))

    assert [each.size for each in await load(loader, [picture])] == [(30, 100)]


@pytest.mark.parametrize("url", BAD, ids=ascii)
async def test_every_bad_url_is_the_same_error(loader: ImageLoader, url: str) -> None:
    error = await refusal(loader, ImageURL(url=url))

    assert (error.status, error.message, error.code) == (400, BAD_URL, "invalid_image_url")


async def test_bytes_that_are_no_picture_are_one_fixed_sentence(loader: ImageLoader) -> None:
    error = await refusal(loader, ImageURL(url="data:image/png;base64,bm90YW5pbWFnZQ=="))

    assert (error.status, error.message, error.code) == (400, UNDECODABLE, "invalid_image")


async def test_the_declared_type_need_not_be_the_true_one(loader: ImageLoader) -> None:
    url = data_url(plain(8, 8, kind="GIF"), "image/jpeg")

    assert (await load(loader, [ImageURL(url=url)]))[0].size == (8, 8)


async def test_ten_thousand_pictures_are_refused_before_one_is_looked_at(
    loader: ImageLoader,
) -> None:
    error = await refusal(loader, *[ImageURL(url="file:///etc/passwd")] * 10_000)

    assert (error.status, error.code) == (400, "too_many_images")
    assert "at most 8 pictures" in error.message


async def test_too_many_bytes_are_refused_before_base64_is_decoded(loader: ImageLoader) -> None:
    not_base64 = "data:image/png;base64," + "!" * 300_000

    error = await refusal(loader, ImageURL(url=not_base64))

    assert (error.code, "at most 200000 bytes" in error.message) == ("image_too_large", True)


async def test_too_many_pixels_are_refused_with_the_limit(loader: ImageLoader) -> None:
    error = await refusal(loader, image(plain(1001, 1000)))

    assert (error.code, "at most 1000000 pixels" in error.message) == ("image_too_large", True)


async def test_ten_bombs_in_a_request_are_one_refusal() -> None:
    loader = ImageLoader(Settings(max_images=10))
    bomb = image(png_bomb(9_000))

    error = await refusal(loader, *[bomb] * 10)
    await loader.close()

    assert error.code == "image_too_large"


async def test_at_most_two_pictures_are_decoded_at_once_and_none_by_the_loop(
    loader: ImageLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, lock = threading.Barrier(2, timeout=10), threading.Lock()
    threads: set[str] = set()
    running, most = 0, 0

    def watched(*arguments: Any) -> Image:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
            threads.add(threading.current_thread().name)
        both.wait()
        try:
            return decode_picture(*arguments)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr("app.images.loader.decode_picture", watched)
    await asyncio.gather(*(load(loader, [image(plain())] * 4) for _ in range(2)))

    assert most == 2
    assert all(name.startswith("pictures") for name in threads)


async def test_of_a_mutated_data_url_nothing_comes_but_pictures_or_a_refusal(
    loader: ImageLoader,
) -> None:
    chance = random.Random(11)
    seeds = [data_url(plain(), "image/png"), data_url(plain(8, 8, kind="JPEG"), "image/jpeg")]
    codes: set[str | None] = set()
    for _ in range(500):
        url = mutated(chance, chance.choice(seeds))
        try:
            [found] = await load(loader, [ImageURL(url=url)])
            assert found.mode == "RGB"
            codes.add("picture")
        except InvalidRequest as refused:
            codes.add(refused.code)

    assert codes >= {"picture", "invalid_image_url", "invalid_image"}


def test_a_url_that_is_taken_is_read_as_other_parsers_read_it() -> None:
    chance = random.Random(12)
    seeds = [
        "http://pictures.example:8080/a/cat.png?x=1#y",
        "https://[2606:2800::1]:443/?@b",
        "http://127.0.0.1/",
    ]
    taken = 0
    for _ in range(20_000):
        url = mutated(chance, chance.choice(seeds))
        try:
            found = parse_url(url)
        except InvalidRequest:
            continue
        assert isinstance(found, WebURL)
        other = urlsplit(url)
        assert (found.scheme, found.host) == (other.scheme, other.hostname)
        assert found.port == (other.port or {"http": 80, "https": 443}[found.scheme])
        taken += 1

    assert taken > 1000


def mutated(chance: random.Random, url: str) -> str:
    """One to four characters changed, put in or left out."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(url))
        new = chance.choice(
            [
                "",
                "A",
                "1",
                ":",
                "/",
                "\\",
                "@",
                "#",
                "?",
                "[",
                "]",
                "%",
                ".",
                "=",
                "\t",
                "\n",
                " ",
                "\x00",
                "é",
                "①",
                "。",
                "\u212a",
                "\ud800",
            ]
        )
        url = url[:at] + new + url[at + chance.randint(0, 1) :]
    return url
