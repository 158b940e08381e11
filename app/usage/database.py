"""Usage in SQLite, one row an hour, key, model and route. Blocks: call it in a thread.

Every row is a sum to which any process may add. Each operation opens the file anew, so that one
that was damaged, moved or full is used again as soon as it can be.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, get_args

from app.usage.counts import COUNTED, Counts, Group, Line

Dimension = Literal["hour", "day", "key", "model", "route"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

BUSY_SECONDS = 5.0
"""For another process to finish its writing."""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS usage (
    hour INTEGER NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in COUNTED)},
    PRIMARY KEY (hour, key, model, route)
) STRICT, WITHOUT ROWID
"""
ADD = f"""
INSERT INTO usage (hour, key, model, route, {", ".join(COUNTED)})
VALUES ({", ".join("?" * (4 + len(COUNTED)))})
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTED)}
"""
SUMS = ", ".join(f"sum({name})" for name in COUNTED)
COLUMNS: dict[Dimension, str] = {
    "hour": "hour",
    "day": "hour / 24 * 24",
    "key": "key",
    "model": "model",
    "route": "route",
}


class UsageDatabase:
    """Its methods raise OSError and sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, counted: Mapping[Line, Counts], oldest_hour: int) -> None:
        """Add to every row at once or to none, and forget what is older."""
        rows = [(*line, *(getattr(n, name) for name in COUNTED)) for line, n in counted.items()]
        with self._transaction() as connection:
            connection.executemany(ADD, rows)
            connection.execute("DELETE FROM usage WHERE hour < ?", (oldest_hour,))

    def sums(
        self, by: Sequence[Dimension], hours: range, key: str | None, most: int
    ) -> dict[Group, Counts]:
        """Sums of up to `most` groups, of one key or of all of them."""
        if not self.path.exists():
            return {}
        columns = ", ".join(COLUMNS[name] for name in by)
        where, values = "hour >= ? AND hour < ?", [hours.start, hours.stop, key, most]
        if key is None:
            del values[2]
        else:
            where += " AND key = ?"
        query = f"SELECT {columns}, {SUMS} FROM usage WHERE {where} GROUP BY {columns} LIMIT ?"
        with self._transaction() as connection:
            rows = connection.execute(query, values).fetchall()
        return {row[: len(by)]: counts_of(row[len(by) :]) for row in rows}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(SCHEMA)
            yield connection


def counts_of(sums: Sequence[int]) -> Counts:
    return Counts(**dict(zip(COUNTED, sums, strict=True)))
