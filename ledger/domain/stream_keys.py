"""The stream that an event stands in, said by the event itself: for whoever reads the log and was not there when it
was written. Its id must be stream_id(program, key)."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
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
    notice,
    offer,
    paying_account,
    payout,
    payout_method,
    payout_run,
    period,
    program,
    rates,
    restore,
    reversal,
    simulation,
    statement,
    tax,
)
from ledger.domain.event import Event


def _by(key: Callable[..., str], *fields: str) -> Callable[[Any], str]:
    """A key made of some fields of the event."""
    get = attrgetter(*fields)
    return (lambda event: key(get(event))) if len(fields) == 1 else (lambda event: key(*get(event)))


def _always(key: str) -> Callable[[Any], str]:
    return lambda event: key


# An event is on this list, or nothing can be rebuilt from it: tests/test_rebuild_projections.py
_STREAMS: tuple[tuple[tuple[type[Event], ...], Callable[[Any], str]], ...] = (
    ((program.ProgramOpened,), _by(program.key, "program")),
    (
        (
            affiliate.AffiliateEnrolled, affiliate.AffiliateApproved, affiliate.AffiliateSuspended,
            affiliate.AffiliateReinstated, affiliate.AffiliateClosed, affiliate.AffiliateGrouped,
            affiliate.AffiliateRecruited,
        ),
        _by(affiliate.key, "affiliate_id"),
    ),
    ((offer.OfferPublished, offer.TermsPublished, offer.TermsRejected), _by(offer.key, "offer_id")),
    ((offer.TermsProposed,), lambda event: offer.key(event.terms.offer_id)),
    ((coupon.CouponAssigned,), _by(coupon.key, "coupon")),
    ((click.ClickRecorded,), _by(click.key, "click_id")),
    ((impression.ImpressionRecorded,), _by(impression.key, "impression_id")),
    (
        (
            conversion.ConversionRecorded, conversion.CommissionAccrued, conversion.ConversionUnattributed,
            conversion.AttributionDeferred, conversion.ConversionHeld, conversion.ConversionReleased,
            conversion.ConversionApproved, conversion.ConversionRejected, conversion.ConversionReversed,
            conversion.ReversalDeferred, conversion.ConversionAttributed, conversion.CommissionRepriced,
        ),
        _by(conversion.key, "order_id"),
    ),
    ((reversal.ReversalRecorded,), _by(reversal.key, "reversal_id")),
    (
        (adjustment.AdjustmentProposed, adjustment.AdjustmentPosted, adjustment.AdjustmentRejected),
        _by(adjustment.key, "adjustment_id"),
    ),
    ((exceptions.ExceptionRaised, exceptions.ExceptionResolved), lambda event: event.exception_id),
    ((access.KeyIssued, access.KeyRevoked), _by(access.key, "access_key_id")),
    (
        (
            payout_method.PayoutMethodProposed, payout_method.PayoutMethodApproved,
            payout_method.PayoutMethodRejected, payout_method.PayoutMethodWithdrawn,
        ),
        _by(payout_method.key, "affiliate_id", "currency"),
    ),
    ((paying_account.PayingAccountSet,), _by(paying_account.key, "currency")),
    ((tax.TaxRulesProposed, tax.TaxRulesPublished, tax.TaxRulesRejected), _always(tax.RULES_KEY)),
    ((tax.TaxProfileRecorded,), _by(tax.profile_key, "affiliate_id")),
    ((invoice_numbers.InvoiceNumbersTaken, invoice_numbers.CreditNoteIssued), _by(invoice_numbers.key, "year")),
    ((notice.NoticeQueued, notice.NoticeSent, notice.NoticeFailed), _by(notice.key, "notice_id")),
    (
        (breaks.BreakOpened, breaks.BreakChanged, breaks.BreakAssigned, breaks.BreakResolved, breaks.BreakReopened),
        _by(breaks.key, "break_id"),
    ),
    (
        (
            dispute.DisputeOpened, dispute.DisputeAnswered, dispute.DisputeAccepted, dispute.DisputeRejected,
            dispute.DisputeWithdrawn,
        ),
        _by(dispute.key, "dispute_id"),
    ),
    ((restore.BooksRestored, restore.BankMatched), _always(restore.KEY)),
    (
        (period.PeriodClosed, period.PeriodReissued, period.AffiliateTreesRecorded, period.StatementsIssued),
        _always(period.KEY),
    ),
    ((statement.StatementIssued,), _by(statement.key, "affiliate_id", "period")),
    (
        (
            payout_run.PayoutRunBegun, payout_run.PayoutsLeftOut, payout_run.PayoutRunProposed,
            payout_run.PayoutRunEmpty, payout_run.PayoutRunApproved, payout_run.PayoutRunRejected,
            payout_run.PayoutRunInitiationBegun, payout_run.PayoutRunInitiated, payout_run.PayoutFilesRendered,
        ),
        _by(payout_run.key_of, "run_id"),
    ),
    (
        (
            payout.PayoutProposed, payout.PayoutExcluded, payout.PayoutInitiated, payout.PayoutSettled,
            payout.PayoutFailed, payout.PayoutReturned, payout.PayoutUnknown, payout.PayoutConfirmed,
        ),
        _by(payout.key, "payout_id"),
    ),
    ((bank.BankLineRecorded, bank.BankFeeBooked), _by(bank.line_key, "line_id")),
    ((bank.BankStatementImported,), _by(bank.statement_key, "statement_id")),
    ((erasure.ErasureProposed, erasure.SubjectErased, erasure.ErasureRejected), _by(erasure.key, "subject")),
    ((rates.RateRecorded,), _by(rates.key, "base", "quote")),
    ((click_tally.ClicksTallied,), _always(click_tally.KEY)),
    (
        (
            simulation.SimulationProposed, simulation.SimulationApproved, simulation.SimulationRejected,
            simulation.SimulationApplied,
        ),
        _by(simulation.key, "simulation_id"),
    ),
)  # fmt: skip
KEYS: dict[type[Event], Callable[[Any], str]] = {event: key for events, key in _STREAMS for event in events}


def stream_key(event: Event) -> str:
    """The key "kind:external-id" of an event's stream. Raises KeyError for an event that is not on the list."""
    return KEYS[type(event)](event)
