"""Logs: one structured line a request in a rotating file, readable lines on the console.

Never a prompt, a reply or a key.
"""

import logging
import logging.handlers
import sys
import time
from pathlib import Path
from typing import TextIO

import msgspec

from app.record import PROBE_PATHS, RequestRecord

MAX_FILE_BYTES = 32 * 2**20
KEPT_FILES = 5

requests = logging.getLogger("slipstream.requests")
encode = msgspec.json.Encoder().encode


class JSONLines(logging.Formatter):
    """A log record as one JSON object; a request's fields beside the message's."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields: dict[str, object] = getattr(record, "fields", None) or {
            "message": record.getMessage()
        }
        line.update(fields)  # type: ignore[arg-type]
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return encode(line).decode()


def configure_logging(level: str, folder: Path | None, console: TextIO | None = None) -> None:
    """Send our log to the console and, given a folder, to `slipstream.log` in it."""
    handlers: list[logging.Handler] = [logging.StreamHandler(console or sys.stderr)]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if folder:
        handlers.append(log_file(folder / "slipstream.log"))
    for name in ("app", "slipstream", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, False
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def log_file(path: Path) -> logging.Handler:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8"
    )
    handler.setFormatter(JSONLines())
    return handler


def log_request(record: RequestRecord, route: str) -> None:
    """Write the one line of a finished request; probes come every second and are only debugged."""
    level = logging.DEBUG if record.path in PROBE_PATHS else logging.INFO
    if requests.isEnabledFor(level):
        fields = request_fields(record, route)
        requests.log(level, "%s", Summary(fields), extra={"fields": fields})


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


class Summary:
    """A request for human eyes, put together only if a console asks for it."""

    def __init__(self, fields: dict[str, object]) -> None:
        self.fields = fields

    def __str__(self) -> str:
        fields = self.fields
        what = f"{fields['method']} {fields['route']} {fields['status']}"
        text = f"{what} {fields['total_seconds']:.3f}s"
        if fields["completion_tokens"] is not None:
            text += f" {fields['prompt_tokens']}+{fields['completion_tokens']} tokens"
        if fields["error"]:
            text += f" {fields['error']}"
        return f"{text} [{fields['request_id']}]"
