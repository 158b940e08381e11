"""Calls in both directions between two of our processes, over one socket.

A call is a name and an argument, the answer any JSON. Knows nothing of what is asked.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

LENGTH_BYTES = 4
Answer = Callable[[Any], Awaitable[Any]]


class HungUp(Exception):
    """The other process is gone, or failed to answer."""


class Message(msgspec.Struct, array_like=True):
    """A call, or the answer to the call of that number."""

    number: int
    name: str = ""
    """Of what is asked; empty in an answer."""

    content: Any = None
    failure: str = ""


class Line:
    """One end. `answers`: what the other end may ask, by name."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: Mapping[str, Answer],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = answers
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen())

    async def call(self, name: str, argument: Any = None) -> Any:
        """Ask, and wait for the answer. Raises HungUp."""
        if self._listening.done():
            raise HungUp(f"{name}: nobody is there.")
        number = next(self._numbers)
        self._asked[number] = answer = asyncio.get_running_loop().create_future()
        self._send(Message(number, name, argument))
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    async def close(self) -> None:
        """Hang up; what still waits for an answer raises HungUp."""
        self._listening.cancel()
        await asyncio.wait([self._listening])
        self._writer.close()

    def _send(self, message: Message) -> None:
        body = msgspec.json.encode(message)
        self._writer.write(len(body).to_bytes(LENGTH_BYTES) + body)

    async def _listen(self) -> None:
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
                self._take(
                    msgspec.json.decode(await self._reader.readexactly(length), type=Message)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._hang_up()

    def _take(self, message: Message) -> None:
        if message.name:
            answering = asyncio.create_task(self._answer(message))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
        elif (asked := self._asked.get(message.number)) is not None and not asked.done():
            if message.failure:
                asked.set_exception(HungUp(message.failure))
            else:
                asked.set_result(message.content)

    async def _answer(self, message: Message) -> None:
        try:
            content = await self._answers[message.name](message.content)
        except Exception as error:
            logger.exception("%s could not be answered", message.name)
            self._send(Message(message.number, failure=repr(error)))
        else:
            self._send(Message(message.number, content=content))

    def _hang_up(self) -> None:
        for answering in self._answering:
            answering.cancel()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(HungUp("The other process is gone."))


async def open_line(end: socket.socket, answers: Mapping[str, Answer]) -> Line:
    """From one end of a socket pair, which is the line's from now on."""
    reader, writer = await asyncio.open_unix_connection(sock=end)
    return Line(reader, writer, answers)
