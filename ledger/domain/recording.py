"""Recording a conversion: attributed, priced, accrued; or kept as an exception, or waiting for its click."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import msgspec
from msgspec.structs import force_setattr

from ledger.domain import affiliate, coupon, money, offer
from ledger.domain.affiliate import AffiliateState
from ledger.domain.attribution import Attribution, attribute
from ledger.domain.conversion import (
    AttributionDeferred,
    CommissionAccrued,
    ConversionRecorded,
    ConversionUnattributed,
    Item,
    check_whose,
    checked_item,
    key,
)
from ledger.domain.conversion_state import (
    ConversionState,
    answer_accrued,
    answer_unattributed,
    answer_waiting,
    copied,
    fold,
)
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound
from ledger.domain.event import Answer, Command, Decision, Draft, Event, check_not_ahead, fold_all, in_utc, own_last
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.ids import AMOUNT_MAX, check_click_id, check_external_id, check_pseudonym, check_slug
from ledger.domain.offer import Terms
from ledger.domain.plans import foreseeing, planned
from ledger.domain.plans.crediting import CAN_EARN, claim_of, credit
from ledger.domain.plans.following import following
from ledger.domain.plans.planned_sale import CannotPrice
from ledger.domain.reversal import apply_deferred
from ledger.domain.view import Needs, View

FACT_FIELDS = ConversionRecorded.__struct_fields__


class RecordSale(Command, frozen=True):
    """A sale to attribute and price, as a merchant may tell it. amount: minor units; without currency the program's is
    meant."""

    name: ClassVar[str] = "record_conversion"
    order_id: str
    offer_id: str
    amount: int
    occurred_at: datetime
    currency: str | None = None
    customer_id: str | None = None
    click_id: str | None = None
    coupon: str | None = None
    affiliate_id: str | None = None
    event_id: str | None = None
    channel: str | None = None
    country: str | None = None
    items: list[Item] = []
    visitor_id: str | None = None

    def __post_init__(self) -> None:
        order_id = check_external_id("order_id", self.order_id)
        check_whose(order_id, self.event_id, self._is_ours())
        if order_id is not self.order_id:
            force_setattr(self, "order_id", order_id)
        check_slug("offer_id", self.offer_id)
        if not 0 <= self.amount <= AMOUNT_MAX:
            raise InvalidInput("amount", f"must be from 0 to {AMOUNT_MAX} minor units")
        if self.currency is not None:
            money.exponent("currency", self.currency)
        occurred_at = in_utc("occurred_at", self.occurred_at)
        if occurred_at is not self.occurred_at:
            force_setattr(self, "occurred_at", occurred_at)
        if self.affiliate_id is not None:
            check_slug("affiliate_id", self.affiliate_id)
        if self.customer_id is not None:
            force_setattr(self, "customer_id", check_pseudonym("customer_id", self.customer_id))
        if self.visitor_id is not None:
            force_setattr(self, "visitor_id", check_pseudonym("visitor_id", self.visitor_id))
        if self.click_id is not None:
            force_setattr(self, "click_id", check_click_id("click_id", self.click_id))
        for field in ("coupon", "event_id", "channel", "country"):
            if (value := getattr(self, field)) is not None:
                force_setattr(self, field, check_external_id(field, value))
        if self.items:
            force_setattr(self, "items", [checked_item(f"items.{n}", item) for n, item in enumerate(self.items)])

    def needs(self) -> Needs:
        """The conversion, and everything that attribution may look at."""
        return needs_of(self)

    def needs_then(self, view: View) -> Needs | None:
        """What a plan looks at."""
        return foreseeing.then(self, view)

    def needs_last(self, view: View) -> Needs | None:
        """The counters of those who may be credited."""
        return foreseeing.last(self, view)

    def decide(self, view: View) -> Decision:
        """ConversionRecorded and what follows from it, or ExceptionRaised. Raises DiffersFromOriginal."""
        stream = key(self.order_id)
        state = view.conversion(self.order_id)
        fact = self.fact(view)
        if state is not None:
            if state.recorded is not None:
                return self._again(fact, state.recorded, state, view)
            if state.kept_exception is not None:
                was = msgspec.convert(state.kept_exception.fact, ConversionRecorded, strict=False)
                if state.exception_open or fact == was:
                    _check_same(fact, was)
                    return Decision([], exception_answer(state.kept_exception, view, stream))
                # dismissed, and corrected: a sale like any other
        check_not_ahead("occurred_at", self.occurred_at, view.now)
        recorded = record(fact, state, view)
        if isinstance(recorded, ExceptionRaised):
            return Decision([(stream, recorded)], exception_answer(recorded))
        return recorded

    def fact(self, view: View) -> ConversionRecorded:
        """The command as the event that it becomes."""
        currency = self.currency
        if currency is None:
            assert view.program is not None
            currency = view.program.currency
        return ConversionRecorded(
            order_id=self.order_id,
            offer_id=self.offer_id,
            amount=self.amount,
            currency=currency,
            occurred_at=self.occurred_at,
            customer_id=self.customer_id,
            click_id=self.click_id,
            coupon=self.coupon,
            affiliate_id=self.affiliate_id,
            event_id=self.event_id,
            channel=self.channel,
            country=self.country,
            items=self.items,
            visitor_id=self.visitor_id,
        )

    def _is_ours(self) -> bool:
        """Whether it is a conversion that the ledger makes itself."""
        return False

    def _again(self, fact: ConversionRecorded, was: ConversionRecorded, state: ConversionState, view: View) -> Decision:
        _check_same(fact, was)
        assert state.answer is not None
        return Decision([], Answer("unchanged", state.answer, view.answered_at(key(self.order_id), ConversionRecorded)))


class RecordConversion(RecordSale, frozen=True):
    """A sale, or a bundle of clicks: click_count of them, which stand in the traffic log behind clicks_after and up to
    clicks_until. Only the ledger itself makes bundles."""

    click_count: int = 0
    clicks_after: int = 0
    clicks_until: int = 0

    def fact(self, view: View) -> ConversionRecorded:
        """The command as the event that it becomes."""
        fact, count = super().fact(view), self.click_count
        which = {"clicks_after": self.clicks_after, "clicks_until": self.clicks_until}
        return msgspec.structs.replace(fact, click_count=count, **which) if count else fact

    def _is_ours(self) -> bool:
        return self.click_count > 0


def needs_of(sale: RecordSale | ConversionRecorded) -> Needs:
    """The conversion, and everything that attribution may look at."""
    streams = [key(sale.order_id), offer.key(sale.offer_id)]
    if sale.coupon is not None:
        streams.append(coupon.key(sale.coupon))
    if sale.affiliate_id is not None:
        streams.append(affiliate.key(sale.affiliate_id))
    clicks = [sale.click_id] if sale.click_id is not None else []
    # The customer's last click is the last resort: only looked up ahead where nothing else was given.
    alone = len(streams) == 2 and not clicks and sale.customer_id is not None
    customers = [(sale.customer_id or "", sale.offer_id, sale.occurred_at)] if alone else []
    return Needs(streams, clicks, customers)


def _check_same(fact: ConversionRecorded, was: ConversionRecorded) -> None:
    differs = [f for f in FACT_FIELDS if getattr(was, f) != getattr(fact, f)]
    if differs:
        raise DiffersFromOriginal(f"conversion {fact.order_id}", differs)


def exception_answer(raised: ExceptionRaised, view: View | None = None, stream: str = "") -> Answer:
    """202: kept, not applied. With a view: the answer of a retry."""
    position = view.answered_at(stream, ExceptionRaised) if view else 0
    body = {"exception_id": raised.exception_id, "type": raised.type, "detail": raised.detail}
    return Answer("exception", body, position)


def record(fact: ConversionRecorded, state: ConversionState | None, view: View) -> Decision | ExceptionRaised:
    """Attribute and price a sale that is new, or say why it cannot be applied."""
    outcome = _outcome(fact, view, may_wait=True)
    if isinstance(outcome, ExceptionRaised):
        return outcome
    stream = key(fact.order_id)
    drafts: list[Draft] = [(stream, fact), *((stream, event) for event in outcome)]
    if state is not None and state.deferred and not isinstance(outcome[0], AttributionDeferred):
        drafts += apply_deferred(fold_all(fold, [fact, *outcome], copied(state)) or state)
    return _decision(own_last(drafts, stream), outcome, fact, view)


def _decision(drafts: list[Draft], outcome: list[Event], fact: ConversionRecorded, view: View) -> Decision:
    """With what follows from a plan's counters."""
    return Decision(drafts + following(view, drafts), Answer("recorded", _body(outcome)), own=key(fact.order_id))


def attribute_now(state: ConversionState, view: View, may_wait: bool) -> Decision | ExceptionRaised:
    """Attribute and price a sale that is recorded and waits; a Decision without drafts: it goes on waiting."""
    assert state.recorded is not None
    fact = state.recorded
    outcome = _outcome(fact, view, may_wait)
    if isinstance(outcome, ExceptionRaised):
        return outcome
    if isinstance(outcome[0], AttributionDeferred):
        still = {"order_id": fact.order_id, "status": "waiting", "until": state.waits_until}
        return Decision([], Answer("unchanged", still))
    return _decision(_settled(state, outcome), outcome, fact, view)


def give_up(state: ConversionState, view: View) -> list[Draft]:
    """A waiting sale whose exception is dismissed: nobody is credited."""
    assert state.recorded is not None
    fact = state.recorded
    the_offer = view.offer(fact.offer_id)
    terms = the_offer.terms_at(fact.occurred_at) if the_offer else None
    steps = attribute(claim_of(fact, terms.window_days), view, may_wait=False).steps if terms else []
    if steps and steps[-1].result == "matched":
        steps[-1] = msgspec.structs.replace(steps[-1], result="dismissed")
    outcome = ConversionUnattributed(order_id=fact.order_id, traffic_position=view.traffic_position, steps=steps)
    return _settled(state, [outcome])


def _settled(state: ConversionState, outcome: Sequence[Event]) -> list[Draft]:
    assert state.recorded is not None
    drafts: list[Draft] = [(key(state.recorded.order_id), event) for event in outcome]
    if state.deferred:
        drafts += apply_deferred(fold_all(fold, outcome, copied(state)) or state)
    return drafts


def _exception(fact: ConversionRecorded, type_: str, detail: str, affiliate_id: str = "") -> ExceptionRaised:
    return ExceptionRaised(
        exception_id=key(fact.order_id),
        type=type_,
        detail=detail,
        fact=msgspec.to_builtins(fact),
        affiliate_id=affiliate_id,
    )


def _cannot_earn(affiliate: AffiliateState | None, fact: ConversionRecorded) -> ExceptionRaised | None:
    if affiliate is None or affiliate.status in CAN_EARN:
        return None
    who = affiliate.affiliate_id
    if affiliate.status == "closed":
        return _exception(fact, "affiliate_closed", f"affiliate {who} is closed", who)
    return _exception(fact, "affiliate_not_approved", f"affiliate {who} is not approved yet", who)


def _outcome(fact: ConversionRecorded, view: View, may_wait: bool) -> list[Event] | ExceptionRaised:
    """CommissionAccrued (under a plan perhaps several, and ConversionAttributed), ConversionUnattributed, or
    AttributionDeferred; or why it cannot be applied."""
    the_offer = view.offer(fact.offer_id)
    if the_offer is None:
        return _exception(fact, "unknown_offer", f"there is no offer {fact.offer_id}")
    terms = the_offer.terms_at(fact.occurred_at)
    if terms is None:
        return _exception(fact, "no_terms", f"offer {fact.offer_id} had no terms in force at occurred_at")
    plan = terms.plan
    if plan is not None:
        credited = credit(fact, terms.window_days, plan.plan.attribution, view, may_wait)
        found, affiliates = credited.found, [affiliate for affiliate, _ in credited.affiliates]
    else:
        if terms.currency is not None and terms.currency != fact.currency:
            detail = f"the terms pay {terms.currency}, the sale is in {fact.currency}"
            return _exception(fact, "currency_mismatch", detail)
        found = attribute(claim_of(fact, terms.window_days), view, may_wait)
        affiliates = [found.affiliate] if found.affiliate is not None else []
    for who in affiliates:
        if (refused := _cannot_earn(who, fact)) is not None:
            return refused
    if found.waits:
        return [_deferred(fact, view)]
    if not affiliates:
        steps = found.steps
        return [ConversionUnattributed(order_id=fact.order_id, traffic_position=view.traffic_position, steps=steps)]
    matures_at = _matures_at(fact.occurred_at, terms.hold_days)
    if plan is None:
        return [_accrued(fact, terms, found, affiliates[0], matures_at, view)]
    try:
        return planned.accruals(fact, terms.version, matures_at, plan, credited, view)
    except CannotPrice as why:
        return _exception(fact, why.type, str(why))


def _deferred(fact: ConversionRecorded, view: View) -> AttributionDeferred:
    assert fact.click_id is not None
    assert view.program is not None
    until = view.now + timedelta(hours=view.program.click_wait_hours)
    return AttributionDeferred(
        order_id=fact.order_id, click_id=fact.click_id, until=until, traffic_position=view.traffic_position
    )


def _accrued(
    fact: ConversionRecorded,
    terms: Terms,
    found: Attribution,
    affiliate: AffiliateState,
    matures_at: datetime,
    view: View,
) -> CommissionAccrued:
    amount, rounding_e4 = terms.commission(fact.amount)
    return CommissionAccrued(
        order_id=fact.order_id,
        affiliate_id=affiliate.affiliate_id,
        offer_id=fact.offer_id,
        amount=amount,
        currency=fact.currency,
        sale_amount=fact.amount,
        occurred_at=fact.occurred_at,
        matures_at=matures_at,
        terms_version=terms.version,
        traffic_position=view.traffic_position,
        steps=found.steps,
        held=affiliate.status == "suspended",
        rate_bps=terms.rate_bps,
        rounding_e4=rounding_e4,
        click_id=found.click_id,
        clicked_at=found.clicked_at,
        click_position=found.click_position,
        click_leaf=found.click_leaf,
    )


def _matures_at(occurred_at: datetime, hold_days: int) -> datetime:
    try:
        return occurred_at + timedelta(days=hold_days)
    except OverflowError:
        raise InvalidInput("occurred_at", "is too late for the offer's hold_days") from None


def _body(outcome: Sequence[Event]) -> dict[str, object]:
    match outcome[0]:
        case ConversionUnattributed() as nobody:
            return answer_unattributed(nobody)
        case AttributionDeferred() as deferred:
            return answer_waiting(deferred)
    return answer_accrued([event for event in outcome if isinstance(event, CommissionAccrued)])


class AttributeWaiting(Command, frozen=True):
    """Try again to attribute a conversion that waits for its click. It stays waiting while the click is not seen
    and its wait has not ended at `at`; after that the other steps decide."""

    name: ClassVar[str] = "attribute_waiting"
    order_id: str
    at: datetime

    def needs(self) -> Needs:
        """The conversion; the rest is known once it is read."""
        return Needs([key(self.order_id)])

    def needs_then(self, view: View) -> Needs | None:
        """What attribution looks at, known from the conversion."""
        state = view.conversion(self.order_id)
        return needs_of(state.recorded) if state is not None and state.recorded is not None else None

    def needs_last(self, view: View) -> Needs | None:
        """What a plan looks at, without the counters."""
        state = view.conversion(self.order_id)
        return foreseeing.then(state.recorded, view) if state is not None and state.recorded is not None else None

    def decide(self, view: View) -> Decision:
        """CommissionAccrued or ConversionUnattributed, ExceptionRaised, or nothing yet. Raises NotFound."""
        state = view.conversion(self.order_id)
        if state is None or state.recorded is None:
            raise NotFound(f"conversion {self.order_id} does not exist")
        if state.status != "waiting" or state.exception_open:
            return Decision([], Answer("unchanged", {"order_id": self.order_id, "status": state.status}))
        assert state.waits_until is not None
        decided = attribute_now(state, view, may_wait=self.at < state.waits_until)
        if isinstance(decided, ExceptionRaised):
            return Decision([(key(self.order_id), decided)], exception_answer(decided))
        return decided
