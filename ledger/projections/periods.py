"""Closed periods and statements: written in the append's transaction, and the lines that stand on them.

Statements, payout runs and control totals read the same lines: the journal between two cuts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import sql
from ledger.domain.period import (
    AffiliateTreesRecorded,
    CalendarState,
    PeriodClosed,
    PeriodReissued,
    StatementsIssued,
)
from ledger.domain.postings import BANK_FEE, COMMISSION, PROGRAM_BANK, VAT, WITHHOLDING
from ledger.domain.statement import Buckets, Section, StatementIssued
from ledger.projections.listing import Touched
from ledger.statements.document import StatementLine
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "periods.sql")
LINES_AT_ONCE = 10_000
# What a statement calls the program's own accounts.
SIDES = {COMMISSION: "commission", "expense:adjustment": "adjustment", VAT: "vat", WITHHOLDING: "withholding"}
SIDES |= {BANK_FEE: "bank_fee", PROGRAM_BANK: "bank"}


class Cut(NamedTuple):
    """A version of a closed period: up to position, before ends_at, behind the cut before. starts_at None: the
    first period. closed_at: when the cut was made."""

    period: str
    version: int
    starts_at: datetime | None
    ends_at: datetime
    position: int
    previous_period: str
    previous_version: int
    previous_position: int
    status: str
    statement_count: int
    line_count: int
    closed_at: datetime

    @property
    def late_before(self) -> datetime | None:
        """What happened before this instant is late; nothing is on a program's first statements."""
        return self.starts_at if self.previous_period else None


class Issued(NamedTuple):
    """An issued version of a statement."""

    period: str
    version: int
    ends_at: datetime
    sections: list[Section]
    line_count: int
    hash: str
    position: int


_SECTIONS = msgspec.json.Decoder(list[Section])


# --- writing -------------------------------------------------------------------------------------------


def store(cur: Rows, program_id: UUID, touched: Sequence[Touched], now: datetime) -> None:
    """Write the rows of the periods and statements that a batch touched."""
    statements: list[dict[str, Any]] = []
    for stream in touched:
        if stream.kind == "statement":
            statements += [_statement_row(r.body, r.position) for r in stream.records[-stream.fresh :]]  # type: ignore[arg-type]
        elif stream.kind == "calendar":
            for record in stream.records[-stream.fresh :]:
                _store_period(cur, program_id, stream.state, record.body, record.position, now)
    if statements:
        rows = msgspec.json.encode(statements).decode()
        cur.execute(QUERIES["insert_statements"], {"program_id": program_id, "rows": rows})


def _statement_row(issued: StatementIssued, position: int) -> dict[str, Any]:
    return {
        "affiliate_id": issued.affiliate_id,
        "period": issued.period,
        "version": issued.version,
        "ends_at": issued.ends_at,
        "sections": issued.sections,
        "line_count": sum(section.line_count for section in issued.sections),
        "hash": issued.hash,
        "position": position,
    }


def _store_period(
    cur: Rows, program_id: UUID, calendar: CalendarState, event: Any, position: int, now: datetime
) -> None:
    if isinstance(event, AffiliateTreesRecorded):
        return  # its trees are a table of their own: ledger/affiliate_trees.py
    if isinstance(event, StatementsIssued):
        counts = {"statement_count": event.statement_count, "line_count": event.line_count}
        cur.execute(
            QUERIES["finish_period"],
            {"program_id": program_id, "period": event.period, "version": event.version, **counts},
        )
        return
    assert isinstance(event, PeriodClosed | PeriodReissued)
    index = next(i for i, one in enumerate(calendar.closed) if one.period == event.period)
    before = cut(cur, program_id, calendar.closed[index - 1].period) if index else None
    cur.execute(
        QUERIES["insert_period"],
        {
            "program_id": program_id,
            "period": event.period,
            "version": event.version if isinstance(event, PeriodReissued) else 1,
            "starts_at": calendar.closed[index].starts_at,
            "ends_at": calendar.closed[index].ends_at,
            "position": position,
            "previous_period": before.period if before else "",
            "previous_version": before.version if before else 0,
            "previous_position": before.position if before else 0,
            "closed_at": now,
        },
    )


def carry(cur: Rows, program_id: UUID, cut: Cut) -> None:
    """Note which lines the cut knows that belong to a later period. Done again it changes nothing."""
    cur.execute(QUERIES["carry_lines"], {"program_id": program_id, **cut._asdict()})


# --- periods -------------------------------------------------------------------------------------------


def _cut(row: Sequence[Any]) -> Cut:
    found = Cut(*row)
    starts_at = found.starts_at.astimezone(UTC) if found.starts_at else None
    return found._replace(
        starts_at=starts_at, ends_at=found.ends_at.astimezone(UTC), closed_at=found.closed_at.astimezone(UTC)
    )


def cut(cur: Rows, program_id: UUID, period: str, version: int | None = None) -> Cut | None:
    """A version of a closed period, the newest unless said; None when there is none."""
    cur.execute(QUERIES["select_cut"], {"program_id": program_id, "period": period, "version": version})
    row = cur.fetchone()
    return _cut(row) if row else None


def newest_cut(cur: Rows, program_id: UUID, position: int, ends_at: datetime) -> Cut | None:
    """The newest closed cut inside of another one."""
    cur.execute(
        QUERIES["select_newest_cut_until"], {"program_id": program_id, "position": position, "ends_at": ends_at}
    )
    row = cur.fetchone()
    return _cut(row) if row else None


def periods(
    cur: Rows, program_id: UUID, before: datetime | None = None, limit: int = 100, before_version: int = 0
) -> list[Cut]:
    """Every version of closed periods, newest first: those behind the place (before, before_version), if given."""
    params = {"program_id": program_id, "before": before, "before_version": before_version, "limit": limit}
    cur.execute(QUERIES["select_periods"], params)
    return [_cut(row) for row in cur]


# --- lines ---------------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """Between two cuts: the lines up to position that happened before ends_at, behind the previous one."""

    position: int
    ends_at: datetime
    previous_position: int = 0
    previous_period: str = ""
    previous_version: int = 0


def bounds(cut: Cut) -> Bounds:
    """What stands on a version of a period's statements."""
    return Bounds(cut.position, cut.ends_at, cut.previous_position, cut.previous_period, cut.previous_version)


def behind(before: Cut | None, position: int, ends_at: datetime) -> Bounds:
    """What lies between a closed cut and any later point."""
    if before is None:
        return Bounds(position, ends_at)
    return Bounds(position, ends_at, before.position, before.period, before.version)


def _side(account: str) -> str:
    if account.startswith("liability:"):
        return account.rpartition(":")[2]
    return "paid" if account.startswith("asset:bank:") else SIDES[account]


def _line(row: Sequence[Any], starts_at: datetime | None) -> StatementLine:
    _, position, line_no, debit, credit, amount, currency, effective_at, recorded_at, topic, reference = row
    return StatementLine(
        amount=amount,
        currency=currency,
        effective_at=effective_at,
        event=topic,
        late=starts_at is not None and effective_at < starts_at,
        line_no=line_no,
        position=position,
        recorded_at=recorded_at,
        reference=reference,
        source=_side(debit),
        target=_side(credit),
    )


def lines_by_affiliate(
    cur: Rows, program_id: UUID, between: Bounds, starts_at: datetime | None
) -> Iterator[tuple[str, Iterator[StatementLine]]]:
    """(affiliate id, its lines) in the order of ids; memory stays flat."""
    rows = raw_lines(cur, program_id, between)
    for affiliate_id, group in groupby(rows, key=lambda row: row[0]):
        yield affiliate_id, (_line(row, starts_at) for row in group)


def lines_of(
    cur: Rows, program_id: UUID, affiliate_id: str, between: Bounds, starts_at: datetime | None
) -> Iterator[StatementLine]:
    """One affiliate's lines; memory stays flat."""
    return (_line(row, starts_at) for row in raw_lines(cur, program_id, between, affiliate_id))


def raw_lines(cur: Rows, program_id: UUID, between: Bounds, affiliate_id: str | None = None) -> Iterator[Any]:
    """Everybody's lines, or one affiliate's, as rows of a cursor of the server's, which holds what is not read yet."""
    query = QUERIES["select_lines" if affiliate_id is None else "select_affiliate_lines"]
    params = {"program_id": program_id, "affiliate_id": affiliate_id, **between._asdict()}
    with cur.connection.cursor(name="statement_lines") as rows:
        rows.itersize = LINES_AT_ONCE
        yield from rows.execute(query, params)


def changed_since(cur: Rows, program_id: UUID, from_position: int, cut: Cut) -> list[str]:
    """Whose lines are on a later version of a period and were not on the earlier one, cut at from_position."""
    params = {"program_id": program_id, "from_position": from_position, **cut._asdict()}
    cur.execute(QUERIES["select_changed_since"], params)
    return [affiliate_id for (affiliate_id,) in cur]


# --- statements ----------------------------------------------------------------------------------------


def openings(
    cur: Rows, program_id: UUID, starts_at: datetime | None, affiliate_id: str | None = None
) -> dict[str, dict[str, Buckets]]:
    """affiliate id → currency → what its last statement before the period closed with."""
    params = {"program_id": program_id, "starts_at": starts_at, "affiliate_id": affiliate_id}
    cur.execute(QUERIES["select_openings"], params)
    return {who: {s.currency: s.closing for s in _SECTIONS.decode(sections)} for who, sections in cur}


def issued_to(cur: Rows, program_id: UUID, period: str, version: int) -> set[str]:
    """Whose statement of a version is issued already."""
    cur.execute(QUERIES["select_issued"], {"program_id": program_id, "period": period, "version": version})
    return {affiliate_id for (affiliate_id,) in cur}


def newest_hashes(cur: Rows, program_id: UUID, period: str, version: int) -> list[tuple[str, int, str]]:
    """(affiliate id, lines, hash) of a period's statements as they stand, in the order of bytes of ids."""
    cur.execute(QUERIES["select_newest_statements"], {"program_id": program_id, "period": period, "version": version})
    return sorted((affiliate_id, line_count, hash_) for affiliate_id, _, line_count, hash_ in cur)


def statements_of(
    cur: Rows,
    program_id: UUID,
    affiliate_id: str,
    period: str | None = None,
    before: datetime | None = None,
    limit: int = 100,
    before_version: int = 0,
) -> list[Issued]:
    """An affiliate's statements, newest first, every version: behind the place (before, before_version), if given."""
    params = {
        "program_id": program_id, "affiliate_id": affiliate_id, "period": period, "before": before,
        "before_version": before_version, "limit": limit,
    }  # fmt: skip
    cur.execute(QUERIES["select_statements"], params)
    return [
        Issued(period, version, ends_at.astimezone(UTC), _SECTIONS.decode(sections), line_count, hash_, position)
        for period, version, ends_at, sections, line_count, hash_, position in cur
    ]


Totals = dict[tuple[str, str], int]  # (currency, bucket) → minor units, without the empty ones


def _totals(rows: Iterable[tuple[str, str, int]]) -> Totals:
    return {(currency, bucket): amount for currency, bucket, amount in rows if amount}


def closing_totals(cur: Rows, program_id: UUID, ends_at: datetime) -> Totals:
    """What all affiliates' statements up to an instant close with."""
    cur.execute(QUERIES["select_closing_totals"], {"program_id": program_id, "ends_at": ends_at})
    return _totals(cur)


def control_totals(cur: Rows, program_id: UUID, cut: Cut) -> Totals:
    """The same, added up from the journal."""
    cur.execute(QUERIES["select_control_totals"], {"program_id": program_id, **cut._asdict()})
    return _totals(cur)


# --- what is owed by a cut -----------------------------------------------------------------------------


def owed(cur: Rows, program_id: UUID, currency: str, position: int, ends_at: datetime) -> list[tuple[str, int]]:
    """(affiliate id, minor units) payable by what was recorded up to a position and happened before an instant, less
    every payout that was initiated and did not come back; without the zeros, in the order of ids. Closed statements
    are the ground."""
    before = newest_cut(cur, program_id, position, ends_at)
    found: dict[str, int] = {}
    params: dict[str, Any] = {"program_id": program_id, "currency": currency}
    if before is not None:
        until = {"ends_at": before.ends_at, "version": before.version}
        cur.execute(QUERIES["select_closing_payables"], params | until)
        found.update(cur.fetchall())
    between = behind(before, position, ends_at)
    cur.execute(QUERIES["select_payable_movements"], {**params, **between._asdict()})
    for affiliate_id, amount in cur:
        found[affiliate_id] = found.get(affiliate_id, 0) + amount
    cur.execute(QUERIES["select_sent_outside"], {**params, "position": position, "ends_at": ends_at})
    for affiliate_id, amount in cur:
        found[affiliate_id] = found.get(affiliate_id, 0) - amount
    return sorted((affiliate_id, amount) for affiliate_id, amount in found.items() if amount)
