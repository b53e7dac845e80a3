"""The stable names of events in the log, and how each stream folds. An allow-list: nothing is imported by name."""

from __future__ import annotations

from ledger.domain import (
    access,
    adjustment,
    affiliate,
    click,
    conversion,
    coupon,
    exceptions,
    offer,
    program,
    reversal,
)
from ledger.domain.event import Event, Fold

EVENTS: tuple[type[Event], ...] = (
    program.ProgramOpened,
    affiliate.AffiliateEnrolled,
    affiliate.AffiliateApproved,
    affiliate.AffiliateSuspended,
    affiliate.AffiliateReinstated,
    affiliate.AffiliateClosed,
    offer.OfferPublished,
    offer.TermsPublished,
    offer.TermsProposed,
    offer.TermsRejected,
    coupon.CouponAssigned,
    click.ClickRecorded,
    conversion.ConversionRecorded,
    conversion.CommissionAccrued,
    conversion.ConversionUnattributed,
    conversion.AttributionDeferred,
    conversion.ConversionHeld,
    conversion.ConversionReleased,
    conversion.ConversionApproved,
    conversion.ConversionRejected,
    conversion.ConversionReversed,
    conversion.ReversalDeferred,
    reversal.ReversalRecorded,
    adjustment.AdjustmentProposed,
    adjustment.AdjustmentPosted,
    adjustment.AdjustmentRejected,
    exceptions.ExceptionRaised,
    exceptions.ExceptionResolved,
    access.KeyIssued,
    access.KeyRevoked,
)

TOPIC_OF: dict[type[Event], str] = {event: event.__name__ for event in EVENTS}
EVENT_OF: dict[str, type[Event]] = {topic: event for event, topic in TOPIC_OF.items()}

# kind (what stands before the ':' of a stream key) → how its stream folds
FOLDS: dict[str, Fold] = {  # type: ignore[type-arg]
    "program": program.fold,
    "affiliate": affiliate.fold,
    "offer": offer.fold,
    "coupon": coupon.fold,
    "conversion": conversion.fold,
    "reversal": reversal.fold,
    "adjustment": adjustment.fold,
    "key": access.fold,
}

# What rarely changes and every decision needs: remembered between batches while master_position stands still.
MASTER_KINDS = frozenset({"program", "affiliate", "offer", "coupon", "key"})
