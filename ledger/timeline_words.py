"""One plain sentence for each event of a timeline. No free text, no bank details, no names of staff but where a key or
a break is given to somebody: those sentences are for staff only."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ledger.domain import (
    access,
    adjustment,
    affiliate,
    bank,
    breaks,
    click,
    click_tally,
    conversion,
    coupon,
    dispute,
    erasure,
    exceptions,
    impression,
    invoice_numbers,
    money,
    notice,
    payout,
    payout_method,
    payout_run,
    reversal,
    statement,
    tax,
)
from ledger.domain.event import Event


def _money(amount: int | None, currency: str | None) -> str:
    if amount is None:
        return "nothing stated"
    return f"{money.major_units(amount, currency)} {currency}" if currency else f"{amount} minor units"


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _sale(e: conversion.ConversionRecorded) -> str:
    return f"Order {e.order_id} of {_money(e.amount, e.currency)} on offer {e.offer_id} was recorded."


def _accrued(e: conversion.CommissionAccrued) -> str:
    what_next = "is held back for now" if e.held else f"matures at {_at(e.matures_at)}"
    owed = _money(e.amount, e.currency)
    return f"A commission of {owed} on order {e.order_id} was credited to {e.affiliate_id}; it {what_next}."


def _attributed(e: conversion.ConversionAttributed) -> str:
    who = ", ".join(dict.fromkeys(one.touch.affiliate_id for one in e.touches))
    return f"Order {e.order_id} was attributed ({e.model.replace('_', ' ')}): {who or 'by no touch'}."


def _repriced(e: conversion.CommissionRepriced) -> str:
    cause = {"tier_reached": "a tier was reached", "tier_lost": "a tier was lost"}.get(e.cause, f"of a {e.cause}")
    owed, moved = _money(e.commission, e.currency), _money(abs(e.amount), e.currency)
    change = f"{moved} more" if e.amount >= 0 else f"{moved} less"
    return f"The commission of {e.affiliate_id} on order {e.order_id} is {owed} now, because {cause}: {change} is owed."


def _approved(e: conversion.ConversionApproved) -> str:
    how = "by hand" if e.by_hand else "because it matured"
    return f"The commission on order {e.order_id} was approved {how}: {_money(e.amount, e.currency)} is payable."


def _reversed(e: conversion.ConversionReversed) -> str:
    sale, owed = _money(e.sale_amount, e.sale_currency or e.currency), _money(e.amount, e.currency)
    return f"{sale} of order {e.order_id} was reversed ({e.reversal_id}), which took back {owed} of the commission."


def _deferred(e: conversion.ReversalDeferred) -> str:
    return f"Reversal {e.reversal_id} of order {e.order_id} is kept until the order can take it."


def _reversal(e: reversal.ReversalRecorded) -> str:
    how_much = "All that is left" if e.sale_amount is None else _money(e.sale_amount, e.currency)
    return f"{how_much} of order {e.order_id} was reported as reversed ({e.reason_code.replace('_', ' ')})."


def _settled(e: payout.PayoutSettled) -> str:
    back = ", although it had been taken for failed" if e.after_failure else ""
    return f"Payout {e.payout_id} of {_money(e.amount, e.currency)} was settled{back}."


def _initiated(e: payout.PayoutInitiated) -> str:
    sent = _money(e.amount + e.vat_amount - e.withholding_amount, e.currency)
    return f"Payout {e.payout_id} was sent on its way: {sent}, invoice {e.invoice_number}."


def _proposed(e: payout.PayoutProposed) -> str:
    return f"A payout of {_money(payout.transfer_amount(e), e.currency)} was proposed in run {e.run_id}."


def _rendered(e: payout_run.PayoutFilesRendered) -> str:
    files = ", ".join(f"{one.name} (SHA-256 {one.sha256})" for one in e.files) or "no file: every payout was excluded"
    return f"The files of run {e.run_id} were made: {files}."


def _statement(e: statement.StatementIssued) -> str:
    return f"Version {e.version} of the statement for {e.period} was issued, with hash {e.hash}."


def _method(what: str) -> Callable[[Any], str]:
    return lambda e: f"Version {e.method_version} of the payout method in {e.currency} was {what}."


def _bank_line(e: bank.BankLineRecorded) -> str:
    said = f"The bank's line {e.line_id} of {e.booked_on}, {_money(e.amount, e.currency)}, was read: {e.outcome}"
    return f"{said} {e.break_id}." if e.break_id else f"{said}."


def _break(what: str) -> Callable[[Any], str]:
    return lambda e: f"{what}: {e.detail}"


WORDS: dict[type[Event], Callable[[Any], str]] = {
    affiliate.AffiliateEnrolled: lambda e: f"{e.affiliate_id} applied.",
    affiliate.AffiliateApproved: lambda e: f"{e.affiliate_id} was approved: it earns from now on.",
    affiliate.AffiliateSuspended: lambda e: f"{e.affiliate_id} was suspended: commissions are held from now on.",
    affiliate.AffiliateReinstated: lambda e: f"{e.affiliate_id} was reinstated.",
    affiliate.AffiliateClosed: lambda e: f"{e.affiliate_id} was closed: it earns nothing new.",
    affiliate.AffiliateGrouped: lambda e: (
        f"{e.affiliate_id} is in {f'the group {e.group}' if e.group else 'no group'} from {_at(e.effective_from)} on."
    ),
    affiliate.AffiliateRecruited: lambda e: f"{e.affiliate_id} was recruited by {e.recruiter_id}.",
    coupon.CouponAssigned: lambda e: f"Coupon {e.coupon} credits {e.affiliate_id} on offer {e.offer_id}.",
    click.ClickRecorded: lambda e: f"A click of {e.affiliate_id}'s link to offer {e.offer_id} was recorded.",
    click_tally.ClicksTallied: lambda e: (
        f"The clicks up to position {e.until} of the traffic log were counted: {e.click_count} of them are paid for."
    ),
    impression.ImpressionRecorded: lambda e: f"Offer {e.offer_id} was seen at {e.affiliate_id}'s.",
    conversion.ConversionRecorded: _sale,
    conversion.ConversionAttributed: _attributed,
    conversion.CommissionAccrued: _accrued,
    conversion.CommissionRepriced: _repriced,
    conversion.ConversionUnattributed: lambda e: f"Nobody is credited with order {e.order_id}.",
    conversion.AttributionDeferred: lambda e: (
        f"Order {e.order_id} waits for its click, until {_at(e.until)} at the latest."
    ),
    conversion.ConversionHeld: lambda e: f"The commission on order {e.order_id} was held back.",
    conversion.ConversionReleased: lambda e: f"The commission on order {e.order_id} was let go.",
    conversion.ConversionApproved: _approved,
    conversion.ConversionRejected: lambda e: (
        f"The commission on order {e.order_id} was rejected: {_money(e.amount, e.currency)} is not owed after all."
    ),
    conversion.ConversionReversed: _reversed,
    conversion.ReversalDeferred: _deferred,
    reversal.ReversalRecorded: _reversal,
    adjustment.AdjustmentProposed: lambda e: (
        f"A {e.kind} of {_money(e.amount, e.currency)} for {e.affiliate_id} was proposed."
    ),
    adjustment.AdjustmentPosted: lambda e: (
        f"The adjustment of {_money(e.amount, e.currency)} for {e.affiliate_id} was approved and posted."
    ),
    adjustment.AdjustmentRejected: lambda e: f"The adjustment for {e.affiliate_id} was rejected.",
    exceptions.ExceptionRaised: lambda e: f"{e.exception_id} could not be applied ({e.type.replace('_', ' ')}).",
    exceptions.ExceptionResolved: lambda e: (
        f"{e.exception_id} was applied after all." if e.action == "retry" else f"{e.exception_id} was dismissed."
    ),
    access.KeyIssued: lambda e: f"An access key of the role {e.role} was issued.",
    access.KeyRevoked: lambda e: "An access key was revoked.",
    payout_method.PayoutMethodProposed: _method("proposed"),
    payout_method.PayoutMethodApproved: lambda e: (
        f"Version {e.method_version} of the payout method in {e.currency} was approved, in force from"
        f" {_at(e.effective_from)}."
    ),
    payout_method.PayoutMethodRejected: _method("rejected"),
    payout_method.PayoutMethodWithdrawn: _method("withdrawn"),
    tax.TaxProfileRecorded: lambda e: f"A tax profile was recorded: {e.tax_status} in {e.country}.",
    invoice_numbers.InvoiceNumbersTaken: lambda e: (
        f"Run {e.run_id} took the invoice numbers {e.first} to {e.first + e.count - 1} of {e.year}."
    ),
    invoice_numbers.CreditNoteIssued: lambda e: f"Credit note {e.number} of {e.year} cancelled invoice {e.cancels}.",
    notice.NoticeQueued: lambda e: f"A message was prepared: {e.template.replace('_', ' ')}.",
    notice.NoticeSent: lambda e: "The message was handed to the mail server.",
    notice.NoticeFailed: lambda e: (
        f"Attempt {e.attempt} to send the message failed{'' if e.retry_at else '; it was given up'}."
    ),
    breaks.BreakOpened: _break("A difference was found"),
    breaks.BreakChanged: _break("The difference has other figures"),
    breaks.BreakAssigned: lambda e: f"The difference was given to {e.owner}.",
    breaks.BreakResolved: lambda e: f"The difference was resolved: {e.resolution}, cause {e.cause}.",
    breaks.BreakReopened: _break("The difference is back"),
    dispute.DisputeOpened: lambda e: (
        f"Line {e.position}.{e.line_no} of the statement for {e.period} was disputed by {e.affiliate_id}."
    ),
    dispute.DisputeAnswered: lambda e: "The dispute was answered.",
    dispute.DisputeAccepted: lambda e: (
        "The dispute was accepted: "
        + ("an adjustment was proposed." if e.adjustment_id else "the held commission is let go.")
    ),
    dispute.DisputeRejected: lambda e: "The dispute was rejected: the line stands.",
    dispute.DisputeWithdrawn: lambda e: "The dispute was withdrawn.",
    statement.StatementIssued: _statement,
    payout_run.PayoutRunBegun: lambda e: f"Run {e.run_id} was begun, by what was known at position {e.cut_position}.",
    payout_run.PayoutRunProposed: lambda e: (
        f"Run {e.run_id} was proposed: {e.payout_count} payouts, hash {e.hash} (amounts in all: {e.transfer_amount})."
    ),
    payout_run.PayoutRunApproved: lambda e: f"Run {e.run_id} was approved, exactly as hash {e.hash}.",
    payout_run.PayoutRunRejected: lambda e: f"Run {e.run_id} was rejected.",
    payout_run.PayoutRunInitiationBegun: lambda e: f"Run {e.run_id} is being sent, to be paid on {e.execution_on}.",
    payout_run.PayoutRunInitiated: lambda e: (
        f"Run {e.run_id} was sent: {e.payout_count} payouts, {e.excluded_count} left out."
    ),
    payout_run.PayoutFilesRendered: _rendered,
    payout.PayoutProposed: _proposed,
    payout.PayoutExcluded: lambda e: f"Payout {e.payout_id} was taken out of run {e.run_id}; its amount stays payable.",
    payout.PayoutInitiated: _initiated,
    payout.PayoutSettled: _settled,
    payout.PayoutFailed: lambda e: f"Payout {e.payout_id} failed: {_money(e.amount, e.currency)} is payable again.",
    payout.PayoutReturned: lambda e: (
        f"Payout {e.payout_id} came back: {_money(e.amount, e.currency)} is payable again."
    ),
    payout.PayoutConfirmed: lambda e: f"The bank's line {e.bank_line_id} confirmed what was known of {e.payout_id}.",
    payout.PayoutUnknown: lambda e: f"Nobody knows yet whether payout {e.payout_id} was carried out; it is reserved.",
    erasure.ErasureProposed: lambda e: f"It was proposed to destroy the key of the personal data of {e.subject}.",
    erasure.SubjectErased: lambda e: f"The key of the personal data of {e.subject} was destroyed.",
    erasure.ErasureRejected: lambda e: f"The key of the personal data of {e.subject} is kept.",
    bank.BankLineRecorded: _bank_line,
    bank.BankFeeBooked: lambda e: f"The bank charged {_money(e.amount, e.currency)} (line {e.line_id}).",
}


def sentence(event: Event) -> str:
    """What happened, in a sentence; for an event without words of its own, its name's."""
    words = WORDS.get(type(event))
    if words is not None:
        return words(event)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).capitalize() + "."
