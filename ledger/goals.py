"""Goals: how far an affiliate has come towards each that an offer sets it now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import count

from msgspec import Struct

from ledger import plan_offers, sql
from ledger.domain import affiliate, conversion, conversion_state, counting
from ledger.domain.affiliate import AffiliateState
from ledger.domain.conversion import CommissionAccrued
from ledger.domain.counting import CounterKey
from ledger.domain.event import fold_all
from ledger.domain.goals import bonus_order_id
from ledger.domain.offer import OfferState
from ledger.domain.plan import Goal, ReadPlan
from ledger.domain.program import ProgramState
from ledger.projections import counters, programs
from ledger.reads import Look

QUERIES = sql.load("ledger", "goals.sql")


class Bonus(Struct):
    """What reaching a goal earned: an order of the ledger's own, credited at a position. status: as a conversion's."""

    order_id: str
    position: int
    status: str


class GoalProgress(Struct):
    """A goal of an offer's terms in force, in the period that is going on. by: conversions, revenue or commission,
    which counted and target are in (minor units of currency but for conversions); percent: of the target, rounded
    down; override: of the plan, by whose goals the affiliate is measured; bonus: of this period, None before it is
    earned."""

    offer_id: str
    goal: str
    override: str
    period: str
    by: str
    counted: int
    target: int
    percent: int
    reached: bool
    bonus_amount: int
    currency: str
    bonus: Bonus | None


def progress(look: Look, program: str, affiliate_id: str, now: datetime) -> list[GoalProgress] | None:
    """Every goal that applies to an affiliate, by offer in the order of the plan; None without such an affiliate."""
    found = look.record(affiliate.key(affiliate_id))
    if found is None:
        return None
    settings = programs.state(look.cur, look.program_id, program)
    goals: list[GoalProgress] = []
    for offer in plan_offers.offers_with(look, "goals"):
        goals += _of_offer(look, settings, found.state, offer, now)
    return goals


def _of_offer(
    look: Look, program: ProgramState, who: AffiliateState, offer: OfferState, now: datetime
) -> Iterator[GoalProgress]:
    terms = offer.terms_at(now)
    if terms is None or terms.plan is None:
        return
    effective = terms.plan.for_affiliate(who.affiliate_id, who.group_at(now))
    for goal in effective.goals:
        period = counting.period_of(goal.period, counting.local(now, program.zone))
        for currency in _currencies(look, terms.plan, program, (offer.offer_id, who.affiliate_id, period)):
            key = CounterKey(offer.offer_id, who.affiliate_id, period, currency)
            yield _progress(look, key, goal, effective.override)


def _currencies(look: Look, plan: ReadPlan, program: ProgramState, counted: tuple[str, str, str]) -> list[str]:
    """The plan's, else those of the affiliate's sales: each is counted by itself."""
    if plan.plan.currency is not None:
        return [plan.plan.currency]
    offer_id, affiliate_id, period = counted
    params = {"program_id": look.program_id, "offer_id": offer_id, "affiliate_id": affiliate_id, "period": period}
    look.cur.execute(QUERIES["select_currencies"], params)
    return [currency for (currency,) in look.cur] or [program.currency]


def _progress(look: Look, key: CounterKey, goal: Goal, override: str) -> GoalProgress:
    counted = counters.load(look.cur, look.program_id, [key])[key].standing(goal.by)
    return GoalProgress(
        offer_id=key.offer_id,
        goal=goal.id,
        override=override,
        period=key.period,
        by=goal.by,
        counted=counted,
        target=goal.target,
        percent=counted * 100 // goal.target,
        reached=counted >= goal.target,
        bonus_amount=goal.bonus_amount,
        currency=key.currency,
        bonus=_bonus(look, key, goal) if goal.bonus_amount else None,
    )


def _bonus(look: Look, key: CounterKey, goal: Goal) -> Bonus | None:
    """The last one that was awarded: one that was taken back may be earned again."""
    last: Bonus | None = None
    for attempt in count(1):
        order_id = bonus_order_id(goal.id, key, attempt)
        events = look.events([conversion.key(order_id)])
        if not events:
            break
        state = fold_all(conversion_state.fold, (one.body for one in events))
        assert state is not None
        position = next(one.position for one in events if isinstance(one.body, CommissionAccrued))
        last = Bonus(order_id, position, state.status)
    return last
