"""The simulation's scratch: what does not fit into memory, in a private SQLite database that is gone with the process,
however that ends. What was used last stays in memory; reading and writing are batched."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

CACHE_KB = 16_384  # of SQLite's own pages
_ASKED_AT_ONCE = 500


def open_scratch() -> sqlite3.Connection:
    """A database without a name: SQLite keeps it in a file that is deleted as soon as it is opened."""
    db = sqlite3.connect("", isolation_level=None)
    db.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")  # never committed: nobody else reads it
    return db


class Spill(Generic[V]):
    """A dict by text whose oldest entries lie in a table. What get() and put() handed out or took stays in memory until
    trim(), so that it may be changed in place: dirty() says that it was."""

    def __init__(
        self,
        db: sqlite3.Connection,
        table: str,
        encode: Callable[[V], bytes],
        decode: Callable[[bytes], V],
        most: int,
    ) -> None:
        self._db, self._table, self._encode, self._decode, self._most = db, table, encode, decode, most
        db.execute(f"CREATE TABLE {table} (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kept BLOB NOT NULL)")
        self._here: OrderedDict[str, V] = OrderedDict()
        self._absent: set[str] = set()
        self._dirty: set[str] = set()
        self.stored = False  # whether anything was put away

    def get(self, key: str) -> V | None:
        """The entry, None without one."""
        found = self._here.get(key)
        if found is not None:
            self._here.move_to_end(key)
            return found
        if not self.stored or key in self._absent:
            return None
        self.prefetch([key])
        return self._here.get(key)

    def put(self, key: str, value: V) -> None:
        """A new entry."""
        self._here[key] = value
        self._dirty.add(key)

    def dirty(self, key: str) -> None:
        """The entry was changed."""
        self._dirty.add(key)

    def prefetch(self, keys: Collection[str]) -> None:
        """Read what will be asked for, some hundred entries a statement."""
        if not self.stored:
            return
        missing = [key for key in keys if key not in self._here and key not in self._absent]
        for start in range(0, len(missing), _ASKED_AT_ONCE):
            part = missing[start : start + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(part))
            self._absent.update(part)
            for key, kept in self._db.execute(f"SELECT id, kept FROM {self._table} WHERE id IN ({marks})", part):  # noqa: S608
                self._here[key] = self._decode(kept)
                self._absent.discard(key)

    def know_absent(self, keys: Iterable[str]) -> None:
        """These entries are in no table: they need not be looked for."""
        self._absent.update(keys)

    def trim(self) -> None:
        """Put the oldest entries away. What was handed out before must not be changed any more."""
        self._absent.clear()
        if len(self._here) <= self._most:
            return
        # more than needed, so that it is not done after every batch
        self._put_away(len(self._here) - self._most * 3 // 4)

    def _put_away(self, count: int) -> None:
        rows: list[tuple[str, bytes]] = []
        for _ in range(count):
            key, value = self._here.popitem(last=False)
            if key in self._dirty:
                self._dirty.discard(key)
                rows.append((key, self._encode(value)))
        self._db.executemany(
            f"INSERT INTO {self._table} (id, kept) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET kept = excluded.kept",  # noqa: S608
            rows,
        )
        self.stored = self.stored or bool(rows)

    def everything(self) -> Iterator[V]:
        """Every entry, once; none of them may be changed meanwhile."""
        yield from self._here.values()
        if self.stored:
            # a row whose entry is in memory has been yielded, and may be out of date
            for key, kept in self._db.execute(f"SELECT id, kept FROM {self._table}"):  # noqa: S608
                if key not in self._here:
                    yield self._decode(kept)
