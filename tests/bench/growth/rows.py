"""What each part finds, a row a point; kept as CSV beside this module."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

OURS, VLLM = "ours", "vllm-python"
DATA = Path(__file__).parent / "data"


class StreamsRow(msgspec.Struct):
    """So many streams open at once in one server."""

    server: str
    streams: int
    token_us: float
    """Median of the windows: CPU of the frontend, kernel included, in µs."""

    least_token_us: float
    most_token_us: float
    events_per_token: float
    """1 unless tokens were merged."""

    private_mib: float
    """Memory of the frontend's own while all are open, above what it had before the first."""

    stream_kib: float


class StallsRow(msgspec.Struct):
    """Chats of one size, asked one after the other; of several rounds."""

    server: str
    size: int
    """Characters or messages; 0: nothing is asked."""

    reply_ms: float
    """Median of the rounds' medians."""

    stall_ms: float
    """Longest wait of a probe: the median of the rounds."""

    worst_stall_ms: float
    """The longest of all rounds."""


class AdaptersRow(msgspec.Struct):
    """Requests that go round so many adapters; means of the rounds."""

    server: str
    adapters: int
    requests_per_second: float
    request_us: float
    """CPU of the frontend without the engine, in µs."""

    load_ms: float | None
    """Median time to load one more, of those loaded since the row before; None if none were."""


class StartRow(msgspec.Struct):
    """One start."""

    server: str
    attempt: int
    seconds: float
    """From the process's start to the first reply."""


Row = TypeVar("Row", bound=msgspec.Struct)


def write_rows(rows: Sequence[msgspec.Struct], path: Path) -> None:
    """Figures to five digits: more would be noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0].__struct_fields__)
        writer.writerows([shown(value) for value in msgspec.structs.astuple(row)] for row in rows)


def shown(value: object) -> object:
    """As msgspec reads it again: None is `null`."""
    if value is None:
        return "null"
    return f"{value:.5g}" if isinstance(value, float) else value


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """Raises OSError, and msgspec.ValidationError for a file with other columns."""
    with path.open(newline="") as file:
        return msgspec.convert(list(csv.DictReader(file)), list[kind], strict=False)  # type: ignore[valid-type]
