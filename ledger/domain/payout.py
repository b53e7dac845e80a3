"""A payout: one transfer to one affiliate. Proposed in a run → initiated → settled, failed, returned, or unknown.

Its id is what the bank is told (the end-to-end id), and it is never sent under another. An unknown payout stays in
transit until a bank line, or a person with a reason, says what became of it.
"""

from __future__ import annotations

import base64
from datetime import date, datetime
from hashlib import sha256
from zoneinfo import ZoneInfo

from msgspec import Struct

from ledger.domain import invoice_numbers, notice
from ledger.domain.errors import InvalidInput
from ledger.domain.event import Draft, Event
from ledger.domain.period import day_start
from ledger.domain.view import Needs, View

METHODS = ("sepa", "paypal", "wise", "manual")


class PayoutProposed(Event, frozen=True):
    """A line of a run. amount: what leaves the payable balance, minor units; owed_amount: what the run's cut says is
    owed (more than amount where reversals came since); amount + vat_amount - withholding_amount is transferred.
    fingerprint: of the bank details it goes to."""

    payout_id: str
    run_id: str
    affiliate_id: str
    currency: str
    method: str
    method_version: int
    fingerprint: str
    amount: int
    owed_amount: int
    vat_amount: int = 0
    withholding_amount: int = 0
    tax_rules_version: int = 0


class PayoutExcluded(Event, frozen=True):
    """Taken out of its run before the money left. code: by_hand, affiliate_suspended, payout_method_changed,
    payable_fell, paid_already (by a line of the bank's); reason is ciphertext."""

    payout_id: str
    run_id: str
    affiliate_id: str
    code: str
    reason: str = ""


class PayoutInitiated(Event, frozen=True):
    """The money is on its way: payable → in_transit. invoice_number: of the self-billing invoice."""

    payout_id: str
    run_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    invoice_number: str
    vat_amount: int = 0
    withholding_amount: int = 0


class PayoutSettled(Event, frozen=True):
    """The bank booked it. amount: what was transferred; fee_amount: what the bank took from the program for it.
    after_failure: it had been taken for failed, and leaves the payable balance again (gross_amount and the taxes)."""

    payout_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    fee_amount: int = 0
    bank_line_id: str = ""
    reason: str = ""
    after_failure: bool = False
    gross_amount: int = 0
    vat_amount: int = 0
    withholding_amount: int = 0
    invoice_number: str = ""


class PayoutFailed(Event, frozen=True):
    """It never left: in_transit → payable. amount: what becomes payable again. reason is ciphertext."""

    payout_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    vat_amount: int = 0
    withholding_amount: int = 0
    bank_line_id: str = ""
    reason: str = ""


class PayoutReturned(Event, frozen=True):
    """It came back after it was settled: bank → payable. amount: what becomes payable again."""

    payout_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    vat_amount: int = 0
    withholding_amount: int = 0
    bank_line_id: str = ""
    reason: str = ""


class PayoutConfirmed(Event, frozen=True):
    """The bank's line for what a person had said of it already."""

    payout_id: str
    affiliate_id: str
    bank_line_id: str


class PayoutUnknown(Event, frozen=True):
    """Nobody knows whether the bank took it. The funds stay in transit. reason is ciphertext."""

    payout_id: str
    affiliate_id: str
    reason: str = ""


class PayoutState(Struct):
    """status: proposed, excluded, initiated, unknown, settled, failed or returned."""

    proposed: PayoutProposed
    status: str = "proposed"
    code: str = ""
    invoice_number: str = ""
    initiated_at: datetime | None = None
    ended_at: datetime | None = None
    bank_line_id: str = ""
    fee_amount: int = 0
    decisions: int = 0

    @property
    def transfer_amount(self) -> int:
        """What the affiliate's account receives, minor units."""
        return transfer_amount(self.proposed)


_STATUS: dict[type[Event], str] = {
    PayoutExcluded: "excluded",
    PayoutInitiated: "initiated",
    PayoutSettled: "settled",
    PayoutFailed: "failed",
    PayoutReturned: "returned",
    PayoutUnknown: "unknown",
}


def transfer_amount(proposed: PayoutProposed) -> int:
    """What is transferred for a payout, minor units."""
    return proposed.amount + proposed.vat_amount - proposed.withholding_amount


def payout_id(program: str, run_id: str, affiliate_id: str) -> str:
    """The id of a run's payout to an affiliate, 26 characters of A-Z and 2-7: short and plain enough for every bank."""
    digest = sha256(f"{program}\n{run_id}\n{affiliate_id}".encode()).digest()
    return "PO" + base64.b32encode(digest[:15]).decode()


def key(payout_id: str) -> str:
    """The stream key of a payout."""
    return f"payout:{payout_id}"


def payout(view: View, payout_id: str) -> PayoutState | None:
    """A payout."""
    state: PayoutState | None = view.state(key(payout_id))
    return state


def fold(state: PayoutState | None, event: Event) -> PayoutState:
    """PayoutState after an event."""
    if isinstance(event, PayoutProposed):
        return PayoutState(event)
    assert state is not None
    state.status = _STATUS.get(type(event), state.status)
    state.decisions += 1
    match event:
        case PayoutExcluded():
            state.code = event.code
        case PayoutInitiated():
            state.invoice_number, state.initiated_at = event.invoice_number, event.effective_at
        case PayoutSettled() | PayoutFailed() | PayoutReturned():
            state.ended_at, state.bank_line_id = event.effective_at, event.bank_line_id
            if isinstance(event, PayoutSettled):
                state.fee_amount = event.fee_amount
                state.invoice_number = event.invoice_number or state.invoice_number
                if event.after_failure:  # it left the payable balance only now
                    state.initiated_at = event.effective_at
        case PayoutConfirmed():
            state.bank_line_id = event.bank_line_id
    return state


def excluded(state: PayoutState, code: str, reason: str = "") -> PayoutExcluded:
    """The event that takes a payout out of its run."""
    p = state.proposed
    return PayoutExcluded(payout_id=p.payout_id, run_id=p.run_id, affiliate_id=p.affiliate_id, code=code, reason=reason)


# --- outcomes ----------------------------------------------------------------------------------------------


def booked_at(state: PayoutState, booked_on: date | None, view: View) -> datetime:
    """The instant an outcome takes effect: the beginning of the bank's booking day in the program's zone, but not
    before what the payout went through already (banks know days only), and not in the future. Raises InvalidInput."""
    assert view.program is not None
    at = view.now if booked_on is None else day_start(booked_on, view.program.zone)
    if at > view.now:
        raise InvalidInput("booked_on", "must not be in the future")
    return max(at, state.initiated_at or at, state.ended_at or at)


def check_day(field: str, day: date) -> None:
    """A day that begins in every zone in a year we can name. Raises InvalidInput."""
    if not 2 <= day.year <= 9998:
        raise InvalidInput(field, "must be a day of the years 2 to 9998")


def invoice_year(view: View) -> int:
    """The year, in the program's zone, whose numbers an invoice takes now."""
    assert view.program is not None
    return view.now.astimezone(ZoneInfo(view.program.zone)).year


def outcome_needs(view: View, payout_id: str) -> Needs:
    """What an outcome's credit note or invoice is numbered by, and the notices that it may queue."""
    told = [notice.key(notice_id(payout_id, what)) for what in ("payout_failed", "payout_returned") if payout_id]
    return Needs([invoice_numbers.key(invoice_year(view)), *told])


def notice_id(payout_id: str, what: str) -> str:
    """The id of a payout's notice. what: its template."""
    return f"payout/{payout_id}/{what}"


def settled(
    state: PayoutState, at: datetime, view: View, *, fee_amount: int = 0, line_id: str = "", reason: str = ""
) -> list[Draft]:
    """The drafts of a settlement; of a payout that had been taken for failed, with a new invoice number."""
    p = state.proposed
    failed = state.status == "failed"
    drafts: list[Draft] = []
    number = ""
    if failed:  # its first invoice was cancelled
        year = invoice_year(view)
        first, taken = invoice_numbers.take_numbers(view, year, 1, p.run_id)
        number = invoice_numbers.format_number(year, first)
        drafts.append(taken)
    event = PayoutSettled(
        payout_id=p.payout_id,
        affiliate_id=p.affiliate_id,
        amount=state.transfer_amount,
        currency=p.currency,
        effective_at=at,
        fee_amount=fee_amount,
        bank_line_id=line_id,
        reason=reason,
        after_failure=failed,
        gross_amount=p.amount if failed else 0,
        vat_amount=p.vat_amount if failed else 0,
        withholding_amount=p.withholding_amount if failed else 0,
        invoice_number=number,
    )
    return [*drafts, (key(p.payout_id), event)]


def sent_back(
    state: PayoutState,
    event_type: type[PayoutFailed] | type[PayoutReturned],
    at: datetime,
    view: View,
    *,
    line_id: str = "",
    reason: str = "",
) -> list[Draft]:
    """The drafts of a failure or return: the amount is payable again, and a credit note cancels the invoice."""
    p = state.proposed
    event = event_type(
        payout_id=p.payout_id,
        affiliate_id=p.affiliate_id,
        amount=p.amount,
        currency=p.currency,
        effective_at=at,
        vat_amount=p.vat_amount,
        withholding_amount=p.withholding_amount,
        bank_line_id=line_id,
        reason=reason,
    )
    note = invoice_numbers.issue_credit_note(view, invoice_year(view), p.payout_id, state.invoice_number)[1]
    what = "payout_failed" if event_type is PayoutFailed else "payout_returned"
    facts: dict[str, str | int] = {
        "payout_id": p.payout_id, "amount": state.transfer_amount, "currency": p.currency,
    }  # fmt: skip
    told = notice.queue(notice_id(p.payout_id, what), p.affiliate_id, what, facts)
    return [note, told, (key(p.payout_id), event)]
