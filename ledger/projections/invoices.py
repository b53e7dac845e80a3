"""Self-billing invoices and the credit notes that cancel them: the register of a year, and a payout's credit notes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from ledger import sql
from ledger.domain.errors import InvalidInput
from ledger.domain.event import Recorded
from ledger.domain.ids import stream_id
from ledger.domain.invoice_numbers import CreditNoteIssued, InvoiceNumbersTaken, format_number, key
from ledger.domain.money import major_units
from ledger.statements.csvfile import harmless
from ledger.store import log
from ledger.store.log import Rows, uuid_array

QUERIES = sql.load("ledger.projections", "invoices.sql")
_NUMBERS_AT_ONCE = 1000


class CreditNote(Struct, frozen=True):
    """A credit note's number, and the number of the invoice that it cancels."""

    number: str
    cancels: str


class Document(Struct, frozen=True):
    """An invoice or credit note. kind: invoice, credit_note, or missing for a number that no payout has. amount: the
    commission, net; above zero on an invoice, below on a credit note, as are vat_amount and withholding_amount; minor
    units. sequence: its place in the year, from 1. issued_on: the day, in the program's zone."""

    number: str
    sequence: int
    kind: str
    payout_id: str
    affiliate_id: str
    currency: str
    amount: int
    vat_amount: int
    withholding_amount: int
    cancels: str
    issued_on: date
    position: int


class Span(Struct, frozen=True):
    """The numbers first … last."""

    first: int
    last: int


# --- the register ------------------------------------------------------------------------------------------


def series(cur: Rows, program_id: UUID, year: int) -> list[Recorded]:
    """What took a year's numbers, in order. Raises InvalidInput."""
    if not 1900 <= year <= 9998:
        raise InvalidInput("year", "must be a year such as 2026")
    return list(log.select_streams(cur, program_id, [stream_id(program_id, key(year))]))


def _span(event: Recorded) -> Span:
    body = event.body
    if isinstance(body, InvoiceNumbersTaken):
        return Span(body.first, body.first + body.count - 1)
    assert isinstance(body, CreditNoteIssued)
    return Span(body.number, body.number)


def last_number(events: Sequence[Recorded]) -> int:
    """How far a year's numbers have come, 0 before the first."""
    return max((_span(event).last for event in events), default=0)


def gaps(events: Sequence[Recorded]) -> list[Span]:
    """The numbers between 1 and the last that nothing took: none, unless somebody tampered."""
    found, expected = [], 1
    for span in sorted((_span(event) for event in events), key=lambda one: one.first):
        if span.first > expected:
            found.append(Span(expected, span.first - 1))
        expected = max(expected, span.last + 1)
    return found


def register(cur: Rows, program_id: UUID, events: Sequence[Recorded], zone: str, after: int = 0) -> Iterator[Document]:
    """A year's documents behind a sequence number, in the order of numbers. zone: the program's."""
    group: list[Recorded] = []
    for event in sorted(events, key=lambda one: _span(one).first):
        if _span(event).last <= after:
            continue
        group.append(event)
        if sum(_span(one).last - _span(one).first + 1 for one in group) >= _NUMBERS_AT_ONCE:
            yield from (one for one in _documents(cur, program_id, group, zone) if one.sequence > after)
            group = []
    if group:
        yield from (one for one in _documents(cur, program_id, group, zone) if one.sequence > after)


def _documents(cur: Rows, program_id: UUID, events: Sequence[Recorded], zone: str) -> list[Document]:
    taken = [event for event in events if isinstance(event.body, InvoiceNumbersTaken)]
    params: dict[str, Any] = {
        "program_id": program_id,
        "positions": [event.position for event in taken],
        "counts": [event.body.count for event in taken],  # type: ignore[attr-defined]
    }
    numbered: dict[str, str] = dict(cur.execute(QUERIES["select_numbered"], params).fetchall())
    cancelled = [event.body.payout_id for event in events if isinstance(event.body, CreditNoteIssued)]
    params = {"program_id": program_id, "ids": [*numbered.values(), *cancelled]}
    rows = {row[0]: row for row in cur.execute(QUERIES["select_payouts"], params)}
    made: list[Document] = []
    for event in events:
        body, span = event.body, _span(event)
        year: int = body.year  # type: ignore[attr-defined]
        assert event.recorded_at is not None
        day = event.recorded_at.astimezone(ZoneInfo(zone)).date()
        for sequence in range(span.first, span.last + 1):
            number = format_number(year, sequence)
            note = body if isinstance(body, CreditNoteIssued) else None
            kind, sign = ("credit_note", -1) if note else ("invoice", 1)
            row = rows.get(note.payout_id if note else numbered.get(number, ""))
            if row is None:
                row, kind = ("", "", "", 0, 0, 0), "missing"
            payout_id, affiliate_id, currency, *amounts = row
            amount, vat, withheld = (sign * one for one in amounts)
            cancels = note.cancels if note else ""
            made.append(
                Document(
                    number, sequence, kind, payout_id, affiliate_id, currency, amount, vat, withheld, cancels, day,
                    event.position,
                )
            )  # fmt: skip
    return made


def csv_file(documents: Iterable[Document]) -> Iterator[str]:
    """The register as CSV (RFC 4180), a line at a time; amounts are decimal major units."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    amounts = ("amount", "vat_amount", "withholding_amount")
    fields = ("number", "kind", "issued_on", "payout_id", "affiliate_id", "currency", *amounts, "cancels", "position")
    writer.writerow(fields)
    for one in documents:
        cells = {field: getattr(one, field) for field in fields}
        if one.currency:
            cells |= {field: major_units(cells[field], one.currency) for field in amounts}
        cells["affiliate_id"] = harmless(one.affiliate_id)
        writer.writerow(cells.values())
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


# --- a payout's ----------------------------------------------------------------------------------------------


def credit_notes(
    cur: Rows, program_id: UUID, payouts: Iterable[tuple[str, datetime | None]], now: datetime
) -> dict[str, list[CreditNote]]:
    """Payout id → its credit notes, oldest first, only of those that have one. payouts: ids, and when each was
    initiated: its credit notes can only be of that year and later ones."""
    initiated = {payout_id: at for payout_id, at in payouts if at is not None}
    if not initiated:
        return {}
    # a year of numbers begins at midnight in the program's zone, up to a day from UTC's
    day = timedelta(days=1)
    years = range((min(initiated.values()) - day).year, (now + day).year + 1)
    params = {
        "program_id": program_id,
        "streams": uuid_array(stream_id(program_id, key(year)) for year in years),
        "ids": list(initiated),
    }
    found: dict[str, list[CreditNote]] = {}
    for payout_id, year, number, cancels in cur.execute(QUERIES["select_credit_notes"], params):
        found.setdefault(payout_id, []).append(CreditNote(format_number(year, number), cancels))
    return found
