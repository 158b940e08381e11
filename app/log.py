"""Logs: one structured line a request in a rotating file, readable lines on the console.

Never a prompt, a reply or a key.
"""

import asyncio
import logging
import logging.handlers
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from app.record import PROBE_PATHS, RequestRecord

MAX_FILE_BYTES = 32 * 2**20
KEPT_FILES = 5

DELAY_SECONDS = 0.05
"""Of the lines of requests, which are written together: a write takes longer than its line."""

requests = logging.getLogger("slipstream.requests")
encode = msgspec.json.Encoder().encode


class Finished(msgspec.Struct, frozen=True):
    """A request that has ended: when, in seconds since 1970, and what is told of it."""

    time: float
    level: int
    fields: dict[str, Any]

    def line(self) -> bytes:
        level = logging.getLevelName(self.level)
        return encode(stamp(self.time, level, requests.name) | self.fields) + b"\n"

    def summary(self) -> str:
        """The same for human eyes."""
        fields = self.fields
        clock = time.strftime("%H:%M:%S", time.localtime(self.time))
        text = f"{clock} {fields['method']} {fields['route']} {fields['status']}"
        text += f" {fields['total_seconds']:.3f}s"
        if fields["completion_tokens"] is not None:
            text += f" {fields['prompt_tokens']}+{fields['completion_tokens']} tokens"
        if fields["error"]:
            text += f" {fields['error']}"
        return f"{text} [{fields['request_id']}]\n"


class JSONLines(logging.Formatter):
    """A log record as one JSON object; one of finished requests as one for each."""

    def format(self, record: logging.LogRecord) -> str:
        if finished := finished_of(record):
            return b"".join(map(Finished.line, finished)).decode().removesuffix("\n")
        line = stamp(record.created, record.levelname, record.name)
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return encode(line).decode()


class ConsoleLines(logging.Formatter):
    """The same as readable lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        if finished := finished_of(record):
            return "".join(map(Finished.summary, finished)).removesuffix("\n")
        return super().format(record)


def finished_of(record: logging.LogRecord) -> Sequence[Finished]:
    return getattr(record, "finished", ())


def stamp(seconds: float, level: str, name: str) -> dict[str, object]:
    """How each line begins."""
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return {
        "time": f"{clock}.{int(seconds * 1000) % 1000:03d}Z",
        "level": level.lower(),
        "logger": name,
    }


class RequestLines(logging.Handler):
    """In front of the others: what requests left is written soon, and before what follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: Sequence[logging.Handler] = ()
        self._waiting: deque[Finished] = deque()

    def add(self, finished: Finished) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(DELAY_SECONDS, self.flush)
        self._waiting.append(finished)

    def emit(self, record: logging.LogRecord) -> None:
        """Something else is about to be written, by any thread."""
        self.flush()

    def flush(self) -> None:
        """Write what waits; at the end `logging.shutdown` sees to it."""
        finished = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not finished:
            return
        level = max(each.level for each in finished)
        record = logging.LogRecord(requests.name, level, "", 0, "", (), None)
        record.finished = finished
        for handler in self.behind:
            handler.handle(record)


lines = RequestLines()


def configure_logging(level: str, folder: Path | None, console: TextIO | None = None) -> None:
    """Send our log to the console and, given a folder, to `slipstream.log` in it."""
    handlers: list[logging.Handler] = [logging.StreamHandler(console or sys.stderr)]
    handlers[0].setFormatter(ConsoleLines())
    if folder:
        handlers.append(log_file(folder / "slipstream.log"))
    lines.flush()
    lines.behind = handlers
    for name in ("app", "slipstream", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [lines, *handlers], False
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def log_file(path: Path) -> logging.Handler:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8"
    )
    handler.setFormatter(JSONLines())
    return handler


def log_request(record: RequestRecord, route: str) -> None:
    """Note the line of a finished request; probes come every second and are only debugged."""
    level = logging.DEBUG if record.path in PROBE_PATHS else logging.INFO
    if requests.isEnabledFor(level):
        lines.add(Finished(time.time(), level, request_fields(record, route)))


def request_fields(record: RequestRecord, route: str) -> dict[str, object]:
    tokens = record.tokens
    return {
        "request_id": record.id,
        "method": record.method,
        "route": route,
        "key": record.caller.owner or None,
        "model": record.model,
        "status": record.status,
        "error": record.error,
        "prompt_tokens": tokens.prompt if tokens else None,
        "completion_tokens": tokens.completion if tokens else None,
        "queued_seconds": rounded(record.queued_seconds),
        "first_token_seconds": rounded(record.first_token_seconds),
        "total_seconds": rounded(record.elapsed_seconds),
    }


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
