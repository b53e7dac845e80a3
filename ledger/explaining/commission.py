"""One commission explained, from its own event and the terms that priced it; without its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from msgspec.structs import asdict, replace

from ledger import plan_words
from ledger.domain import rates
from ledger.domain.conversion import RESERVED_PREFIX, CommissionAccrued, WeighedTouch
from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.event import Event
from ledger.domain.evidence import FrozenRate, PricedRule, Pricing, TierReading
from ledger.domain.money import BPS, round_half_up
from ledger.domain.offer import OfferState, Terms
from ledger.domain.plan import Effective, Tiers
from ledger.explaining.changes import changes_of
from ledger.explaining.data import (
    Credit,
    ExplainedCap,
    ExplainedClick,
    ExplainedCommission,
    ExplainedRule,
    ExplainedTier,
    ExplainedTouch,
    PaidClicks,
    PaidPart,
    ReachedGoal,
    RecruitersPart,
    Rounding,
    UsedTerms,
)

GOAL_RULE = "goal:"  # begins the name of the rule of a goal's bonus
_BONUS = re.compile(r"(.+)-[0-9a-f]{16}(-\d+)?")


class _Basis(NamedTuple):
    """What a commission was priced by. terms and effective None: the offer is not known, or its terms are simple."""

    state: ConversionState
    one: Commission
    accrued: CommissionAccrued
    pricing: Pricing
    terms: Terms | None
    effective: Effective | None


def explained(
    one: Commission, state: ConversionState, offer: OfferState | None, events: Sequence[Event]
) -> ExplainedCommission:
    """One commission of a conversion. events: the conversion's, in order; without them nothing is told of its
    changes but what they come to."""
    common = ExplainedCommission(
        affiliate_id=one.affiliate_id,
        level=one.level,
        sentence="",
        status=one.status,
        currency=one.currency,
        accrued=one.accrued.amount if one.accrued is not None else 0,
        commission=one.commission,
        taken_back=one.commission - one.outstanding,
        outstanding=one.outstanding,
        matures_at=one.matures_at,
        changes=changes_of(one, events),
    )
    if one.accrued is None:
        return common
    return replace(common, **_of_accrual(_basis(state, one, one.accrued, offer)))


def _basis(state: ConversionState, one: Commission, accrued: CommissionAccrued, offer: OfferState | None) -> _Basis:
    terms = offer.version(accrued.terms_version) if offer is not None else None
    pricing = accrued.pricing
    effective = None
    if pricing is None:
        pricing = _of_simple_terms(accrued)
    elif terms is not None and terms.plan is not None:
        effective = terms.plan.by_override(pricing.override)
    return _Basis(state, one, accrued, pricing, terms, effective)


def _of_simple_terms(accrued: CommissionAccrued) -> Pricing:
    """What simple terms say, as a plan of one rule without a name would."""
    exact = str(accrued.amount)
    if accrued.rate_bps is not None:
        exact = str(Fraction(accrued.sale_amount * accrued.rate_bps, BPS))
    flat = accrued.amount if accrued.rate_bps is None else None
    rule = PricedRule(rule="", amount=accrued.sale_amount, exact=exact, rate_bps=accrued.rate_bps, flat_amount=flat)
    return Pricing(rules=[rule], value=accrued.sale_amount, exact=exact)


def _of_accrual(basis: _Basis) -> dict[str, Any]:
    accrued, pricing = basis.accrued, basis.pricing
    return {
        "exact": pricing.exact,
        "credit": _credit(basis),
        "terms": _terms(basis),
        "rate": pricing.rate,
        "customer": pricing.customer,
        "first_order_id": pricing.first_order_id,
        "rules": [_rule(rule, basis) for rule in pricing.rules],
        "bound": pricing.bound,
        "rounding": _rounding(basis),
        "caps": list(_caps(basis)),
        "unpaid": pricing.unpaid,
        "held": accrued.held,
        "second_level": _second_level(basis),
        "goal": _goal(basis),
        "clicks": _clicks(basis),
    }


# --- who is credited -------------------------------------------------------------------------------------------


def share_of(pricing: Pricing | None) -> Fraction:
    """An affiliate's part of the credit."""
    return Fraction(1) if pricing is None or pricing.weight is None else Fraction(*pricing.weight)


def explained_touches(weighed: Iterable[WeighedTouch]) -> list[ExplainedTouch]:
    """A journey's touches, numbered."""
    return [
        ExplainedTouch(
            affiliate_id=one.touch.affiliate_id,
            occurred_at=one.touch.occurred_at,
            kind=one.touch.kind,
            position=one.touch.position,
            channel=one.touch.channel,
            number=number,
            weight=one.weight,
        )
        for number, one in enumerate(weighed, 1)
    ]


def _credit(basis: _Basis) -> Credit:
    accrued, pricing, state = basis.accrued, basis.pricing, basis.state
    touches: list[ExplainedTouch] = []
    if state.attributed is not None and accrued.level == 1:
        every = explained_touches(state.attributed.touches)
        touches = [touch for touch in every if touch.affiliate_id == accrued.affiliate_id]
    own, whole = pricing.weight or (None, None)
    return Credit(
        model=pricing.model,
        share=str(share_of(pricing)) if accrued.level == 1 else "0",
        credited_amount=basis.one.credited_amount,
        value=pricing.value,
        steps=accrued.steps,
        weight=own,
        whole=whole,
        touches=touches,
        click=_click(accrued),
    )


def _click(accrued: CommissionAccrued) -> ExplainedClick | None:
    if accrued.click_id is None:
        return None
    return ExplainedClick(
        click_id=accrued.click_id,
        clicked_at=accrued.clicked_at,
        traffic_position=accrued.click_position,
        leaf_hash=accrued.click_leaf,
        traffic_position_seen=accrued.traffic_position,
    )


# --- what it is paid for -------------------------------------------------------------------------------------


def _terms(basis: _Basis) -> UsedTerms:
    accrued, terms, effective = basis.accrued, basis.terms, basis.effective
    used = UsedTerms(
        offer_id=accrued.offer_id,
        terms_version=accrued.terms_version,
        override=basis.pricing.override,
        rate_bps=accrued.rate_bps if accrued.pricing is None else None,
    )
    if terms is None:
        return used
    return replace(
        used,
        effective_from=terms.effective_from,
        hold_days=terms.hold_days,
        window_days=terms.window_days,
        plan_hash=terms.plan_hash,
        rate_bps=terms.rate_bps,
        amount=terms.amount,
        currency=terms.currency,
        min_amount=effective.min_amount if effective is not None else None,
        max_amount=effective.max_amount if effective is not None else None,
    )


def factor_of(rate: FrozenRate | None) -> Fraction:
    """From minor units of the sale's currency to those of the commission's."""
    return Fraction(1) if rate is None else Fraction(*rates.factor(rate.rate, rate.base, rate.quote))


def _rule(rule: PricedRule, basis: _Basis) -> ExplainedRule:
    said = next((one for one in basis.effective.rules if one.id == rule.rule), None) if basis.effective else None
    quantity = rule.quantity
    if rule.amount_per_click is not None and basis.state.recorded is not None:
        quantity = basis.state.recorded.click_count
    tier = None
    if rule.tier is not None and not rule.rule.startswith(GOAL_RULE):
        tiers = said.pay.tiers if said is not None else None
        tier = _tier(rule, rule.tier, tiers, basis)
    return ExplainedRule(
        rule=rule.rule,
        amount=rule.amount,
        exact=rule.exact,
        when=plan_words.conditions(said.when) if said is not None else "",
        quantity=quantity,
        rate_bps=rule.rate_bps,
        flat_amount=rule.flat_amount,
        amount_per_item=rule.amount_per_item,
        amount_per_click=rule.amount_per_click,
        tier=tier,
    )


def _tier(rule: PricedRule, reading: TierReading, tiers: Tiers | None, basis: _Basis) -> ExplainedTier:
    found = ExplainedTier(
        by=reading.by,
        counter=reading.counter,
        before=reading.before,
        after=reading.after,
        step_before=reading.step_before,
        step=reading.step,
        step_now=basis.one.steps.get(rule.rule, reading.step),
    )
    if tiers is None:
        return found
    size = sum(part.amount for part in reading.parts)
    paid_for = rule.amount * factor_of(basis.pricing.rate)
    parts = []
    for part in reading.parts:
        bps, lies = tiers.steps[part.step].rate_bps or 0, paid_for * part.amount / size
        parts.append(
            PaidPart(step=part.step, rate_bps=bps, counted=part.amount, paid_for=str(lies), exact=str(lies * bps / BPS))
        )
    return replace(
        found,
        method=tiers.method,
        retroactive=tiers.retroactive,
        on_reversal=tiers.on_reversal,
        steps=tiers.steps,
        parts=parts,
    )


def _caps(basis: _Basis) -> Iterable[ExplainedCap]:
    plan = basis.terms.plan if basis.terms is not None else None
    limits = {cap.id: cap for cap in plan.plan.caps} if plan is not None else {}
    for one in basis.pricing.caps:
        cap = limits.get(one.cap)
        found = ExplainedCap(**asdict(one))
        yield found if cap is None else replace(found, limit=cap.limit, over=cap.over)


# --- rounding ----------------------------------------------------------------------------------------------


def _rounding(basis: _Basis) -> Rounding:
    exact = Fraction(basis.pricing.exact) * share_of(basis.pricing)
    if basis.pricing.weight is None:
        method, rounded = "half_up", round_half_up(exact.numerator, exact.denominator)
    else:
        method, rounded = "largest_remainder", shares_rounded(basis.state)[basis.accrued.affiliate_id]
    return Rounding(method=method, exact=str(exact), rounded=rounded, added=str(rounded - exact))


def shares_rounded(state: ConversionState) -> dict[str, int]:
    """What each who shares a sale gets: the exact sum rounded half up once, split by largest remainder."""
    exact = {
        one.affiliate_id: Fraction(one.accrued.pricing.exact) * share_of(one.accrued.pricing)
        for one in state.commissions.values()
        if one.level == 1 and one.accrued is not None and one.accrued.pricing is not None
    }
    total = sum(exact.values(), Fraction(0))
    amounts = {who: int(one) for who, one in exact.items()}
    left = round_half_up(total.numerator, total.denominator) - sum(amounts.values())
    # sorted() is stable: of equal remainders the first of those who are credited
    for who in sorted(exact, key=lambda who: amounts[who] - exact[who])[:left]:
        amounts[who] += 1
    return amounts


# --- what is not a plain sale ------------------------------------------------------------------------------


def _second_level(basis: _Basis) -> RecruitersPart | None:
    priced = basis.pricing
    if priced.second_level_of is None:
        return None
    of = set()
    for one in basis.state.commissions.values():
        plan = basis.terms.plan if basis.terms is not None else None
        if plan is not None and one.level == 1 and one.accrued is not None and one.accrued.pricing is not None:
            said = plan.by_override(one.accrued.pricing.override).second_level
            of |= {said.of} if said is not None else set()
    return RecruitersPart(of=of.pop() if len(of) == 1 else "", base=priced.second_level_of, rate_bps=priced.rate_bps)


def _goal(basis: _Basis) -> ReachedGoal | None:
    rule = next((one for one in basis.pricing.rules if one.rule.startswith(GOAL_RULE)), None)
    if rule is None:
        return None
    goal_id = rule.rule.removeprefix(GOAL_RULE)
    # the only place that says the period: '~goal-<id>-<period>-<digest>'
    named = _BONUS.fullmatch(basis.accrued.order_id.removeprefix(f"{RESERVED_PREFIX}goal-{goal_id}-"))
    said = next((one for one in basis.effective.goals if one.id == goal_id), None) if basis.effective else None
    return ReachedGoal(
        goal=goal_id,
        period=named.group(1) if named is not None else "",
        by=said.by if said is not None else "",
        target=said.target if said is not None else None,
        counted=rule.tier.after if rule.tier is not None else None,
    )


def _clicks(basis: _Basis) -> PaidClicks | None:
    sale = basis.state.recorded
    if sale is None or not sale.click_count:
        return None
    return PaidClicks(
        count=sale.click_count, paid=basis.pricing.paid_clicks, after=sale.clicks_after, until=sale.clicks_until
    )
