"""Rebuilding the books from the log: beside the live ones, proven equal to them, swapped in one transaction.

The new rows carry the next generation number, so nothing that is read changes until the head says so. Lines never
change once they are written, so they are compared while the replay goes on, byte by byte in the server's own binary
format; under the head's lock stand only the last few events, the accounts and the swap.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from ledger import sql
from ledger.projections import books
from ledger.projections.book_lines import POSTING_TOPICS, LineWriter, first_difference
from ledger.projections.books import JOURNAL_COLUMNS
from ledger.store import log
from ledger.store.copy import BINARY_HEADER, BINARY_TRAILER
from ledger.store.database import Pool, allow_long

QUERIES = sql.load("ledger.projections", "rebuild.sql")
EVENTS_AT_ONCE = 30_000
EVENTS_UNDER_LOCK = 2_000  # at most so many are replayed while writers wait, but for what came in that moment
LOCK_LIMIT = "30s"  # to get the head's lock, which nobody holds for long
BEGINNING, END = -(2**62), 2**62  # before the first position and behind the last that a line could bear


class RebuildProgress(NamedTuple):
    """position: how far the replay has come; last: the position it is going to."""

    position: int
    last: int


class RebuildReport(NamedTuple):
    """What was replayed, and whether the live books said the same. different: the first line or account that did
    not, with what was expected (rebuilt) and found (live)."""

    events: int
    lines: int
    equal: bool
    swapped: bool
    generation: int
    different: dict[str, Any] | None


class RebuildCollision(Exception):
    """Somebody else rebuilt the same books meanwhile; nothing was changed."""


class _Differs(Exception):
    """Ends a rebuild that is to change nothing: carries the report out of the transaction that is to be undone."""

    def __init__(self, report: RebuildReport) -> None:
        self.report = report


def rebuild(
    pool: Pool,
    program_id: UUID,
    progress: Callable[[RebuildProgress], None] = lambda _: None,
    replace: bool = False,
) -> RebuildReport:
    """Replay the log into a new generation, compare it with the live one, and make it live if they are equal.

    replace: make it live even if they differ (the log is the truth). Interrupted, it leaves nothing behind.
    Raises UnknownProgram, RebuildCollision.
    """
    with pool.connection() as reader, pool.connection() as writer:
        reader.execute("SET TRANSACTION READ ONLY")
        with reader.cursor() as cur:
            last = log.last_position(cur, program_id, "books")
            cur.execute(QUERIES["select_generations"], {"program_id": program_id})
            row = cur.fetchone()
            assert row is not None
        replay = _Replay(reader, program_id, live=row[0], built=row[1] + 1, replace=replace)
        try:
            with writer.transaction():
                allow_long(writer)
                writer.execute(f"SET LOCAL lock_timeout = '{LOCK_LIMIT}'")
                for conn in (reader, writer):  # either may wait for the other
                    conn.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")
                _replay_all(replay, writer, last, progress)
                return _finish(replay, writer)
        except _Differs as differs:
            return differs.report


class _Replay:
    """From events to the lines of the new generation, each compared with the live one's; with the balances so far."""

    def __init__(self, reader: Connection[TupleRow], program_id: UUID, *, live: int, built: int, replace: bool) -> None:
        self.reader, self.program_id, self.live, self.built, self.replace = reader, program_id, live, built, replace
        self.writer = LineWriter(program_id, built)
        self.position = 0
        self.different: dict[str, Any] | None = None

    def rows(self, upto: int, *, through: Connection[TupleRow] | None = None, until: int | None = None) -> bytes:
        """The COPY rows of the events up to a position, which follow the ones before. Raises _Differs.

        through: another connection than the reader's. until: the last position at which live lines are looked for.
        """
        conn = through or self.reader
        with conn.cursor(binary=True) as cur:
            made = b""
            if upto > self.position:
                span = {"program_id": self.program_id, "after": self.position, "upto": upto}
                cur.execute(QUERIES["select_posting_events"], span | {"topics": POSTING_TOPICS})
                made = self.writer.rows(cur.fetchall())
            after = self.position or BEGINNING
            self._compare(made, self._live_rows(cur, after, upto if until is None else until))
        self.position = upto
        return made

    def _live_rows(self, cur: log.Rows, after: int, upto: int) -> bytes:
        span = {"program_id": self.program_id, "live": self.live, "built": self.built, "after": after, "upto": upto}
        with cur.copy(QUERIES["copy_live_lines"], span) as copy:
            found = b"".join(copy)
        return found[len(BINARY_HEADER) : -len(BINARY_TRAILER)]

    def _compare(self, made: bytes, live: bytes) -> None:
        if made != live and self.different is None:
            self.different = first_difference(made, live)
            self.refuse_difference()

    def refuse_difference(self) -> None:
        """Raise _Differs if the books differ and are not to be replaced."""
        if self.different is not None and not self.replace:
            raise _Differs(RebuildReport(self.position, self.writer.lines, False, False, self.built, self.different))


def _replay_all(
    replay: _Replay, writer: Connection[TupleRow], last: int, progress: Callable[[RebuildProgress], None]
) -> None:
    """Replay in this thread while another feeds the server: the two keep both of them busy. What is written
    meanwhile is replayed, too, until little is left for the lock."""
    with _Feeder(writer) as feed:
        while last - replay.position > EVENTS_UNDER_LOCK or replay.position == 0 < last:
            for upto in (*range(replay.position + EVENTS_AT_ONCE, last, EVENTS_AT_ONCE), last):
                feed(replay.rows(upto))
                progress(RebuildProgress(upto, last))
            with replay.reader.cursor() as cur:
                last = log.last_position(cur, replay.program_id, "books")


class _Feeder:
    """Sends COPY rows from a thread of its own. Call it with them; leaving waits for the last."""

    def __init__(self, writer: Connection[TupleRow]) -> None:
        self._writer = writer
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=3)
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._feed, name="rebuild-feeder", daemon=True)

    def _feed(self) -> None:
        try:
            while (chunk := self._chunks.get()) is not None:
                _copy(self._writer, chunk)
        except BaseException as error:
            self._failures.append(error)
            while self._chunks.get() is not None:
                pass

    def __enter__(self) -> Callable[[bytes], None]:
        self._thread.start()
        return self._put

    def _put(self, rows: bytes) -> None:
        if self._failures:
            raise self._failures[0]
        self._chunks.put(rows)

    def __exit__(self, type_: object, error: object, traceback: object) -> None:
        self._chunks.put(None)
        self._thread.join()
        if self._failures and error is None:
            raise self._failures[0]


def _copy(writer: Connection[TupleRow], rows: bytes) -> None:
    if rows:
        with (
            writer.cursor() as cur,
            cur.copy(f"COPY journal ({JOURNAL_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.write(BINARY_HEADER + rows + BINARY_TRAILER)


def _finish(replay: _Replay, writer: Connection[TupleRow]) -> RebuildReport:
    """The accounts; then under the lock the events that came meanwhile, the comparison of the accounts, the swap."""
    program_id, built, made = replay.program_id, replay.built, replay.writer
    with writer.cursor(binary=True) as cur:
        books.store_balances(cur, program_id, built, made.running)
        head = log.lock_head(cur, program_id, "books")
        if head.generation != replay.live:
            raise RebuildCollision("somebody else rebuilt these books meanwhile; nothing was changed here")
        last = head.next_position - 1
        # Through the writer, whose next statement sees all that is committed before the lock was had.
        _copy(writer, replay.rows(last, through=writer, until=END))
        books.store_balances(cur, program_id, built, made.running)
        if replay.different is None:
            replay.different = _different_account(cur, program_id, replay.live, built)
            replay.refuse_difference()
        cur.execute(QUERIES["swap_generation"], {"program_id": program_id, "built": built})
    return RebuildReport(last, made.lines, replay.different is None, True, built, replay.different)


def _different_account(cur: log.Rows, program_id: UUID, live: int, built: int) -> dict[str, Any] | None:
    cur.execute(QUERIES["select_first_different_balance"], {"program_id": program_id, "live": live, "built": built})
    row = cur.fetchone()
    return dict(zip(("account", "currency", "expected", "found"), row, strict=True)) if row else None


def clear_old_generations(owner: Connection[TupleRow], program_id: UUID) -> int:
    """Delete what rebuilds left behind, as the owner. Returns how many lines."""
    with owner.transaction(), owner.cursor() as cur:
        live = log.lock_head(cur, program_id, "books").generation
        cur.execute(QUERIES["delete_old_journal"], {"program_id": program_id, "live": live})
        deleted = cur.rowcount
        cur.execute(QUERIES["delete_old_balances"], {"program_id": program_id, "live": live})
    return deleted
