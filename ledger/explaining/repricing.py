"""The sum behind a top-up, or behind what is taken back of one: computed again from the evidence of the commission."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from ledger.domain import rates
from ledger.domain.conversion import CommissionRepriced
from ledger.domain.plans import pricing
from ledger.domain.plans.evidence import Pricing
from ledger.domain.plans.plan import Cap, Effective
from ledger.explaining.data import RepricedRule, Repricing, TopUpCap
from ledger.explaining.figures import half_up, share_of


class PricedBy(NamedTuple):
    """What a commission was priced by. caps: of the plan, by id."""

    priced: Pricing
    effective: Effective
    caps: Mapping[str, Cap]


def repricing_of(
    event: CommissionRepriced, was: int, steps: Mapping[str, int], by: PricedBy | None
) -> Repricing | None:
    """What a commission that was `was` comes to by other steps of its tables (by rule); None where it does not come
    from a table, or the table is not known."""
    if event.step is None or by is None:
        return None
    rules = _rules(by, steps)
    total = sum((Fraction(rule.exact) for rule in rules), Fraction(0))
    bounded, bound = pricing.bounded(by.effective, (total.numerator, total.denominator))
    exact = Fraction(*bounded)
    own = exact * share_of(by.priced)
    rounded = half_up(own)
    return Repricing(
        rules=rules,
        exact=str(exact),
        bound=bound,
        share_exact=str(own),
        rounded=rounded,
        limit=_limit(event, rounded - was, was, by) if event.cap else None,
    )


def _rules(by: PricedBy, steps: Mapping[str, int]) -> list[RepricedRule]:
    tables = {rule.id: rule.pay.tiers for rule in by.effective.rules}
    rate = by.priced.rate
    factor = rates.factor(rate.rate, rate.base, rate.quote) if rate is not None else (1, 1)
    found = []
    for one in by.priced.rules:
        tiers = tables.get(one.rule)
        if tiers is None or tiers.method == "marginal":
            found.append(RepricedRule(rule=one.rule, exact=one.exact))
            continue
        step = steps[one.rule]
        exact = Fraction(*pricing.by_step(tiers.steps[step], one.amount, one.quantity, factor))
        found.append(RepricedRule(rule=one.rule, exact=str(exact), step=step))
    return found


def _limit(event: CommissionRepriced, asked: int, was: int, by: PricedBy) -> TopUpCap:
    cap = by.caps.get(event.cap)
    if cap is None:
        return TopUpCap(cap=event.cap, asked=asked)
    # what a cap cuts off it fills to the brim; what it does not cut off it refuses whole, whatever room is left
    room = event.commission - was if cap.over == "clamp" else None
    return TopUpCap(cap=event.cap, level=cap.level, over=cap.over, asked=asked, room=room)
