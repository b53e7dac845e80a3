"""Clicks: what arrives as NDJSON, until it is committed; against COPY of ready rows and the library's recorder."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from psycopg.rows import TupleRow

from api.body import StrictDecoder
from api.errors import Problem
from api.ndjson import decode_lines
from api.tracking import ClickInput
from benchmarks import stock
from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, Stopwatch, checkpoint, race
from benchmarks.world import META, OFFER, World, affiliate_of
from ledger.domain.click import RecordClick
from ledger.domain.event import Answer
from ledger.domain.ids import program_id
from ledger.store.log import COLUMNS

BATCH = 5_000
STOCK_BATCH = 1_000
AGAIN_OF = 100  # one line in so many was sent before

WORK = "clicks: NDJSON to committed, 5,000 a batch"
COMPARISONS = (
    Comparison(WORK, "ours", "binary COPY of the same rows into an identical, indexed table", "copy", 0.4, "rows/s"),
    Comparison(WORK, "ours", "stock PostgresApplicationRecorder.insert_events, 1,000 a batch", "stock", 2.0, "rows/s"),
    Comparison(WORK, "ours", "the same COPY of bytes that were packed beforehand", "packed", None, "rows/s"),
)

# as COPY's own text and binary formats need to know them
COLUMN_TYPES = (
    "uuid", "int8", "uuid", "int8", "text", "timestamptz", "text", "text", "text", "text", "text", "bytea",
)  # fmt: skip

Connection = psycopg.Connection[TupleRow]


def line(number: int) -> dict[str, Any]:
    """A click as a tracking system sends it. One in five carries a sub id (to be encrypted), one in ten a customer
    (to be found again as the customer's last click)."""
    click: dict[str, Any] = {
        "click_id": f"click-{number:012d}",
        "affiliate_id": affiliate_of(number),
        "offer_id": OFFER,
        "occurred_at": f"2026-01-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:{number % 59:02d}.250Z",
    }
    if number % 5 == 0:
        click["sub1"] = f"campaign-{number % 977}"
    if number % 10 == 3:
        click["customer_id"] = f"customer-{number:09d}"
    return click


def body(first: int, count: int) -> bytes:
    """So many lines of NDJSON, the last in a hundred of which repeats an earlier one."""
    numbers = [n - AGAIN_OF // 2 if n % AGAIN_OF == AGAIN_OF - 1 else n for n in range(first, first + count)]
    return b"\n".join(msgspec.json.encode(line(number)) for number in numbers) + b"\n"


_decode = StrictDecoder(ClickInput)


def decode(text: bytes) -> list[RecordClick]:
    """The clicks of an NDJSON body, as POST /clicks reads it. Raises BenchmarkError for a line it would refuse."""
    clicks: list[RecordClick] = []
    for number, found in decode_lines(_decode, text):
        if isinstance(found, Problem):
            raise BenchmarkError(f"line {number} was refused: {found}")
        clicks.append(found)
    return clicks


class Clicks:
    """The contenders. Each run of ours makes the rows that the others then write."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.batches = world, plan.size(20, 1)
        self.program = world.open_program("clicks")
        self.program_id = program_id(self.program)
        self.next = 0
        self.rows: list[list[TupleRow]] = []
        self.packed: list[bytes] = []
        self.events: list[StoredEvent] = []
        self.owner: Connection = psycopg.connect(world.owner_url)
        for table in ("copied_rows", "copied_bytes"):
            self.owner.execute(f"CREATE TABLE {table} (LIKE traffic_events INCLUDING ALL)".encode())
        self.owner.commit()
        self.datastore = stock.datastore(world.server)
        self.recorder = PostgresApplicationRecorder(self.datastore, events_table_name="click_events")
        self.recorder.create_table()

    def close(self) -> None:
        """Give the connections back."""
        self.owner.close()
        self.datastore.close()

    def ours(self) -> float:
        """Decode, check, find duplicates, encrypt, hash, append, commit."""
        bodies = [body(self.next + BATCH * i, BATCH) for i in range(self.batches)]
        self.next += BATCH * self.batches
        before = self._last_position()
        watch, recorded = Stopwatch(), 0
        for text in bodies:
            with watch.running():
                outcomes = self.world.ledger.record_clicks(self.program, decode(text), META)
            recorded += sum(isinstance(o, Answer) and o.outcome == "recorded" for o in outcomes)
        expected = self.batches * BATCH * (AGAIN_OF - 1) // AGAIN_OF
        if recorded != expected:
            raise BenchmarkError(f"{recorded} clicks were recorded, not {expected}")
        self._take_rows(before)
        return watch.rate(recorded)

    def _last_position(self) -> int:
        query = "SELECT next_position - 1 FROM log_heads WHERE program_id = %s AND log = 'traffic'"
        row = self.owner.execute(query, (self.program_id,)).fetchone()
        self.owner.commit()
        assert row is not None
        return int(row[0])

    def _take_rows(self, after: int) -> None:
        """The rows just written, in the three forms in which the others take them."""
        last = self._last_position()
        self.rows, self.packed, self.events = [], [], []
        with self.owner.cursor() as cur:
            for start in range(after, last, BATCH):
                which = (self.program_id, start, min(start + BATCH, last))
                query = (
                    f"SELECT {COLUMNS} FROM traffic_events"  # noqa: S608
                    " WHERE program_id = %s AND position > %s AND position <= %s ORDER BY position"
                )
                self.rows.append(cur.execute(query, which).fetchall())
                with cur.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", which) as copy:
                    self.packed.append(b"".join(bytes(part) for part in copy))
        self.owner.commit()
        for row in (row for rows in self.rows for row in rows):
            originator: UUID = row[2]
            self.events.append(StoredEvent(originator, int(row[3]), str(row[4]), str(row[10]).encode()))

    def copy(self) -> float:
        """psycopg's own binary COPY of ready Python rows, in as many commits as ours."""
        watch = Stopwatch()
        for rows in self.rows:
            with (
                watch.running(),
                self.owner.transaction(),
                self.owner.cursor() as cur,
                cur.copy(f"COPY copied_rows ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.set_types(COLUMN_TYPES)
                for row in rows:
                    copy.write_row(row)
        return watch.rate(sum(map(len, self.rows)))

    def copy_packed(self) -> float:
        """The server's part alone: bytes that the server itself packed."""
        watch = Stopwatch()
        for packed in self.packed:
            with (
                watch.running(),
                self.owner.transaction(),
                self.owner.cursor() as cur,
                cur.copy(f"COPY copied_bytes ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.write(packed)
        return watch.rate(sum(map(len, self.rows)))

    def stock(self) -> float:
        """Ready stored events into the library's table."""
        watch = Stopwatch()
        for start in range(0, len(self.events), STOCK_BATCH):
            with watch.running():
                self.recorder.insert_events(self.events[start : start + STOCK_BATCH])
        return watch.rate(len(self.events))


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about clicks."""
    clicks = Clicks(world, plan)
    try:
        contenders = {
            "ours": clicks.ours,
            "copy": clicks.copy,
            "packed": clicks.copy_packed,
            "stock": clicks.stock,
        }
        return race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))
    finally:
        clicks.close()
