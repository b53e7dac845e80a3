"""A conversion's events and what they add up to.

waiting → pending ⇄ held, pending → approved, pending or held → rejected, any → reversed; or unattributed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from ledger.domain import money
from ledger.domain.event import Event
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved


class Step(Struct, frozen=True, omit_defaults=True, gc=False):
    """One step of attribution. rule: click_id, coupon, affiliate_id or last_click; result: matched, or why not."""

    rule: str
    result: str
    affiliate_id: str | None = None


class Item(Struct, frozen=True, omit_defaults=True, gc=False):
    """A line of an order. amount: minor units of the order's currency, for the whole line."""

    sku: str
    quantity: int = 1
    amount: int = 0
    category: str | None = None


class ConversionRecorded(Event, frozen=True):
    """The sale, as its merchant told it. amount: minor units."""

    order_id: str
    offer_id: str
    amount: int
    currency: str
    occurred_at: datetime
    customer_id: str | None = None
    click_id: str | None = None
    coupon: str | None = None
    affiliate_id: str | None = None
    event_id: str | None = None
    channel: str | None = None
    country: str | None = None
    items: list[Item] = []


class CommissionAccrued(Event, frozen=True):
    """A commission is owed. amount: minor units of currency; sale_amount: what it was computed from.

    Everything that explains it stands here: the steps of attribution, the click with its instant, position
    (0: known by its signature alone) and leaf hash, the traffic position seen, the terms version and rate, and
    rounding_e4: what rounding added, in ten-thousandths of a minor unit.
    """

    order_id: str
    affiliate_id: str
    offer_id: str
    amount: int
    currency: str
    sale_amount: int
    occurred_at: datetime
    matures_at: datetime
    terms_version: int
    traffic_position: int
    steps: list[Step]
    held: bool = False
    rate_bps: int | None = None
    rounding_e4: int = 0
    click_id: str | None = None
    clicked_at: datetime | None = None
    click_position: int | None = None
    click_leaf: str | None = None


class ConversionUnattributed(Event, frozen=True):
    """Nobody is credited: every step of attribution failed."""

    order_id: str
    traffic_position: int
    steps: list[Step]


class AttributionDeferred(Event, frozen=True):
    """The click_id was not seen yet: attribution is tried again until the wait ends."""

    order_id: str
    click_id: str
    until: datetime
    traffic_position: int


class ConversionHeld(Event, frozen=True):
    """The commission still owed is held back. reason is ciphertext."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    reason: str = ""


class ConversionReleased(Event, frozen=True):
    """The hold is over."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    reason: str = ""


class ConversionApproved(Event, frozen=True):
    """The commission may be paid: it matured (effective_at is matures_at), or somebody decided earlier."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    by_hand: bool = False
    reason: str = ""


class ConversionRejected(Event, frozen=True):
    """The commission is not owed after all. was_held: it came out of held, not pending."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    was_held: bool = False
    reason: str = ""


class ConversionReversed(Event, frozen=True):
    """Some or all of the sale was taken back. amount: of the commission; sale_amount: of the sale.

    bucket: where the commission came out of (pending, held, payable), or 'none'.
    """

    order_id: str
    reversal_id: str
    amount: int
    currency: str
    sale_amount: int
    effective_at: datetime
    bucket: str
    affiliate_id: str = ""


class ReversalDeferred(Event, frozen=True):
    """A reversal came before its conversion could take it. sale_amount None: all of it."""

    order_id: str
    reversal_id: str
    sale_amount: int | None
    currency: str | None
    effective_at: datetime


class ConversionState(Struct):
    """recorded None: only an exception (kept_exception) or early reversals so far. commission: accrued; the rest is
    what was taken back of it. status: see the module's first line ('none' before it is recorded)."""

    recorded: ConversionRecorded | None = None
    status: str = "none"
    accrued: CommissionAccrued | None = None
    affiliate_id: str = ""
    commission: int = 0
    reversed_amount: int = 0
    reversed_commission: int = 0
    waits_until: datetime | None = None
    deferred: dict[str, ReversalDeferred] = {}  # by reversal id, in the order in which they came
    held_by_suspension: bool = False
    released_at: datetime | None = None
    steps: list[Step] = []
    answer: dict[str, Any] | None = None
    decisions: int = 0
    kept_exception: ExceptionRaised | None = None
    exception_open: bool = False

    @property
    def outstanding(self) -> int:
        """Commission accrued and not taken back, minor units."""
        return 0 if self.status == "rejected" else self.commission - self.reversed_commission

    @property
    def bucket(self) -> str:
        """Where the outstanding commission stands: pending, held, payable, or none."""
        return {"pending": "pending", "held": "held", "approved": "payable"}.get(self.status, "none")

    def commission_of(self, sale_amount: int) -> int:
        """What reversing sale_amount more takes back: cumulative and rounded half up, so that the parts always
        sum to the whole. The whole sale takes back the whole commission."""
        assert self.recorded is not None
        whole = self.recorded.amount
        after = self.reversed_amount + sale_amount
        due = self.commission if after == whole else money.round_half_up(self.commission * after, whole)
        return due - self.reversed_commission


def key(order_id: str) -> str:
    """The stream key of a conversion."""
    return f"conversion:{order_id}"


def fold(state: ConversionState | None, event: Event) -> ConversionState:
    """ConversionState after an event."""
    state = state or ConversionState()
    match event:
        case ConversionRecorded():
            state.recorded = event
        case CommissionAccrued():
            state.accrued = event
            state.status = "held" if event.held else "pending"
            state.held_by_suspension = event.held
            state.commission, state.affiliate_id = event.amount, event.affiliate_id
            state.waits_until = None
            _keep_answer(state, answer_accrued(event))
        case ConversionReversed():
            state.reversed_amount += event.sale_amount
            state.reversed_commission += event.amount
            state.deferred.pop(event.reversal_id, None)
            assert state.recorded is not None
            if state.reversed_amount == state.recorded.amount and state.status in (
                "pending",
                "held",
                "approved",
            ):
                state.status = "reversed"
        case ConversionUnattributed():
            state.status, state.waits_until, state.steps = "unattributed", None, event.steps
            _keep_answer(state, answer_unattributed(event))
        case AttributionDeferred():
            state.status, state.waits_until = "waiting", event.until
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


def _fold_decision(state: ConversionState, event: Event) -> None:
    state.decisions += 1
    match event:
        case ConversionHeld():
            state.status, state.held_by_suspension = "held", False
        case ConversionReleased():
            state.status, state.held_by_suspension, state.released_at = "pending", False, event.effective_at
        case ConversionApproved():
            state.status = "approved"
        case ConversionRejected():
            state.status = "rejected"
        case _:
            raise AssertionError(event)


def answer_accrued(event: CommissionAccrued) -> dict[str, Any]:
    """What the sender of a conversion is told once a commission accrued."""
    return {
        "order_id": event.order_id,
        "status": "held" if event.held else "pending",
        "affiliate_id": event.affiliate_id,
        "commission": event.amount,
        "currency": event.currency,
        "matures_at": event.matures_at,
    }


def answer_unattributed(event: ConversionUnattributed) -> dict[str, Any]:
    """What the sender is told when nobody is credited."""
    return {"order_id": event.order_id, "status": "unattributed", "steps": event.steps}


def answer_waiting(event: AttributionDeferred) -> dict[str, Any]:
    """What the sender is told while the click is awaited."""
    return {"order_id": event.order_id, "status": "waiting", "until": event.until}


def released(state: ConversionState, at: datetime, reason: str = "") -> ConversionReleased:
    """The release of all that is held of a conversion."""
    assert state.accrued is not None
    return ConversionReleased(
        order_id=state.accrued.order_id,
        affiliate_id=state.affiliate_id,
        amount=state.outstanding,
        currency=state.accrued.currency,
        effective_at=at,
        reason=reason,
    )
