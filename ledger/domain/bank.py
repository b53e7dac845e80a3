"""What the bank says: its lines matched to payouts by end-to-end id and amount, and whatever does not match, a break.

A bank line is decided once; the same line in another file changes nothing. Only an exact match moves money.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import ClassVar

from msgspec import Struct

from ledger.domain import breaks, money, payout
from ledger.domain.errors import InvalidInput
from ledger.domain.event import Answer, Command, Decision, Draft, Event, own_last
from ledger.domain.ids import AMOUNT_MAX, check_external_id
from ledger.domain.payout import PayoutConfirmed, PayoutReturned, PayoutState, booked_at, outcome_needs
from ledger.domain.period import day_start
from ledger.domain.view import Needs, View


class BankLineRecorded(Event, frozen=True):
    """A line of the program's account, in minor units; below zero money left. outcome: settled, returned, confirmed,
    fee, or break (break_id says which). text is ciphertext."""

    line_id: str
    booked_on: date
    amount: int
    currency: str
    outcome: str
    payout_id: str = ""
    break_id: str = ""
    charges: int = 0
    text: str = ""


class BankFeeBooked(Event, frozen=True):
    """A charge of the bank outside of a payout's settlement: a line of its own, or kept from what came back."""

    line_id: str
    amount: int
    currency: str
    effective_at: datetime


class BankStatementImported(Event, frozen=True):
    """A statement was read to its end. account: a keyed fingerprint; amounts: minor units, None where it says none."""

    statement_id: str
    account: str
    currency: str
    line_count: int
    break_count: int
    booked_from: date | None = None
    booked_until: date | None = None
    opening_amount: int | None = None
    closing_amount: int | None = None


class BankLineState(Struct):
    """A line as it was decided."""

    recorded: BankLineRecorded


class BankStatementState(Struct):
    """A statement that was imported."""

    imported: BankStatementImported


def line_key(line_id: str) -> str:
    """The stream key of a bank line."""
    return f"bank_line:{line_id}"


def statement_key(statement_id: str) -> str:
    """The stream key of a bank statement."""
    return f"bank_statement:{statement_id}"


def fold_line(state: BankLineState | None, event: Event) -> BankLineState:
    """BankLineState after an event; a fee's booking follows its line."""
    if isinstance(event, BankLineRecorded):
        return BankLineState(event)
    assert state is not None
    return state


def fold_statement(state: BankStatementState | None, event: Event) -> BankStatementState:
    """BankStatementState after an event."""
    assert isinstance(event, BankStatementImported)
    return BankStatementState(event)


def early_debit_id(payout_id: str) -> str:
    """The break that says: the bank paid this before these books sent it. Such a payout is never sent."""
    return breaks.id_of("bank", "unknown_line", payout_id)


def _early_return_id(payout_id: str) -> str:
    return breaks.id_of("bank", "return_before_settlement", payout_id)


def _effective_at(state: PayoutState, booked_on: date | None, view: View) -> datetime:
    """The same as payout.booked_at, but now where it is ahead of us: the bank's day may have begun before ours."""
    assert view.program is not None
    ahead = booked_on is not None and day_start(booked_on, view.program.zone) > view.now
    return booked_at(state, None if ahead else booked_on, view)


class RecordBankLine(Command, frozen=True):
    """Decide one line. line_id: stable for the line, whichever file it comes in; end_to_end_id: '' without one;
    kind: payment, return, fee or other, as far as the bank says; charges: inside amount; text: sealed."""

    name: ClassVar[str] = "record_bank_line"
    line_id: str
    booked_on: date
    amount: int
    currency: str
    end_to_end_id: str = ""
    kind: str = "other"
    charges: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        check_external_id("line_id", self.line_id)
        payout.check_day("booked_on", self.booked_on)
        money.exponent("currency", self.currency)
        if self.amount == 0 or abs(self.amount) > AMOUNT_MAX or not 0 <= self.charges <= abs(self.amount):
            raise InvalidInput("amount", "must be minor units other than 0, and not less than the charges in it")

    def needs(self) -> Needs:
        """The line, the payout it names, and a return of it that came too early."""
        keys = [line_key(self.line_id)]
        if self.end_to_end_id:
            keys += (payout.key(self.end_to_end_id), breaks.key(_early_return_id(self.end_to_end_id)))
            keys.append(breaks.key(early_debit_id(self.end_to_end_id)))
        return Needs(keys)

    def needs_then(self, view: View) -> Needs | None:
        """The year's invoice numbers, the notice, and the break that the line may be."""
        need = outcome_needs(view, self.end_to_end_id)
        need.streams += [breaks.key(breaks.id_of("bank", type_, self.line_id)) for type_ in breaks.BANK_TYPES]
        return need

    def decide(self, view: View) -> Decision:
        """BankLineRecorded, with what follows from it. Raises InvalidInput for a day that has not come."""
        stream = line_key(self.line_id)
        was: BankLineState | None = view.state(stream)
        if was is not None:
            body = {"line_id": self.line_id, "outcome": was.recorded.outcome, "break_id": was.recorded.break_id}
            return Decision([], Answer("unchanged", body, view.answered_at(stream, BankLineRecorded)))
        assert view.program is not None
        if day_start(self.booked_on, view.program.zone) > view.now + timedelta(days=1):
            raise InvalidInput("booked_on", "must not be in the future")
        state = payout.payout(view, self.end_to_end_id) if self.end_to_end_id else None
        if self.kind == "fee" and self.amount < 0 and (state is not None or not self.end_to_end_id):
            outcome, break_id, drafts = self._fee(view)  # also one that names the payout it was taken for
        else:
            outcome, break_id, drafts = self._outcome(state, view)
        recorded = BankLineRecorded(
            line_id=self.line_id,
            booked_on=self.booked_on,
            amount=self.amount,
            currency=self.currency,
            outcome=outcome,
            payout_id=self.end_to_end_id if state else "",
            break_id=break_id,
            charges=self.charges,
            text=view.seal("program", stream, "text", self.text) if outcome == "break" else "",
        )
        body = {"line_id": self.line_id, "outcome": outcome, "break_id": break_id}
        return Decision(own_last([(stream, recorded), *drafts], stream), Answer("recorded", body))

    def _fee(self, view: View) -> tuple[str, str, list[Draft]]:
        assert view.program is not None
        at = min(day_start(self.booked_on, view.program.zone), view.now)
        fee = BankFeeBooked(line_id=self.line_id, amount=-self.amount, currency=self.currency, effective_at=at)
        return "fee", "", [(line_key(self.line_id), fee)]

    def _outcome(self, state: PayoutState | None, view: View) -> tuple[str, str, list[Draft]]:
        """(outcome, break id, what follows)."""
        if state is None:
            return self._break("unknown_line", "no payout has the end-to-end id of this line", None, view)
        expected = state.transfer_amount
        if self.currency != state.proposed.currency:
            return self._break("currency_differs", f"the payout is in {state.proposed.currency}", state, view)
        if self.amount < 0:
            return self._left(state, expected, view)
        return self._came_back(state, expected, view)

    def _left(self, state: PayoutState, expected: int, view: View) -> tuple[str, str, list[Draft]]:
        if state.status in ("settled", "returned"):
            if state.status == "settled" and self._confirms(state, -self.amount, expected + state.fee_amount):
                return self._confirmed(state)
            return self._break("duplicate", f"the payout is {state.status} already", state, view)
        if state.status not in ("initiated", "unknown", "failed"):
            return self._break("unknown_line", f"the payout is {state.status}: its money should not move", state, view)
        if -self.amount != expected and -self.amount - self.charges != expected:
            type_ = "partial" if -self.amount < expected else "wrong_amount"
            return self._break(type_, "the amount is not the payout's", state, view)
        fee = -self.amount - expected
        at = _effective_at(state, self.booked_on, view)
        drafts = payout.settled(state, at, view, fee_amount=fee, line_id=self.line_id)
        early = breaks.break_(view, _early_return_id(self.end_to_end_id))
        if early is not None and early.status == "open" and state.status != "failed":
            return "settled", "", [*drafts, *self._return_now(state, at, early, view)]
        return "settled", "", drafts

    def _return_now(self, state: PayoutState, at: datetime, early: breaks.BreakState, view: View) -> list[Draft]:
        """The return that had come before its settlement takes effect after all."""
        returned_at = max(at, _effective_at(state, early.opened.occurred_on, view))
        closed = breaks.close_break(view, _early_return_id(self.end_to_end_id), "matched", "timing")
        line_id = early.opened.reference
        return [
            *payout.sent_back(state, PayoutReturned, returned_at, view, line_id=line_id),
            *([closed] if closed else []),
        ]

    def _came_back(self, state: PayoutState, expected: int, view: View) -> tuple[str, str, list[Draft]]:
        if state.status in ("returned", "failed"):
            if state.status == "returned" and self._confirms(state, self.amount, expected):
                return self._confirmed(state)
            return self._break("duplicate", f"the payout is {state.status} already", state, view)
        if self.charges and self.amount + self.charges == expected and state.status == "settled":
            # the bank kept its charge for the way back
            at = _effective_at(state, self.booked_on, view)
            fee = BankFeeBooked(line_id=self.line_id, amount=self.charges, currency=self.currency, effective_at=at)
            drafts = payout.sent_back(state, PayoutReturned, at, view, line_id=self.line_id)
            return "returned", "", [*drafts, (line_key(self.line_id), fee)]
        if self.amount != expected:
            type_ = "partial" if self.amount < expected else "wrong_amount"
            return self._break(type_, "the amount that came back is not the payout's", state, view)
        if state.status == "settled":
            at = _effective_at(state, self.booked_on, view)
            return "returned", "", payout.sent_back(state, PayoutReturned, at, view, line_id=self.line_id)
        if state.status in ("initiated", "unknown"):
            if breaks.break_(view, _early_return_id(self.end_to_end_id)) is not None:
                return self._break("duplicate", "another line says that the payout came back", state, view)
            detail = "the payout came back before its payment was seen"
            return self._break("return_before_settlement", detail, state, view)
        return self._break("unknown_line", f"the payout is {state.status}: its money should not move", state, view)

    @staticmethod
    def _confirms(state: PayoutState, amount: int, expected: int) -> bool:
        """Whether the line is the one behind what a person said before it came."""
        return not state.bank_line_id and amount == expected

    def _confirmed(self, state: PayoutState) -> tuple[str, str, list[Draft]]:
        p = state.proposed
        event = PayoutConfirmed(payout_id=p.payout_id, affiliate_id=p.affiliate_id, bank_line_id=self.line_id)
        return "confirmed", "", [(payout.key(p.payout_id), event)]

    def _break(self, type_: str, detail: str, state: PayoutState | None, view: View) -> tuple[str, str, list[Draft]]:
        early = type_ == "return_before_settlement"
        if early:
            break_id = _early_return_id(self.end_to_end_id)
        elif type_ == "unknown_line" and self.amount < 0 and self.end_to_end_id:
            break_id = early_debit_id(self.end_to_end_id)
            if breaks.break_(view, break_id) is not None:  # and once more
                type_, break_id = "duplicate", breaks.id_of("bank", "duplicate", self.line_id)
        else:
            break_id = breaks.id_of("bank", type_, self.line_id)
        expected = 0 if type_ == "duplicate" else state.transfer_amount if state else None
        draft = breaks.open_break(
            view,
            break_id=break_id,
            source="bank",
            type=type_,
            detail=detail,
            affiliate_id=state.proposed.affiliate_id if state else "",
            reference=self.line_id if early or state is None else self.end_to_end_id,
            expected_amount=expected,
            found_amount=abs(self.amount),
            currency=self.currency,
            text=self.text,
            occurred_on=self.booked_on,
        )
        return "break", break_id, [draft] if draft else []


class RecordBankStatement(Command, frozen=True):
    """All lines of a statement are decided."""

    name: ClassVar[str] = "record_bank_statement"
    statement: BankStatementImported

    def needs(self) -> Needs:
        """The statement."""
        return Needs([statement_key(self.statement.statement_id)])

    def decide(self, view: View) -> Decision:
        """BankStatementImported, once."""
        stream = statement_key(self.statement.statement_id)
        body = {"statement_id": self.statement.statement_id}
        if view.state(stream) is not None:
            return Decision([], Answer("unchanged", body, view.answered_at(stream, BankStatementImported)))
        return Decision([(stream, self.statement)], Answer("recorded", body))
