"""One commission explained, from its own event and the terms that priced it; without its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from msgspec.structs import asdict, replace

from ledger import plan_words
from ledger.domain.conversion import RESERVED_PREFIX, CommissionAccrued, WeighedTouch
from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.event import Event
from ledger.domain.money import BPS
from ledger.domain.offer import OfferState, Terms
from ledger.domain.plans.evidence import PricedRule, Pricing, TierReading
from ledger.domain.plans.plan import Cap, Effective, Tiers
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
    UsedTerms,
)
from ledger.explaining.figures import factor_of, share_of
from ledger.explaining.recruiting import Recruiters, part_of
from ledger.explaining.repricing import PricedBy
from ledger.explaining.rounding import rounding_of

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
    recruiters: Recruiters | None


def explained(
    one: Commission,
    state: ConversionState,
    offer: OfferState | None,
    events: Sequence[Event],
    recruiters: Recruiters | None,
) -> ExplainedCommission:
    """One commission of a conversion. events: the conversion's, in order; without them nothing is told of its
    changes but what they come to. recruiters: of those who are credited."""
    basis = _basis(state, one, one.accrued, offer, recruiters) if one.accrued is not None else None
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
        changes=changes_of(one, events, _priced_by(basis)),
    )
    return common if basis is None else replace(common, **_of_accrual(basis))


def _basis(
    state: ConversionState,
    one: Commission,
    accrued: CommissionAccrued,
    offer: OfferState | None,
    recruiters: Recruiters | None,
) -> _Basis:
    terms = offer.version(accrued.terms_version) if offer is not None else None
    pricing = accrued.pricing
    effective = None
    if pricing is None:
        pricing = _of_simple_terms(accrued)
    elif terms is not None and terms.plan is not None:
        effective = terms.plan.by_override(pricing.override)
    return _Basis(state, one, accrued, pricing, terms, effective, recruiters)


def _caps_of(basis: _Basis) -> dict[str, Cap]:
    plan = basis.terms.plan if basis.terms is not None else None
    return {cap.id: cap for cap in plan.plan.caps} if plan is not None else {}


def _priced_by(basis: _Basis | None) -> PricedBy | None:
    if basis is None or basis.effective is None:
        return None
    return PricedBy(basis.pricing, basis.effective, _caps_of(basis))


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
        "rounding": rounding_of(pricing, accrued.affiliate_id, basis.state),
        "caps": list(_caps(basis)),
        "unpaid": pricing.unpaid,
        "held": accrued.held,
        "second_level": part_of(pricing, accrued.affiliate_id, basis.state, basis.terms, basis.recruiters),
        "goal": _goal(basis),
        "clicks": _clicks(basis),
    }


# --- who is credited -------------------------------------------------------------------------------------------


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
    limits = _caps_of(basis)
    for one in basis.pricing.caps:
        cap = limits.get(one.cap)
        found = ExplainedCap(**asdict(one), fits=one.given == one.asked)
        yield found if cap is None else replace(found, limit=cap.limit, over=cap.over)


# --- what is not a plain sale ------------------------------------------------------------------------------


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
