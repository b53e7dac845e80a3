"""Reversals: some or all of a sale is taken back. Each has its own id, so two are two and a retry is one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import conversion, conversion_state, money
from ledger.domain.conversion import RESERVED_PREFIX, ConversionReversed, ReversalDeferred
from ledger.domain.conversion_state import ConversionState
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound
from ledger.domain.event import Answer, Command, Decision, Draft, Event, in_utc
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved
from ledger.domain.ids import AMOUNT_MAX, check_external_id
from ledger.domain.plans import foreseeing
from ledger.domain.plans.following import following
from ledger.domain.view import Needs, View

REASONS = (
    "returned", "cancelled", "out_of_stock", "order_error", "duplicate", "fraud", "payment_failed", "test", "other",
)  # fmt: skip


class ReversalRecorded(Event, frozen=True):
    """A reversal was reported. sale_amount: minor units of the order's currency; None: all that is left of it."""

    reversal_id: str
    order_id: str
    occurred_at: datetime
    sale_amount: int | None = None
    currency: str | None = None
    reason_code: str = "other"


class ReversalState(Struct):
    """What was reported, and the exception that keeps it from being applied, open or dismissed, if there is one."""

    recorded: ReversalRecorded
    kept_exception: ExceptionRaised | None = None
    exception_open: bool = False


def key(reversal_id: str) -> str:
    """The stream key of a reversal."""
    return f"reversal:{reversal_id}"


def fold(state: ReversalState | None, event: Event) -> ReversalState:
    """ReversalState after an event."""
    if isinstance(event, ReversalRecorded):
        return ReversalState(event)
    assert state is not None
    if isinstance(event, ExceptionRaised):
        state.kept_exception, state.exception_open = event, True
    elif isinstance(event, ExceptionResolved):
        state.exception_open = False
        if event.action == "retry":
            state.kept_exception = None
    return state


class RecordReversal(Command, frozen=True):
    """Take back some (sale_amount, minor units) or all (None) of what is left of an order."""

    name: ClassVar[str] = "record_reversal"
    reversal_id: str
    order_id: str
    occurred_at: datetime
    sale_amount: int | None = None
    currency: str | None = None
    reason_code: str = "other"

    def __post_init__(self) -> None:
        force_setattr(self, "reversal_id", check_external_id("reversal_id", self.reversal_id))
        force_setattr(self, "order_id", check_external_id("order_id", self.order_id))
        if self.reversal_id.startswith(RESERVED_PREFIX):
            raise InvalidInput("reversal_id", f"must not begin with {RESERVED_PREFIX}: such ids are the ledger's own")
        force_setattr(self, "occurred_at", in_utc("occurred_at", self.occurred_at))
        if self.sale_amount is not None and not 0 <= self.sale_amount <= AMOUNT_MAX:
            raise InvalidInput("amount", f"must be from 0 to {AMOUNT_MAX} minor units")
        if self.currency is not None:
            money.exponent("currency", self.currency)
        if self.reason_code not in REASONS:
            raise InvalidInput("reason_code", f"must be one of {', '.join(REASONS)}")

    def needs(self) -> Needs:
        """The reversal and its conversion."""
        return Needs([key(self.reversal_id), conversion.key(self.order_id)])

    def needs_then(self, view: View) -> Needs | None:
        """What a plan counts by."""
        return foreseeing.afterwards(self.order_id, view)

    def decide(self, view: View) -> Decision:
        """ConversionReversed (or ReversalDeferred) and ReversalRecorded, or an exception. Raises
        DiffersFromOriginal."""
        fact = ReversalRecorded(
            reversal_id=self.reversal_id,
            order_id=self.order_id,
            occurred_at=self.occurred_at,
            sale_amount=self.sale_amount,
            currency=self.currency,
            reason_code=self.reason_code,
        )
        was = view.reversal(self.reversal_id)
        # one that was dismissed may be corrected under its own id
        if was is not None and (fact == was.recorded or was.exception_open or was.kept_exception is None):
            return _again(fact, was, view)
        own = key(self.reversal_id)
        sale = view.conversion(self.order_id)
        if self.order_id.startswith(RESERVED_PREFIX) and (sale is None or sale.recorded is None):
            # ids of ours can be foreseen: nobody may reverse what the ledger has not made yet
            raise NotFound(f"conversion {self.order_id} does not exist")
        applied = apply(fact, sale)
        if isinstance(applied, ExceptionRaised):
            return Decision([(own, fact), (own, applied)], Answer("exception", _exception_body(applied)))
        # the reversal's own record comes last, so that its position stands behind all of its effect
        drafts: list[Draft] = [(conversion.key(self.order_id), event) for event in applied]
        return Decision([*drafts, (own, fact), *following(view, drafts)], Answer("recorded", _body(fact)), own=own)


def _body(fact: ReversalRecorded) -> dict[str, object]:
    return {"reversal_id": fact.reversal_id, "order_id": fact.order_id}


def _exception_body(raised: ExceptionRaised) -> dict[str, object]:
    return {"exception_id": raised.exception_id, "type": raised.type, "detail": raised.detail}


def _again(fact: ReversalRecorded, was: ReversalState, view: View) -> Decision:
    differs = [f for f in ReversalRecorded.__struct_fields__ if getattr(was.recorded, f) != getattr(fact, f)]
    if differs:
        raise DiffersFromOriginal(f"reversal {fact.reversal_id}", differs)
    at = view.answered_at(key(fact.reversal_id), ReversalRecorded)
    if was.kept_exception is not None:
        return Decision([], Answer("exception", _exception_body(was.kept_exception), at))
    return Decision([], Answer("unchanged", _body(fact), at))


def apply(fact: ReversalRecorded, state: ConversionState | None) -> Sequence[Event] | ExceptionRaised:
    """What a reversal does to its conversion: ConversionReversed for each commission, or ReversalDeferred; or why it
    cannot be applied."""
    if state is None or state.recorded is None or state.status == "waiting":
        deferred = ReversalDeferred(
            order_id=fact.order_id,
            reversal_id=fact.reversal_id,
            sale_amount=fact.sale_amount,
            currency=fact.currency,
            effective_at=fact.occurred_at,
        )
        return [deferred]
    return _reverse(fact.reversal_id, fact.sale_amount, fact.currency, fact.occurred_at, state, fact)


def _reverse(
    reversal_id: str,
    sale_amount: int | None,
    currency: str | None,
    at: datetime,
    state: ConversionState,
    fact: Struct,
) -> Sequence[Event] | ExceptionRaised:
    assert state.recorded is not None
    sale = state.recorded
    rest = sale.amount - state.reversed_amount
    taken = rest if sale_amount is None else sale_amount
    if currency is not None and currency != sale.currency:
        return _exception(
            reversal_id,
            "currency_mismatch",
            f"order {sale.order_id} is in {sale.currency}, not {currency}",
            state,
            fact,
        )
    if taken > rest:
        detail = f"order {sale.order_id} has {rest} minor units left to reverse, not {taken}"
        return _exception(reversal_id, "reversal_above_rest", detail, state, fact)
    after = state.reversed_amount + taken

    def reversed_by(amount: int, currency: str, bucket: str, affiliate_id: str, level: int) -> ConversionReversed:
        return ConversionReversed(
            order_id=sale.order_id,
            reversal_id=reversal_id,
            amount=amount,
            currency=currency,
            sale_amount=taken,
            effective_at=at,
            bucket=bucket,
            affiliate_id=affiliate_id,
            level=level,
            sale_currency=sale.currency if sale.currency != currency else None,
        )

    events: list[Event] = []
    for one in state.commissions.values():
        back = state.taken_back(one.commission, after) - one.reversed_commission if one.bucket != "none" else 0
        events.append(reversed_by(back, one.currency, one.bucket, one.affiliate_id, one.level))
    return events or [reversed_by(0, sale.currency, "none", "", 1)]


def _exception(reversal_id: str, type_: str, detail: str, state: ConversionState, fact: Struct) -> ExceptionRaised:
    return ExceptionRaised(
        exception_id=key(reversal_id),
        type=type_,
        detail=detail,
        fact=msgspec.to_builtins(fact),
        affiliate_id=state.affiliate_id,
    )


def apply_deferred(state: ConversionState) -> list[Draft]:
    """The reversals that came early, in the order in which they came, once the conversion can take them."""
    drafts: list[Draft] = []
    state = conversion_state.copied(state)
    for early in list(state.deferred.values()):
        events = _reverse(early.reversal_id, early.sale_amount, early.currency, early.effective_at, state, early)
        if isinstance(events, ExceptionRaised):
            drafts.append((key(early.reversal_id), events))
            continue
        for event in events:
            drafts.append((conversion.key(early.order_id), event))
            state = conversion_state.fold(state, event)
    return drafts
