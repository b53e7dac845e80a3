"""The tables of simulations: what was asked for, what it found, and the lines that an application works through. What
is decided about them stands in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import sql
from ledger.domain.simulation import Line
from ledger.store.log import Rows

QUERIES = sql.load("ledger.simulating", "table.sql")
LINES_AT_ONCE = 5_000
_LINE = (
    "program_id", "simulation_id", "line_no", "order_id", "affiliate_id", "level", "was", "would", "credited_amount",
    "currency", "reason", "occurred_at", "matures_at", "outcome",
)  # fmt: skip
_TYPES = (
    "uuid", "text", "int8", "text", "text", "int2", "int8", "int8", "int8", "text", "text", "timestamptz",
    "timestamptz", "text",
)  # fmt: skip


class Row(NamedTuple):
    """A simulation as it was asked for, and where it stands. report '': not done yet."""

    simulation_id: str
    requested_by: str
    requested_at: datetime
    request: str
    status: str
    progress: int
    as_of: int | None
    report: str
    line_count: int
    lines_hash: str
    failure: str
    changed_at: datetime


class Tally(NamedTuple):
    """Orders: applied, left as they are, and not looked at yet."""

    applied: int
    skipped: int
    left: int


class Simulations:
    """One program's. cur: in a transaction of the caller's."""

    def __init__(self, cur: Rows, program_id: UUID) -> None:
        self._cur, self._program_id = cur, program_id

    def _do(self, query: str, **params: Any) -> Rows:
        return self._cur.execute(QUERIES[query], {"program_id": self._program_id, **params})

    def ask(self, simulation_id: str, by: str, at: datetime, request: str) -> bool:
        """Note that a simulation was asked for; False where there is one of this id."""
        return self._do("insert_request", simulation_id=simulation_id, by=by, at=at, request=request).rowcount == 1

    def one(self, simulation_id: str) -> Row | None:
        """A simulation."""
        row = self._do("select_one", simulation_id=simulation_id).fetchone()
        return None if row is None else Row(*row)

    def page(self, after: str, limit: int) -> list[Row]:
        """Simulations behind one, without their reports."""
        return [Row(*row) for row in self._do("select_page", after=after, limit=limit)]

    def to_do(self) -> list[tuple[str, str, datetime]]:
        """(id, status, asked for when) of what the worker has to do."""
        return self._do("select_to_do").fetchall()

    def waiting(self) -> int:
        """How many the worker still has to run."""
        row = self._do("count_waiting").fetchone()
        assert row is not None
        return int(row[0])

    def stands(self, simulation_id: str, status: str, at: datetime, failure: str = "") -> None:
        """It has another status now."""
        self._do("update_status", simulation_id=simulation_id, status=status, at=at, failure=failure)

    def runs(self, simulation_id: str, progress: int, as_of: int | None, at: datetime) -> None:
        """A run has come so far."""
        self._do("update_progress", simulation_id=simulation_id, progress=progress, as_of=as_of, at=at)

    def done(self, simulation_id: str, document: Mapping[str, Any], lines: Iterable[Line], at: datetime) -> None:
        """Keep what a run has found."""
        self._do("delete_lines", simulation_id=simulation_id)
        with self._cur.copy(f"COPY simulation_lines ({', '.join(_LINE)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for number, line in enumerate(lines, 1):
                values = msgspec.structs.astuple(line)
                copy.write_row((self._program_id, simulation_id, number, *values, ""))
        self._do(
            "update_done",
            simulation_id=simulation_id,
            as_of=document["as_of"],
            report=msgspec.json.encode(document).decode(),
            line_count=document["line_count"],
            lines_hash=document["lines_hash"],
            at=at,
        )

    def lines(self, simulation_id: str) -> Iterator[Line]:
        """Every line, in order."""
        after = 0
        while rows := self._do(
            "select_lines", simulation_id=simulation_id, after=after, limit=LINES_AT_ONCE
        ).fetchall():  # fmt: skip
            yield from (Line(*row[1:]) for row in rows)
            after = rows[-1][0]

    def lines_left(self, simulation_id: str, orders: int) -> tuple[int, int, list[Line]]:
        """(number of the first, of the last, the lines) of the next orders that no application has looked at."""
        # an order has a line for each who is credited: a few, and the last order may have more than were read
        rows = self._do("select_lines_left", simulation_id=simulation_id, limit=4 * orders + 1).fetchall()
        found: dict[str, list[tuple[Any, ...]]] = {}
        for row in rows:
            if row[1] not in found and len(found) == orders:
                break
            found.setdefault(row[1], []).append(row)
        else:
            if len(rows) > 4 * orders and len(found) > 1:
                found.popitem()  # it may go on behind what was read
        some = [row for lines in found.values() for row in lines]
        return (some[0][0], some[-1][0], [Line(*row[1:]) for row in some]) if some else (0, 0, [])

    def outcomes(self, simulation_id: str, first: int, last: int, skipped: Mapping[str, str]) -> None:
        """An application has looked at some lines. skipped: order id → why it was left as it is."""
        said = msgspec.json.encode(dict(skipped)).decode()
        self._do("update_outcomes", simulation_id=simulation_id, first=first, last=last, skipped=said)

    def tally(self, simulation_id: str) -> Tally:
        """How far an application has come."""
        row = self._do("select_tally", simulation_id=simulation_id).fetchone()
        assert row is not None
        return Tally(*row)

    def skipped(self, simulation_id: str, limit: int) -> list[dict[str, str]]:
        """The first orders that were left as they are, and why."""
        found = self._do("select_skipped", simulation_id=simulation_id, limit=limit)
        return [{"order_id": order_id, "why": why} for order_id, why in found]
