"""Rebuilding the books from the log: beside the live ones, proven equal to them, swapped in one transaction.

The new rows carry the next generation number, so nothing that is read changes until the head says so. Writes go on
meanwhile; only the last few events are replayed under the head's lock.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from ledger import sql
from ledger.domain.postings import RULES
from ledger.domain.topics import TOPIC_OF
from ledger.projections import books
from ledger.projections.books import JOURNAL_COLUMNS, RunningBalances
from ledger.store import codec, log
from ledger.store.copy import BINARY_HEADER, BINARY_TRAILER
from ledger.store.database import Pool

QUERIES = sql.load("ledger.projections", "rebuild.sql")
EVENTS_AT_ONCE = 20_000
POSTING_TOPICS = frozenset(TOPIC_OF[event] for event in RULES)


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


class _Replay:
    """The fold from events to journal lines, with the balances so far."""

    def __init__(self, program_id: UUID, generation: int) -> None:
        self.program_id, self.generation = program_id, generation
        self.running = RunningBalances()
        self.position = 0
        self.lines = 0

    def rows(self, events: Iterator[TupleRow]) -> bytes:
        """The COPY rows of some events, which follow the ones before."""
        decode, rules, running = codec.decode_state, RULES, self.running
        made: list[books.Line] = []
        for position, topic, state, recorded_at in events:
            self.position = position
            if topic in POSTING_TOPICS:
                body = decode(topic, state)
                transfers = [t for t in rules[type(body)](body) if t.amount]
                made += running.lines(position, recorded_at, transfers)
        self.lines += len(made)
        return books.binary_lines(self.program_id, self.generation, made)


def rebuild(
    pool: Pool,
    program_id: UUID,
    progress: Callable[[RebuildProgress], None] = lambda _: None,
    replace: bool = False,
) -> RebuildReport:
    """Replay the log into a new generation, compare it with the live one, and make it live if they are equal.

    replace: make it live even if they differ (the log is the truth). Interrupted, it leaves nothing behind.
    Raises UnknownProgram.
    """
    with pool.connection() as reader, pool.connection() as writer:
        with reader.cursor() as cur:
            last = log.last_position(cur, program_id, "books")
            cur.execute(QUERIES["select_last_generation"], {"program_id": program_id})
            row = cur.fetchone()
            assert row is not None
            generation = row[0] + 1
        replay = _Replay(program_id, generation)
        try:
            with writer.transaction():
                # A long piece of work, but a finite one.
                writer.execute("SET LOCAL statement_timeout = '2h'")
                _copy_all(reader, writer, replay, last, progress)
                return _finish(writer, replay, replace)
        except _Differs as differs:
            return differs.report


def _copy_all(
    reader: Connection[TupleRow],
    writer: Connection[TupleRow],
    replay: _Replay,
    last: int,
    progress: Callable[[RebuildProgress], None],
) -> None:
    """Replay in this thread while another feeds the server: the two keep both of them busy."""
    chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=3)
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            while (chunk := chunks.get()) is not None:
                _copy(writer, chunk)
        except BaseException as error:
            failures.append(error)
            while chunks.get() is not None:
                pass

    feeder = threading.Thread(target=feed, name="rebuild-feeder", daemon=True)
    feeder.start()
    try:
        with reader.cursor(binary=True) as cur:
            for after in range(0, last, EVENTS_AT_ONCE):
                upto = min(after + EVENTS_AT_ONCE, last)
                chunks.put(replay.rows(_events(cur, replay.program_id, after, upto)))
                progress(RebuildProgress(upto, last))
                if failures:
                    break
    finally:
        chunks.put(None)
        feeder.join()
    if failures:
        raise failures[0]
    replay.position = last


def _events(cur: log.Rows, program_id: UUID, after: int, upto: int) -> Iterator[TupleRow]:
    cur.execute(QUERIES["select_posting_events"], {"program_id": program_id, "after": after, "upto": upto})
    return iter(cur.fetchall())


def _copy(writer: Connection[TupleRow], rows: bytes) -> None:
    if rows:
        with (
            writer.cursor() as cur,
            cur.copy(f"COPY journal ({JOURNAL_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.write(BINARY_HEADER + rows + BINARY_TRAILER)


def _finish(writer: Connection[TupleRow], replay: _Replay, replace: bool) -> RebuildReport:
    """Under the lock: the events that came meanwhile, the balances, the comparison, the swap."""
    program_id, generation = replay.program_id, replay.generation
    with writer.cursor(binary=True) as cur:
        head = log.lock_head(cur, program_id, "books")
        last = head.next_position - 1
        if last > replay.position:
            _copy(writer, replay.rows(_events(cur, program_id, replay.position, last)))
        books.store_balances(cur, program_id, generation, replay.running)
        different = _difference(cur, program_id, head.generation, generation)
        swap = different is None or replace
        if swap:
            cur.execute(QUERIES["swap_generation"], {"program_id": program_id, "built": generation})
        else:
            raise _Differs(RebuildReport(last, replay.lines, False, False, generation, different))
    return RebuildReport(last, replay.lines, different is None, True, generation, different)


class _Differs(Exception):
    """Carries the report out of the transaction that is to be undone."""

    def __init__(self, report: RebuildReport) -> None:
        self.report = report


def _difference(cur: log.Rows, program_id: UUID, live: int, built: int) -> dict[str, Any] | None:
    generations = {"program_id": program_id, "live": live, "built": built}
    cur.execute(QUERIES["select_first_different_line"], generations)
    if row := cur.fetchone():
        position, line_no, expected, found = row
        return {"position": position, "line_no": line_no, "expected": expected, "found": found}
    cur.execute(QUERIES["select_first_different_balance"], generations)
    if row := cur.fetchone():
        account, currency, expected, found = row
        return {"account": account, "currency": currency, "expected": expected, "found": found}
    return None


def clear_old_generations(owner: Connection[TupleRow], program_id: UUID) -> int:
    """Delete what rebuilds left behind, as the owner. Returns how many lines."""
    with owner.transaction(), owner.cursor() as cur:
        live = log.lock_head(cur, program_id, "books").generation
        cur.execute(QUERIES["delete_old_journal"], {"program_id": program_id, "live": live})
        deleted = cur.rowcount
        cur.execute(QUERIES["delete_old_balances"], {"program_id": program_id, "live": live})
    return deleted
