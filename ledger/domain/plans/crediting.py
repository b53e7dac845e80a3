"""Crediting under a plan: the affiliates that a model of attribution credits with a sale, and by how much."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from ledger.domain import attribution
from ledger.domain.affiliate import AffiliateState
from ledger.domain.attribution import Attribution, Claim
from ledger.domain.conversion import ConversionRecorded, Step, WeighedTouch
from ledger.domain.event import BEGINNING
from ledger.domain.plans import models
from ledger.domain.plans.journey import MOST_TOUCHES, JourneyKey, Touch
from ledger.domain.plans.plan import AttributionRules
from ledger.domain.view import View

CAN_EARN = ("approved", "suspended")


class Said(Protocol):
    """What a sale says of itself: the command or the event."""

    @property
    def order_id(self) -> str: ...
    @property
    def offer_id(self) -> str: ...
    @property
    def occurred_at(self) -> datetime: ...
    @property
    def currency(self) -> str | None: ...
    @property
    def customer_id(self) -> str | None: ...
    @property
    def visitor_id(self) -> str | None: ...
    @property
    def click_id(self) -> str | None: ...
    @property
    def coupon(self) -> str | None: ...
    @property
    def affiliate_id(self) -> str | None: ...


class Credited(Struct):
    """affiliates: with their weights, none when nobody is credited. model: that decided it. touches: of its journey,
    where a journey decided it; found: the steps and the click of a single credit."""

    affiliates: list[tuple[AffiliateState, int]]
    model: str
    found: Attribution
    touches: list[WeighedTouch] = []

    def channel_of(self, affiliate_id: str) -> str | None:
        """Of an affiliate's last touch that counts."""
        for weighed in reversed(self.touches):
            if weighed.weight and weighed.touch.affiliate_id == affiliate_id:
                return weighed.touch.channel
        return self.found.channel


def claim_of(fact: ConversionRecorded, window_days: int) -> Claim:
    """What a sale says about where it came from."""
    return Claim(
        fact.offer_id,
        fact.occurred_at,
        window_days,
        fact.click_id,
        fact.coupon,
        fact.affiliate_id,
        fact.customer_id,
    )


def journey_key(fact: Said, window_days: int, rules: AttributionRules) -> JourneyKey:
    """Which touches a sale's journey is made of."""
    impressions_since = _before(fact.occurred_at, rules.view_window_days) if rules.view_window_days else None
    return JourneyKey(
        fact.customer_id,
        fact.visitor_id,
        fact.offer_id,
        _before(fact.occurred_at, window_days),
        impressions_since,
        fact.occurred_at,
    )


def needs_journey(rules: AttributionRules) -> bool:
    """Whether any of the models that may decide looks at a journey."""
    last = rules.otherwise if rules.model in ("coupon_wins", "lifetime") else rules.model
    return last != "last_click" or rules.view_window_days > 0


def _before(instant: datetime, days: int) -> datetime:
    try:
        return instant - timedelta(days=days)
    except OverflowError:
        return BEGINNING


def credit(fact: ConversionRecorded, window_days: int, rules: AttributionRules, view: View, may_wait: bool) -> Credited:
    """Whom a sale is credited to."""
    claim, model = claim_of(fact, window_days), rules.model
    if model == "coupon_wins":
        found = Attribution([])
        if fact.coupon is not None and attribution.by_coupon(found, claim, view):
            return _single(found, model)
        model = rules.otherwise
    elif model == "lifetime":
        referrer = _referrer(fact, view)
        if referrer is not None:
            step = Step("lifetime", "matched", referrer.affiliate_id)
            return _single(Attribution([step], referrer), model)
        model = rules.otherwise
    if model == "last_click":
        return _last_click(fact, claim, rules, view, may_wait)
    return _by_journey(fact, claim, rules, model, view, may_wait)


def _single(found: Attribution, model: str) -> Credited:
    who = [(found.affiliate, 1)] if found.affiliate is not None else []
    return Credited(who, model, found)


def _referrer(fact: ConversionRecorded, view: View) -> AffiliateState | None:
    if fact.customer_id is None:
        return None
    affiliate_id = view.referrer(fact.customer_id, fact.offer_id, fact.occurred_at, fact.order_id)
    affiliate = view.affiliate(affiliate_id) if affiliate_id is not None else None
    return affiliate if affiliate is not None and affiliate.status in CAN_EARN else None


def _last_click(
    fact: ConversionRecorded, claim: Claim, rules: AttributionRules, view: View, may_wait: bool
) -> Credited:
    found = attribution.attribute(claim, view, may_wait)
    if found.affiliate is None and not found.waits and rules.view_window_days:
        seen = [
            touch
            for touch in view.journey(journey_key(fact, claim.window_days, rules))
            if touch.kind == "impression" and _can_earn(touch, view)
        ]
        if seen:
            found.steps.append(Step("last_impression", "matched", seen[-1].affiliate_id))
            found.affiliate = view.affiliate(seen[-1].affiliate_id)
            return Credited(_single(found, "last_click").affiliates, "last_click", found, [WeighedTouch(seen[-1], 1)])
        found.steps.append(Step("last_impression", "none"))
    return _single(found, "last_click")


def _can_earn(touch: Touch, view: View) -> bool:
    affiliate = view.affiliate(touch.affiliate_id)
    return affiliate is not None and affiliate.status in CAN_EARN


def _by_journey(
    fact: ConversionRecorded, claim: Claim, rules: AttributionRules, model: str, view: View, may_wait: bool
) -> Credited:
    own = Attribution([])
    if fact.click_id is not None:
        attribution.by_click_id(own, claim, view, may_wait)
        if own.waits:
            return Credited([], model, own)
    touches = _journey(fact, claim, rules, own, view)
    if not touches:
        return _without_journey(claim, model, own, view)
    weights = models.weights(rules, model, touches, fact.occurred_at)
    affiliates = []
    for affiliate_id, weight in models.credits(touches, weights):
        affiliate = view.affiliate(affiliate_id)
        assert affiliate is not None
        affiliates.append((affiliate, weight))
    weighed = [WeighedTouch(touch, weight) for touch, weight in zip(touches, weights, strict=True)]
    return Credited(affiliates, model, own, weighed)


def _journey(
    fact: ConversionRecorded, claim: Claim, rules: AttributionRules, own: Attribution, view: View
) -> list[Touch]:
    """The clicks, the conversion's own among them, or the impressions; of those who can earn."""
    seen: list[Touch] = []
    if fact.customer_id is not None or fact.visitor_id is not None:
        seen = view.journey(journey_key(fact, claim.window_days, rules))
    clicks = [touch for touch in seen if touch.kind == "click"]
    if own.affiliate is not None and own.clicked_at is not None:
        position = own.click_position or 0
        if not position or all(touch.position != position for touch in clicks):
            clicks.append(Touch(position, own.affiliate.affiliate_id, own.clicked_at, channel=own.channel))
            clicks.sort(key=lambda touch: (touch.occurred_at, touch.position))
            clicks = clicks[-MOST_TOUCHES:]
    clicks = [touch for touch in clicks if _can_earn(touch, view)]
    return clicks or [touch for touch in seen if touch.kind == "impression" and _can_earn(touch, view)]


def _without_journey(claim: Claim, model: str, own: Attribution, view: View) -> Credited:
    """The coupon, then the affiliate that the conversion names."""
    found = Attribution([step for step in own.steps if step.result != "matched"])
    found.steps.append(Step(model, "none"))
    if claim.coupon is not None and attribution.by_coupon(found, claim, view):
        return _single(found, model)
    if claim.affiliate_id is not None:
        attribution.by_name(found, claim.affiliate_id, view)
    return _single(found, model)
