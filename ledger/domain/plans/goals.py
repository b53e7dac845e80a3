"""Goals: what reaching a target earns. A goal is reached by the first conversion under terms that have it with which
the counter stands at the target or above; its bonus is earned once in the period."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from ledger.domain import conversion
from ledger.domain.conversion import RESERVED_PREFIX, CommissionAccrued, ConversionRecorded, ConversionReversed, Step
from ledger.domain.conversion_state import ConversionState
from ledger.domain.event import Draft
from ledger.domain.offer import OfferState, Terms
from ledger.domain.plans.counting import Counter, CounterKey, kind_of
from ledger.domain.plans.crediting import CAN_EARN
from ledger.domain.plans.evidence import PricedRule, Pricing, TierReading
from ledger.domain.plans.plan import Goal
from ledger.domain.view import View


class Source(NamedTuple):
    """A commission whose events changed a counter: goals are those of its terms."""

    terms_version: int
    override: str
    occurred_at: datetime


def following(offer: OfferState, key: CounterKey, source: Source, after: Counter, view: View) -> Iterator[Draft]:
    """What an affiliate's counter leads to. after: as it stands with what is being decided."""
    terms = offer.version(source.terms_version)
    if terms is None or terms.plan is None:
        return
    before = view.counter(key)
    for goal in terms.plan.by_override(source.override).goals:
        if goal.period != kind_of(key.period) or not goal.bonus_amount:
            continue
        was, now = before.standing(goal.by), after.standing(goal.by)
        if now >= goal.target and now > was:
            yield from _award(goal, key, terms, source, (was, now), view)
    yield from _lost_goals(offer, key, after, view)


def _lost_goals(offer: OfferState, key: CounterKey, after: Counter, view: View) -> Iterator[Draft]:
    """What takes back the bonuses of goals that the counter fell below. Each goal is that of the version and override
    that it was awarded by, whichever version the conversion has that is taken back."""
    before = view.counter(key)
    for terms in offer.terms:
        for override, goal in terms.plan.goals if terms.plan is not None else ():
            falls = after.standing(goal.by) < goal.target <= before.standing(goal.by)
            if falls and goal.period == kind_of(key.period) and goal.on_reversal == "take_back":
                yield from _take_back(goal, key, terms, override, view)


def bonus_order_id(goal_id: str, key: CounterKey, attempt: int) -> str:
    """The id of a goal's bonus: short enough, and the same whenever it is made."""
    whole = "\n".join((key.offer_id, key.affiliate_id, goal_id, key.period, key.currency))
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    again = f"-{attempt}" if attempt > 1 else ""
    return f"{RESERVED_PREFIX}goal-{goal_id}-{key.period}-{digest}{again}"


def _last_bonus(goal: Goal, key: CounterKey, view: View) -> tuple[int, ConversionState | None]:
    """(attempt, bonus) of the last bonus that was awarded for a goal; (0, None) for none yet."""
    attempt, last = 0, None
    while (state := view.conversion(bonus_order_id(goal.id, key, attempt + 1))) is not None and state.recorded:
        attempt, last = attempt + 1, state
    return attempt, last


def _award(
    goal: Goal, key: CounterKey, terms: Terms, source: Source, stood: tuple[int, int], view: View
) -> Iterator[Draft]:
    attempt, last = _last_bonus(goal, key, view)
    who = view.affiliate(key.affiliate_id)
    if who is None or who.status not in CAN_EARN or (last is not None and last.last_reversal_id != _lost(last)):
        return
    order_id = bonus_order_id(goal.id, key, attempt + 1)
    stream = conversion.key(order_id)
    yield (
        stream,
        ConversionRecorded(
            order_id=order_id,
            offer_id=key.offer_id,
            amount=0,
            currency=key.currency,
            occurred_at=source.occurred_at,
            affiliate_id=key.affiliate_id,
            event_id="goal",
        ),
    )
    bonus = goal.bonus_amount
    reached = TierReading(
        by=goal.by, counter=f"affiliate/{key.period}", before=stood[0], after=stood[1], step_before=0, step=0
    )
    priced = PricedRule(rule=f"goal:{goal.id}", amount=0, exact=str(bonus), flat_amount=bonus, tier=reached)
    yield (
        stream,
        CommissionAccrued(
            order_id=order_id,
            affiliate_id=key.affiliate_id,
            offer_id=key.offer_id,
            amount=bonus,
            currency=key.currency,
            sale_amount=0,
            occurred_at=source.occurred_at,
            matures_at=source.occurred_at + timedelta(days=terms.hold_days),
            terms_version=terms.version,
            traffic_position=view.traffic_position,
            steps=[Step("goal", "matched", key.affiliate_id)],
            held=who.status == "suspended",
            pricing=Pricing(rules=[priced], override=source.override, exact=str(bonus)),
        ),
    )


def _lost(bonus: ConversionState) -> str:
    """The id of the reversal that takes a bonus back; a bonus that somebody else reversed is not earned again."""
    assert bonus.recorded is not None
    return f"{bonus.recorded.order_id}-lost"


def _take_back(goal: Goal, key: CounterKey, terms: Terms, override: str, view: View) -> Iterator[Draft]:
    attempt, last = _last_bonus(goal, key, view)
    if last is None or (one := last.lead) is None or one.bucket == "none":
        return
    if one.accrued is None or one.accrued.pricing is None:
        return
    if (one.accrued.terms_version, one.accrued.pricing.override) != (terms.version, override):
        return
    order_id = bonus_order_id(goal.id, key, attempt)
    yield (
        conversion.key(order_id),
        ConversionReversed(
            order_id=order_id,
            reversal_id=_lost(last),
            amount=one.outstanding,
            currency=one.currency,
            sale_amount=0,
            effective_at=view.now,
            bucket=one.bucket,
            affiliate_id=one.affiliate_id,
        ),
    )
