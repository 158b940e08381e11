"""Bytes done of bytes in all, drawn on a stream: a bar on a terminal, lines elsewhere.

Knows nothing of what is being done.
"""

from typing import Final, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

LINE_EVERY_PERCENT: Final = 10
"""Logs of containers are read line by line: a bar that redraws itself would never arrive."""


class Progress:
    """Says how far something is; shows nothing before the first `show`."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._label = label
        self._bar: tqdm | None = None
        self._percent = -1

    def show(self, done: int, total: int) -> None:
        """`done` may jump, and need not reach `total`: what is there already is not fetched."""
        if self._stream.isatty():
            self._draw(done, total)
        else:
            self._write(done, total)

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                desc=f"  {self._label}", file=self._stream, unit="B", unit_scale=True, leave=False
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def _write(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1) // LINE_EVERY_PERCENT * LINE_EVERY_PERCENT
        if percent > self._percent:
            self._percent = percent
            size = tqdm.format_sizeof(total, "B", 1000)
            print(f"  {self._label}: {percent} % of {size}", file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
