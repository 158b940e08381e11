"""The pictures of one request: `image_url` structs in, decoded pictures in their order out.

Everything is checked that can be without work, then all that is to be fetched is fetched, then
everything is decoded in threads. Knows neither messages nor prompts.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from PIL.Image import Image

from app.errors import InvalidRequest
from app.images.decoder import Detail, decode_picture
from app.images.fetcher import Connect, Fetcher, Resolve, connect_tcp, resolve_host
from app.images.refusals import bad_url
from app.images.urls import DataURL, WebURL, parse_url
from app.settings import Settings
from schemas.messages import ImageURL

DECODING_THREADS = 2
"""Pictures of 36 million pixels take up to 300 MB each while they are decoded."""

DECODING_PROMPTS = 4
"""With `max_images` pictures of 12 MB each, until the engine has made its own of them."""

FETCHING_PROMPTS = 16
"""With `max_images` bodies of `max_image_bytes` each."""

T = TypeVar("T")


class ImageLoader:
    """Loads pictures for all requests of a server; one per process."""

    def __init__(
        self, settings: Settings, *, resolve: Resolve = resolve_host, connect: Connect = connect_tcp
    ) -> None:
        self._settings = settings
        self._fetcher = Fetcher(settings, resolve, connect)
        self._threads = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="pictures")
        self._fetching = asyncio.Semaphore(FETCHING_PROMPTS)
        self._decoding = asyncio.Semaphore(DECODING_PROMPTS)

    @asynccontextmanager
    async def loaded(
        self, images: Sequence[ImageURL], *, param: str = "messages"
    ) -> AsyncIterator[list[Image]]:
        """Every picture as RGB, longest edge at most 512 (`detail` low) or 2048 pixels.

        They are decoded for few prompts at once, the others wait: 800 characters of PNG are
        12 MB of pixels, so let them go before the block ends. A URL that is there several times
        is fetched once. Cancelled, it leaves no socket open. Raises InvalidRequest about `param`:
        `too_many_images`, `image_too_large`, `invalid_image_url`, `invalid_image`.
        """
        try:
            sources = self._check(images)
            urls = {each for each in sources if isinstance(each, WebURL)}
            async with self._fetching if urls else nullcontext():
                fetched = await self._fetch(urls)
                async with self._decoding:
                    pairs = zip(sources, images, strict=True)
                    yield await all_of(self._decoded(*pair, fetched) for pair in pairs)
        except InvalidRequest as error:
            error.param = error.param or param
            raise

    async def _decoded(
        self, source: DataURL | WebURL, image: ImageURL, fetched: Mapping[WebURL, bytes]
    ) -> Image:
        return await self._decode(source if isinstance(source, DataURL) else fetched[source], image)

    async def close(self) -> None:
        """Wait for the decoding threads. Nothing may be loading any more."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _check(self, images: Sequence[ImageURL]) -> list[DataURL | WebURL]:
        """Refuse all that can be refused before anything is fetched or decoded."""
        limit = self._settings.max_images
        if len(images) > limit:
            message = f"image_url: a request may have at most {limit} pictures."
            raise InvalidRequest(message, code="too_many_images")
        sources = [parse_url(image.url) for image in images]
        for source in sources:
            if isinstance(source, WebURL):
                self._fetcher.check(source)
            else:
                source.check_size(self._settings.max_image_bytes)
        return sources

    async def _fetch(self, urls: set[WebURL]) -> dict[WebURL, bytes]:
        try:
            async with asyncio.timeout(self._settings.image_seconds):
                return dict(zip(urls, await all_of(map(self._fetcher.fetch, urls)), strict=True))
        except TimeoutError as error:
            raise bad_url("image_seconds are over") from error

    async def _decode(self, source: DataURL | bytes, image: ImageURL) -> Image:
        work = partial(decode_source, source, image.detail, self._settings.max_image_pixels)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def decode_source(source: DataURL | bytes, detail: Detail, max_pixels: int) -> Image:
    encoded = source.decode() if isinstance(source, DataURL) else source
    return decode_picture(encoded, detail, max_pixels)


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Every result in order. The first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
