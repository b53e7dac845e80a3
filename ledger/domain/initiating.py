"""Sending an approved run on its way: each line as the truth allows at that moment, then the files."""

from __future__ import annotations

from datetime import date
from typing import ClassVar
from zoneinfo import ZoneInfo

from ledger.domain import affiliate, bank, breaks, invoice_numbers, notice, payout, payout_method
from ledger.domain.errors import InvalidInput, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft
from ledger.domain.payout import PayoutInitiated, PayoutState, excluded, invoice_year
from ledger.domain.payout_run import (
    FileFacts,
    PayoutFilesRendered,
    PayoutRunInitiated,
    PayoutRunInitiationBegun,
    key_of,
    must,
    refuse_while_blocked,
)
from ledger.domain.restore import KEY as RESTORES_KEY
from ledger.domain.view import Needs, View

MOST_AHEAD_DAYS = 60


class BeginInitiation(Command, frozen=True):
    """Send an approved run on its way. execution_on: the day on which the bank shall pay, not before today."""

    name: ClassVar[str] = "begin_initiation"
    run_id: str
    execution_on: date | None = None

    def needs(self) -> Needs:
        """The run, and whether a restore forbids payouts."""
        return Needs([key_of(self.run_id), RESTORES_KEY])

    def decide(self, view: View) -> Decision:
        """PayoutRunInitiationBegun. Raises NotFound, WrongState."""
        state, stream = must(view, self.run_id), key_of(self.run_id)
        body = {"run_id": self.run_id, "status": "initiating"}
        if state.status in ("initiating", "initiated"):
            body["status"] = state.status
            at = view.answered_at(stream, PayoutRunInitiationBegun, PayoutRunInitiated, run_id=self.run_id)
            return Decision([], Answer("unchanged", body, at))
        if state.status != "approved":
            raise WrongState(f"payout run {self.run_id} is {state.status}: it must be approved first")
        refuse_while_blocked(view)
        assert view.program is not None
        today = view.now.astimezone(ZoneInfo(view.program.zone)).date()
        if self.execution_on is not None and not 0 <= (self.execution_on - today).days <= MOST_AHEAD_DAYS:
            raise InvalidInput("execution_on", f"must be a day from today to {MOST_AHEAD_DAYS} days ahead")
        begun = PayoutRunInitiationBegun(
            run_id=self.run_id, execution_on=self.execution_on or today, created_at=view.now.replace(microsecond=0)
        )
        return Decision([(stream, begun)], Answer("recorded", body))


class InitiatePayouts(Command, frozen=True):
    """Some lines of a run on their way, each as the truth now allows: initiated, or excluded with the reason."""

    name: ClassVar[str] = "initiate_payouts"
    run_id: str
    payout_ids: list[str]

    @property
    def record_count(self) -> int:
        """One for each payout."""
        return len(self.payout_ids)

    def needs(self) -> Needs:
        """The run and the payouts."""
        return Needs([key_of(self.run_id), RESTORES_KEY, *(payout.key(id_) for id_ in self.payout_ids)])

    def needs_then(self, view: View) -> Needs | None:
        """Their affiliates, what is payable to them, their notices, and the year's invoice numbers."""
        streams, payables = [invoice_numbers.key(invoice_year(view))], []
        for state in self._payouts(view):
            p = state.proposed
            streams += (
                affiliate.key(p.affiliate_id), payout_method.key(p.affiliate_id, p.currency),
                notice.key(payout.notice_id(p.payout_id, "payout_initiated")),
                breaks.key(bank.early_debit_id(p.payout_id)),
            )  # fmt: skip
            payables.append((p.affiliate_id, p.currency))
        return Needs(streams, payables=payables)

    def decide(self, view: View) -> Decision:
        """InvoiceNumbersTaken for those that leave; PayoutInitiated or PayoutExcluded each; nothing once the run is
        initiated. Raises NotFound, WrongState."""
        state = must(view, self.run_id)
        body = {"run_id": self.run_id}
        if state.status == "initiated":
            # whoever initiated it at the same time was quicker
            return Decision([], Answer("unchanged", body))
        if state.status != "initiating":
            raise WrongState(f"payout run {self.run_id} is {state.status}", status=state.status)
        refuse_while_blocked(view)
        waiting = [p for p in self._payouts(view) if p.status == "proposed"]
        codes = [_objection(view, one) for one in waiting]
        drafts: list[Draft] = [
            (payout.key(one.proposed.payout_id), excluded(one, code))
            for one, code in zip(waiting, codes, strict=True)
            if code
        ]
        leaving = [one for one, code in zip(waiting, codes, strict=True) if not code]
        if leaving:
            year = invoice_year(view)
            first, taken = invoice_numbers.take_numbers(view, year, len(leaving), self.run_id)
            drafts.append(taken)
            for number, one in enumerate(leaving, first):
                drafts += _initiated(one, invoice_numbers.format_number(year, number), view)
        return Decision(drafts, Answer("recorded" if drafts else "unchanged", body))

    def _payouts(self, view: View) -> list[PayoutState]:
        """Those of this run, which is the one that was approved; each once."""
        found = (payout.payout(view, id_) for id_ in dict.fromkeys(self.payout_ids))
        return [one for one in found if one is not None and one.proposed.run_id == self.run_id]


def _objection(view: View, state: PayoutState) -> str:
    """Why a line's money must not leave after all, '' if nothing is against it."""
    p = state.proposed
    if breaks.break_(view, bank.early_debit_id(p.payout_id)) is not None:
        return "paid_already"  # by the bank's own lines: after a restore these books may not know
    who = view.affiliate(p.affiliate_id)
    if who is None or who.status == "suspended":
        return "affiliate_suspended"
    methods = payout_method.payout_method(view, p.affiliate_id, p.currency)
    version = methods.in_force(view.now) if methods else None
    if version is None or (version.method_version, version.fingerprint) != (p.method_version, p.fingerprint):
        return "payout_method_changed"
    return "payable_fell" if view.payable(p.affiliate_id, p.currency) < p.amount else ""


def _initiated(state: PayoutState, invoice_number: str, view: View) -> list[Draft]:
    p = state.proposed
    event = PayoutInitiated(
        payout_id=p.payout_id,
        run_id=p.run_id,
        affiliate_id=p.affiliate_id,
        amount=p.amount,
        currency=p.currency,
        effective_at=view.now,
        invoice_number=invoice_number,
        vat_amount=p.vat_amount,
        withholding_amount=p.withholding_amount,
    )
    facts: dict[str, str | int] = {
        "payout_id": p.payout_id, "amount": state.transfer_amount, "currency": p.currency,
    }  # fmt: skip
    told = notice.queue(payout.notice_id(p.payout_id, "payout_initiated"), p.affiliate_id, "payout_initiated", facts)
    return [(payout.key(p.payout_id), event), told]


class FinishInitiation(Command, frozen=True):
    """Every line is decided: state what was sent."""

    name: ClassVar[str] = "finish_initiation"
    run_id: str
    payout_count: int
    excluded_count: int
    amount: int
    transfer_amount: int

    def needs(self) -> Needs:
        """The run."""
        return Needs([key_of(self.run_id)])

    def decide(self, view: View) -> Decision:
        """PayoutRunInitiated, once. Raises NotFound, WrongState."""
        state, stream = must(view, self.run_id), key_of(self.run_id)
        body = {"run_id": self.run_id, "status": "initiated"}
        if state.status == "initiated":
            at = view.answered_at(stream, PayoutRunInitiated, run_id=self.run_id)
            return Decision([], Answer("unchanged", body, at))
        if state.status != "initiating":
            raise WrongState(f"payout run {self.run_id} is {state.status}", status=state.status)
        assert state.proposed is not None
        if self.payout_count + self.excluded_count != state.proposed.payout_count:
            raise WrongState(f"payout run {self.run_id} has other lines than were approved")
        fields = {field: getattr(self, field) for field in self.__struct_fields__}
        return Decision([(stream, PayoutRunInitiated(**fields))], Answer("recorded", body))


class RecordFiles(Command, frozen=True):
    """The run's files are written. The same files again change nothing; others are refused."""

    name: ClassVar[str] = "record_payout_files"
    run_id: str
    files: list[FileFacts]

    def needs(self) -> Needs:
        """The run."""
        return Needs([key_of(self.run_id), RESTORES_KEY])

    def decide(self, view: View) -> Decision:
        """PayoutFilesRendered, once. Raises NotFound, WrongState when totals or bytes are not the run's."""
        state, stream = must(view, self.run_id), key_of(self.run_id)
        body = {"run_id": self.run_id, "files": [one.name for one in self.files]}
        if state.status != "initiated" or state.initiated is None:
            raise WrongState(f"payout run {self.run_id} is {state.status}: initiate it first", status=state.status)
        refuse_while_blocked(view)
        if state.rendered:
            if state.files != self.files:
                raise WrongState(f"the files of payout run {self.run_id} came out otherwise before")
            at = view.answered_at(stream, PayoutFilesRendered, run_id=self.run_id)
            return Decision([], Answer("unchanged", body, at))
        if view.decided_payouts(self.run_id):
            # they would stand in the file all the same, and be paid, or paid again
            raise WrongState(f"payouts of run {self.run_id} are decided: no file can be made of it any more")
        totals = (sum(one.count for one in self.files), sum(one.control_sum for one in self.files))
        if totals != (state.initiated.payout_count, state.initiated.transfer_amount):
            raise WrongState(f"the files of payout run {self.run_id} do not add up to the run")
        return Decision([(stream, PayoutFilesRendered(run_id=self.run_id, files=self.files))], Answer("recorded", body))
