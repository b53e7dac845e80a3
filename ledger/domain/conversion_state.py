"""What a conversion's events add up to: the sale, and the commissions of all who are credited with it."""

from __future__ import annotations

from copy import copy
from datetime import datetime
from typing import Any

from msgspec import Struct

from ledger.domain import money
from ledger.domain.conversion import (
    AttributionDeferred,
    CommissionAccrued,
    CommissionRepriced,
    ConversionApproved,
    ConversionAttributed,
    ConversionHeld,
    ConversionRecorded,
    ConversionRejected,
    ConversionReleased,
    ConversionReversed,
    ConversionUnattributed,
    ReversalDeferred,
    Step,
)
from ledger.domain.event import Event
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved


class Commission(Struct):
    """One affiliate's commission on a conversion. commission: accrued, with what was topped up; the rest is what was
    taken back of it. credited_amount: its part of the sale. steps: of the tier tables that pay it, by rule."""

    affiliate_id: str
    level: int
    currency: str
    status: str
    commission: int
    credited_amount: int
    matures_at: datetime
    accrued: CommissionAccrued | None
    reversed_commission: int = 0
    held_by_suspension: bool = False
    released_at: datetime | None = None
    steps: dict[str, int] = {}

    @property
    def outstanding(self) -> int:
        """Accrued and not taken back, minor units."""
        return 0 if self.status == "rejected" else self.commission - self.reversed_commission

    @property
    def bucket(self) -> str:
        """Where the outstanding commission stands: pending, held, payable, or none."""
        return _BUCKET_OF.get(self.status, "none")

    @property
    def due_at(self) -> datetime:
        """From when on it may be paid."""
        return self.matures_at if self.released_at is None else max(self.matures_at, self.released_at)


_BUCKET_OF = {"pending": "pending", "held": "held", "approved": "payable"}
STATUS_OF_BUCKET = {bucket: status for status, bucket in _BUCKET_OF.items()}
# what a conversion is called whose commissions stand differently: the first of these that one of them is
_PRECEDENCE = ("held", "pending", "approved", "rejected", "reversed")
CommissionKey = tuple[str, int]  # (affiliate id, level)


class ConversionState(Struct):
    """recorded None: only an exception (kept_exception) or early reversals so far. commissions: in the order in which
    they accrued, the lead's first."""

    recorded: ConversionRecorded | None = None
    standing: str = "none"  # the status while no commission has accrued
    commissions: dict[CommissionKey, Commission] = {}
    attributed: ConversionAttributed | None = None
    reversed_amount: int = 0
    last_reversal_id: str = ""
    waits_until: datetime | None = None
    deferred: dict[str, ReversalDeferred] = {}  # by reversal id, in the order in which they came
    steps: list[Step] = []
    answer: dict[str, Any] | None = None
    answers_accrual: bool = False
    decisions: int = 0
    kept_exception: ExceptionRaised | None = None
    exception_open: bool = False

    @property
    def status(self) -> str:
        """See ledger.domain.conversion; 'none' before it is recorded."""
        if not self.commissions:
            return self.standing
        if len(self.commissions) == 1:
            return next(iter(self.commissions.values())).status
        found = {one.status for one in self.commissions.values()}
        return next(status for status in _PRECEDENCE if status in found)

    @property
    def lead(self) -> Commission | None:
        """The commission that accrued first, None before there is one."""
        return next(iter(self.commissions.values()), None)

    @property
    def accrued(self) -> CommissionAccrued | None:
        """The lead's accrual."""
        return self.lead.accrued if self.lead is not None else None

    @property
    def affiliate_id(self) -> str:
        """The lead's, '' before a commission accrued."""
        return self.lead.affiliate_id if self.lead is not None else ""

    @property
    def commission(self) -> int:
        """Accrued for all, minor units."""
        return sum(one.commission for one in self.commissions.values())

    @property
    def reversed_commission(self) -> int:
        """Taken back from all, minor units."""
        return sum(one.reversed_commission for one in self.commissions.values())

    @property
    def outstanding(self) -> int:
        """Accrued and not taken back, of all, minor units."""
        return sum(one.outstanding for one in self.commissions.values())

    def kept(self, commission: int) -> int:
        """What is left of a commission after the reversals so far. Of a sale of nothing all is reversed or nothing."""
        return commission - self.taken_back(commission, self.reversed_amount) if self.last_reversal_id else commission

    def taken_back(self, commission: int, reversed_amount: int) -> int:
        """What is taken back of a commission once reversed_amount of the sale is: rounded half up, so that the parts
        always sum to the whole. The whole sale takes back the whole commission."""
        assert self.recorded is not None
        whole = self.recorded.amount
        return commission if reversed_amount == whole else money.round_half_up(commission * reversed_amount, whole)


def copied(state: ConversionState) -> ConversionState:
    """A copy that can be folded on without changing the original."""
    other = copy(state)
    other.commissions = {key: copy(one) for key, one in state.commissions.items()}
    other.deferred = dict(state.deferred)
    return other


def fold(state: ConversionState | None, event: Event) -> ConversionState:
    """ConversionState after an event."""
    state = state or ConversionState()
    match event:
        case ConversionRecorded():
            state.recorded = event
        case CommissionAccrued():
            _fold_accrued(state, event)
        case ConversionAttributed():
            state.attributed = event
        case CommissionRepriced():
            _fold_repriced(state, event)
        case ConversionReversed():
            _fold_reversed(state, event)
        case ConversionUnattributed():
            state.standing, state.waits_until, state.steps = "unattributed", None, event.steps
            _keep_answer(state, answer_unattributed(event))
        case AttributionDeferred():
            state.standing, state.waits_until = "waiting", event.until
            _keep_answer(state, answer_waiting(event))
        case ReversalDeferred():
            state.deferred[event.reversal_id] = event
        case ExceptionRaised():
            state.kept_exception, state.exception_open = event, True
        case ExceptionResolved():
            # a dismissed one stays: whoever sends the same fact again is told the same again
            state.exception_open = False
            if event.action == "retry":
                state.kept_exception = None
        case _:
            _fold_decision(state, event)
    return state


def _keep_answer(state: ConversionState, body: dict[str, Any]) -> None:
    """The first answer is the one that a retry gets again."""
    if state.answer is None:
        state.answer = body


def _fold_accrued(state: ConversionState, event: CommissionAccrued) -> None:
    pricing = event.pricing
    priced = pricing.rules if pricing is not None else ()
    state.commissions[event.affiliate_id, event.level] = Commission(
        event.affiliate_id,
        event.level,
        event.currency,
        "held" if event.held else "pending",
        event.amount,
        event.sale_amount if event.credited_amount is None else event.credited_amount,
        event.matures_at,
        event,
        held_by_suspension=event.held,
        steps={rule.rule: rule.tier.step for rule in priced if rule.tier is not None},
    )
    state.waits_until = None
    if state.answer is None:
        state.answer, state.answers_accrual = answer_accrued([event]), True
    elif state.answers_accrual:
        state.answer = answer_accrued([one.accrued for one in state.commissions.values() if one.accrued is not None])


def _fold_repriced(state: ConversionState, event: CommissionRepriced) -> None:
    one = state.commissions.get((event.affiliate_id, event.level))
    if one is None:
        one = state.commissions[event.affiliate_id, event.level] = Commission(
            event.affiliate_id,
            event.level,
            event.currency,
            STATUS_OF_BUCKET.get(event.bucket, "rejected"),
            0,
            event.credited_amount or 0,
            event.matures_at or event.effective_at,
            None,
            held_by_suspension=event.suspended,
        )
    # what is not moved was taken back already, by the reversals so far
    one.reversed_commission += event.commission - one.commission - event.amount
    one.commission = event.commission
    if event.credited_amount is not None:
        one.credited_amount = event.credited_amount
    if event.step is not None:
        one.steps = {**one.steps, event.rule: event.step}


def _fold_reversed(state: ConversionState, event: ConversionReversed) -> None:
    if event.reversal_id != state.last_reversal_id:
        state.reversed_amount += event.sale_amount
        state.last_reversal_id = event.reversal_id
    state.deferred.pop(event.reversal_id, None)
    one = state.commissions.get((event.affiliate_id, event.level))
    if one is None:
        return
    one.reversed_commission += event.amount
    sale = state.recorded
    if sale is not None and state.reversed_amount == sale.amount and one.status in _BUCKET_OF:
        one.status = "reversed"


def _fold_decision(state: ConversionState, event: Event) -> None:
    state.decisions += 1
    assert isinstance(event, ConversionHeld | ConversionReleased | ConversionApproved | ConversionRejected)
    one = state.commissions.get((event.affiliate_id, event.level))
    if one is None:
        return
    match event:
        case ConversionHeld():
            one.status, one.held_by_suspension = "held", False
        case ConversionReleased():
            one.status, one.held_by_suspension, one.released_at = "pending", False, event.effective_at
        case ConversionApproved():
            one.status = "approved"
        case ConversionRejected():
            one.status = "rejected"


def answer_accrued(events: list[CommissionAccrued]) -> dict[str, Any]:
    """What the sender of a conversion is told once commissions accrued: the lead's, or the sum of several."""
    lead = events[0]
    body: dict[str, Any] = {
        "order_id": lead.order_id,
        "status": "held" if any(one.held for one in events) else "pending",
        "affiliate_id": lead.affiliate_id,
        "commission": sum(one.amount for one in events),
        "currency": lead.currency,
        "matures_at": lead.matures_at,
    }
    if len(events) > 1:
        body["shares"] = [
            {"affiliate_id": one.affiliate_id, "level": one.level, "commission": one.amount} for one in events
        ]
    return body


def answer_unattributed(event: ConversionUnattributed) -> dict[str, Any]:
    """What the sender is told when nobody is credited."""
    return {"order_id": event.order_id, "status": "unattributed", "steps": event.steps}


def answer_waiting(event: AttributionDeferred) -> dict[str, Any]:
    """What the sender is told while the click is awaited."""
    return {"order_id": event.order_id, "status": "waiting", "until": event.until}


def released(state: ConversionState, one: Commission, at: datetime, reason: str = "") -> ConversionReleased:
    """The release of all that is held of a commission."""
    assert state.recorded is not None
    return ConversionReleased(
        order_id=state.recorded.order_id,
        affiliate_id=one.affiliate_id,
        amount=one.outstanding,
        currency=one.currency,
        effective_at=at,
        reason=reason,
        level=one.level,
    )
