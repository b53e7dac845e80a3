"""Payout runs, payouts and bank statements, as the OpenAPI document describes them. Amounts are minor units."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from msgspec import Struct

from api.documents.books import Posting, StoryEvent
from api.documents.problems import Position
from ledger.projections.invoices import CreditNote

RunStatus = Literal["begun", "nothing_to_pay", "proposed", "approved", "rejected", "initiating", "initiated"]
PayoutStatus = Literal["proposed", "excluded", "initiated", "unknown", "settled", "failed", "returned"]


class RunAnswer(Struct, omit_defaults=True):
    """A run after the command. nothing_to_pay without a run_id: nobody is owed anything, and there is no run. hash:
    what a second person approves."""

    run_id: str
    status: RunStatus
    position: Position
    payout_count: int = 0
    amount: int = 0
    transfer_amount: int = 0
    left_out_count: int = 0
    hash: str = ""


class RunListed(Struct):
    """A run in a list. Its cut: what was recorded up to cut_position and happened before ends_at."""

    run_id: str
    period: str
    currency: str
    method: str
    attempt: int
    status: RunStatus
    cut_position: int
    ends_at: datetime
    position: Position


class Runs(Struct):
    """A page of payout runs."""

    items: list[RunListed]
    next: str | None


class RunTotal(Struct):
    """A run's payouts in one status. fee_amount: what the bank charged the program."""

    status: PayoutStatus
    payout_count: int
    amount: int
    transfer_amount: int
    vat_amount: int
    withholding_amount: int
    fee_amount: int


class PayoutFile(Struct):
    """A rendered file. control_sum: of its payments, read back from its bytes."""

    name: str
    sha256: str
    count: int
    control_sum: int


class RunDocument(Struct, omit_defaults=True):
    """A payout run. The figures beside the hash are those that were proposed; totals are as of now. decided_by: who
    approved or rejected it; reason: of a rejection, null once erased."""

    run_id: str
    period: str
    currency: str
    method: str
    attempt: int
    status: RunStatus
    cut_position: int
    ends_at: datetime
    proposed_by: str
    position: Position
    totals: list[RunTotal]
    files: list[PayoutFile]
    left_out_count: int
    payout_count: int = 0
    amount: int = 0
    transfer_amount: int = 0
    hash: str = ""
    decided_by: str = ""
    decided_at: datetime | None = None
    reason: str | None = None
    execution_on: date | None = None


class RenderAnswer(Struct):
    """The run's files, which come out the same whenever they are rendered again."""

    run_id: str
    files: list[PayoutFile]
    position: Position


class LeftOutLine(Struct):
    """Who is owed money and is not paid by a run, and why: a code."""

    affiliate_id: str
    amount: int
    reason: str


class LeftOut(Struct):
    """A page of those whom a run leaves out."""

    items: list[LeftOutLine]
    next: str | None


class PayoutListed(Struct):
    """A payout as it stands. amount: what leaves the payable balance; transfer_amount: with VAT, less what is
    withheld; fingerprint: of the bank details that it goes to; reason: why it was excluded, a code."""

    payout_id: str
    run_id: str
    affiliate_id: str
    currency: str
    method: str
    method_version: int
    fingerprint: str
    status: PayoutStatus
    amount: int
    owed_amount: int
    vat_amount: int
    withholding_amount: int
    transfer_amount: int
    fee_amount: int
    invoice_number: str
    reason: str
    initiated_at: datetime | None
    ended_at: datetime | None
    bank_line_id: str
    position: Position


class Payouts(Struct):
    """A page of payouts, in the order of their ids."""

    items: list[PayoutListed]
    next: str | None


class SentPayout(Struct):
    """A payout as its affiliate sees it."""

    payout_id: str
    currency: str
    method: str
    status: PayoutStatus
    amount: int
    vat_amount: int
    withholding_amount: int
    transfer_amount: int
    invoice_number: str
    initiated_at: datetime
    ended_at: datetime | None
    position: Position


class SentPayouts(Struct):
    """A page of an affiliate's payouts, newest first."""

    items: list[SentPayout]
    next: str | None


class PayoutEvent(StoryEvent, omit_defaults=True):
    """An event of a payout. reason: what a person said, null once erased."""

    lines: list[Posting] = []
    reason: str | None = None


class PayoutDocument(Struct):
    """A payout and everything that happened to it, oldest first. credit_notes: they cancel its invoices."""

    payout_id: str
    run_id: str
    affiliate_id: str
    currency: str
    method: str
    method_version: int
    fingerprint: str
    status: PayoutStatus
    amount: int
    owed_amount: int
    vat_amount: int
    withholding_amount: int
    transfer_amount: int
    fee_amount: int
    invoice_number: str
    reason: str
    initiated_at: datetime | None
    ended_at: datetime | None
    bank_line_id: str
    credit_notes: list[CreditNote]
    events: list[PayoutEvent]
    position: Position


class PayoutDecision(Struct):
    """A payout's status after the decision."""

    payout_id: str
    status: PayoutStatus
    position: Position


# --- the bank ------------------------------------------------------------------------------------------------


class FileReread(PayoutFile):
    """A file made again and read again. as_rendered: its bytes are those that were rendered first."""

    as_rendered: bool


class BankTotal(Struct):
    """The bank's lines about a run's payouts, by what became of them. amount: below zero money left."""

    outcome: Literal["settled", "returned", "fee", "break"]
    line_count: int
    amount: int


class Difference(Struct):
    """Two of the three views: files: what was sent, by the books and in the files; settled, returned: what left
    (bank's fees included) and came back, by the books and by the bank's lines. difference: found less expected."""

    name: Literal["files", "settled", "returned"]
    expected_amount: int
    found_amount: int
    difference: int


class OpenBreak(Struct):
    """An open difference about one of the run's payouts."""

    break_id: str
    type: str
    detail: str
    affiliate_id: str
    reference: str
    expected_amount: int | None
    found_amount: int | None
    currency: str
    owner: str
    opened_at: datetime
    age_days: int


class RunReconciliation(Struct):
    """A run in three views: the books, its files, the bank. in_transit_amount: what is on its way and nobody has
    settled yet; file_problem: why the files could not be made again, else ''; apart: ids of payouts of which books and
    bank say different sums, at most a hundred."""

    run_id: str
    currency: str
    status: RunStatus
    ledger: list[RunTotal]
    files: list[FileReread]
    file_problem: str
    bank: list[BankTotal]
    in_transit_amount: int
    differences: list[Difference]
    apart: list[str]
    open_breaks: list[OpenBreak]


class RefusedLine(Struct):
    """A line that was not taken, and why."""

    line_id: str
    detail: str


class StatementImported(Struct):
    """What became of a statement's lines. outcomes: settled, returned, fee, break → how many; unchanged: how many were
    known already; notes: what could not be checked; position: 0 while lines are refused."""

    statement_id: str
    currency: str
    line_count: int
    outcomes: dict[str, int]
    unchanged: int
    refused: list[RefusedLine]
    break_ids: list[str]
    notes: list[str]
    position: Position


class BankImportAnswer(Struct):
    """What became of a bank's file."""

    statements: list[StatementImported]


class BankStatementDocument(Struct):
    """A statement that was imported. account: a keyed fingerprint; amounts null where it says none."""

    statement_id: str
    account: str
    currency: str
    line_count: int
    break_count: int
    booked_from: date | None
    booked_until: date | None
    opening_amount: int | None
    closing_amount: int | None
    position: Position


class BankStatements(Struct):
    """A page of imported statements."""

    items: list[BankStatementDocument]
    next: str | None
