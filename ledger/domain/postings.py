"""Postings: which transfers an event makes. The one rule for the live books and for their rebuild."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from ledger.domain.adjustment import AdjustmentPosted
from ledger.domain.bank import BankFeeBooked
from ledger.domain.conversion import (
    CommissionAccrued,
    CommissionRepriced,
    ConversionApproved,
    ConversionHeld,
    ConversionRejected,
    ConversionReleased,
    ConversionReversed,
)
from ledger.domain.event import Event
from ledger.domain.payout import PayoutFailed, PayoutInitiated, PayoutReturned, PayoutSettled

COMMISSION = "expense:commission"
ADJUSTMENT = "expense:adjustment"
BANK_FEE = "expense:bank_fee"
PROGRAM_BANK = "asset:bank"  # what the program paid its bank for itself
VAT = "tax:vat"  # input tax on self-billed invoices
WITHHOLDING = "tax:withholding"  # kept back from affiliates, owed to a tax office
BUCKETS = ("pending", "held", "payable", "in_transit")


class Transfer(NamedTuple):
    """amount > 0 minor units of currency, from the credit account to the debit account."""

    debit: str
    credit: str
    amount: int
    currency: str
    effective_at: datetime
    affiliate_id: str


def liability(affiliate_id: str, bucket: str) -> str:
    """The account of what is owed to an affiliate, by bucket."""
    return f"liability:{affiliate_id}:{bucket}"


def bank(affiliate_id: str) -> str:
    """The account whose negative is what the affiliate was paid."""
    return f"asset:bank:{affiliate_id}"


def accounts_of(affiliate_id: str) -> dict[str, str]:
    """Every account of an affiliate, by the name the API gives its balance."""
    return {bucket: liability(affiliate_id, bucket) for bucket in BUCKETS} | {"paid": bank(affiliate_id)}


def owner(account: str) -> str:
    """The affiliate an account belongs to, '' for the program's own."""
    if account.startswith("liability:"):
        return account[len("liability:") :].rpartition(":")[0]
    return account[len("asset:bank:") :] if account.startswith("asset:bank:") else ""


def _accrued(e: CommissionAccrued) -> list[Transfer]:
    bucket = "held" if e.held else "pending"
    credit = f"liability:{e.affiliate_id}:{bucket}"
    return [Transfer(COMMISSION, credit, e.amount, e.currency, e.occurred_at, e.affiliate_id)]


def _repriced(e: CommissionRepriced) -> list[Transfer]:
    debit, credit = COMMISSION, liability(e.affiliate_id, e.bucket)
    if e.amount < 0:
        debit, credit = credit, debit
    return [Transfer(debit, credit, abs(e.amount), e.currency, e.effective_at, e.affiliate_id)]


def _moved(source: str, target: str) -> Callable[[Any], list[Transfer]]:
    """A debit of the bucket it leaves and a credit of the one it enters."""

    def transfers(e: ConversionHeld | ConversionReleased | ConversionApproved) -> list[Transfer]:
        owed = f"liability:{e.affiliate_id}:"
        return [Transfer(owed + source, owed + target, e.amount, e.currency, e.effective_at, e.affiliate_id)]

    return transfers


def _rejected(e: ConversionRejected) -> list[Transfer]:
    debit = liability(e.affiliate_id, "held" if e.was_held else "pending")
    return [Transfer(debit, COMMISSION, e.amount, e.currency, e.effective_at, e.affiliate_id)]


def _reversed(e: ConversionReversed) -> list[Transfer]:
    if e.bucket == "none":
        return []
    debit = f"liability:{e.affiliate_id}:{e.bucket}"
    return [Transfer(debit, COMMISSION, e.amount, e.currency, e.effective_at, e.affiliate_id)]


def _adjusted(e: AdjustmentPosted) -> list[Transfer]:
    debit, credit = ADJUSTMENT, liability(e.affiliate_id, "payable")
    if e.amount < 0:
        debit, credit = credit, debit
    return [Transfer(debit, credit, abs(e.amount), e.currency, e.effective_at, e.affiliate_id)]


def _taxes(e: Any, in_transit: str) -> list[Transfer]:
    """What is transferred besides the commission: VAT on top, withholding taken off."""
    return [
        Transfer(VAT, in_transit, e.vat_amount, e.currency, e.effective_at, e.affiliate_id),
        Transfer(in_transit, WITHHOLDING, e.withholding_amount, e.currency, e.effective_at, e.affiliate_id),
    ]


def _initiated(e: PayoutInitiated | PayoutSettled, amount: int) -> list[Transfer]:
    payable, in_transit = liability(e.affiliate_id, "payable"), liability(e.affiliate_id, "in_transit")
    moved = Transfer(payable, in_transit, amount, e.currency, e.effective_at, e.affiliate_id)
    return [moved, *_taxes(e, in_transit)]


def _settled(e: PayoutSettled) -> list[Transfer]:
    before = _initiated(e, e.gross_amount) if e.after_failure else []
    in_transit = liability(e.affiliate_id, "in_transit")
    return [
        *before,
        Transfer(in_transit, bank(e.affiliate_id), e.amount, e.currency, e.effective_at, e.affiliate_id),
        Transfer(BANK_FEE, PROGRAM_BANK, e.fee_amount, e.currency, e.effective_at, ""),
    ]


def _sent_back(e: PayoutFailed | PayoutReturned) -> list[Transfer]:
    """The transfer's way back, taxes included: to payable from where the money is."""
    payable, in_transit = liability(e.affiliate_id, "payable"), liability(e.affiliate_id, "in_transit")
    place = in_transit if isinstance(e, PayoutFailed) else bank(e.affiliate_id)
    return [
        Transfer(place, payable, e.amount, e.currency, e.effective_at, e.affiliate_id),
        Transfer(place, VAT, e.vat_amount, e.currency, e.effective_at, e.affiliate_id),
        Transfer(WITHHOLDING, place, e.withholding_amount, e.currency, e.effective_at, e.affiliate_id),
    ]


def _fee(e: BankFeeBooked) -> list[Transfer]:
    return [Transfer(BANK_FEE, PROGRAM_BANK, e.amount, e.currency, e.effective_at, "")]


RULES: dict[type[Event], Callable[[Any], list[Transfer]]] = {
    CommissionAccrued: _accrued,
    CommissionRepriced: _repriced,
    ConversionHeld: _moved("pending", "held"),
    ConversionReleased: _moved("held", "pending"),
    ConversionApproved: _moved("pending", "payable"),
    ConversionRejected: _rejected,
    ConversionReversed: _reversed,
    AdjustmentPosted: _adjusted,
    PayoutInitiated: lambda e: _initiated(e, e.amount),
    PayoutSettled: _settled,
    PayoutFailed: _sent_back,
    PayoutReturned: _sent_back,
    BankFeeBooked: _fee,
}


def postings(event: Event) -> list[Transfer]:
    """The transfers of an event, in order; none for one that moves no money. Zero amounts make no line."""
    rule = RULES.get(type(event))
    if rule is None:
        return []
    return [transfer for transfer in rule(event) if transfer.amount]
