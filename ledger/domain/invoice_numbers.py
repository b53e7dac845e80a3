"""Self-billing invoice numbers: 1, 2, 3 … without a gap, one series a program and year, credit notes included."""

from __future__ import annotations

from msgspec import Struct

from ledger.domain.event import Draft, Event
from ledger.domain.view import View


class InvoiceNumbersTaken(Event, frozen=True):
    """A payout run's invoices have the numbers first … first + count - 1."""

    year: int
    first: int
    count: int
    run_id: str


class CreditNoteIssued(Event, frozen=True):
    """A payout failed or came back: credit note `number` of the year cancels its invoice, whose formatted number is
    in cancels and may be of an earlier year."""

    year: int
    number: int
    payout_id: str
    cancels: str


class InvoiceSeries(Struct):
    """A year's series. next_number: the one to be taken next, from 1."""

    year: int
    next_number: int = 1


def key(year: int) -> str:
    """The stream key of a year's series."""
    return f"invoice_numbers:{year:04}"


def invoice_series(view: View, year: int) -> InvoiceSeries:
    """A year's series; a fresh one if no number was taken yet."""
    state: InvoiceSeries | None = view.state(key(year))
    return state or InvoiceSeries(year)


def format_number(year: int, number: int) -> str:
    """How a number stands on an invoice: 2026-000001."""
    return f"{year:04}-{number:06}"


def take_numbers(view: View, year: int, count: int, run_id: str) -> tuple[int, Draft]:
    """(the first number, the event to append) for a run's invoices. count > 0. Once per command: the view does not
    see what the same command drafts."""
    assert count > 0
    first = invoice_series(view, year).next_number
    return first, (key(year), InvoiceNumbersTaken(year=year, first=first, count=count, run_id=run_id))


def issue_credit_note(view: View, year: int, payout_id: str, cancels: str) -> tuple[int, Draft]:
    """(its number, the event to append) for a credit note that cancels an invoice. Once per command."""
    number = invoice_series(view, year).next_number
    return number, (key(year), CreditNoteIssued(year=year, number=number, payout_id=payout_id, cancels=cancels))


def fold(state: InvoiceSeries | None, event: Event) -> InvoiceSeries:
    """InvoiceSeries after an event."""
    if isinstance(event, InvoiceNumbersTaken):
        return InvoiceSeries(event.year, event.first + event.count)
    assert isinstance(event, CreditNoteIssued)
    return InvoiceSeries(event.year, event.number + 1)
