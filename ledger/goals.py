"""Goals: how far affiliates have come towards each that an offer sets them, and every bonus that one has earned."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import count, islice
from typing import NamedTuple
from uuid import UUID

from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from ledger import plan_offers, sql
from ledger.domain import affiliate, conversion, conversion_state
from ledger.domain.affiliate import AffiliateState
from ledger.domain.conversion import CommissionAccrued
from ledger.domain.event import fold_all
from ledger.domain.ids import stream_id
from ledger.domain.offer import OfferState
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counter, CounterKey
from ledger.domain.plans.goals import bonus_order_id
from ledger.domain.plans.plan import Goal, ReadPlan
from ledger.domain.program import ProgramState
from ledger.projections import counters, programs
from ledger.reads import Look
from ledger.store import log

QUERIES = sql.load("ledger", "goals.sql")
STREAMS_AT_ONCE = 500


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


class AffiliateProgress(GoalProgress):
    """The same, and whose it is."""

    affiliate_id: str

    def place(self) -> Place:
        """Where it stands in the overview."""
        return Place(-self.percent, self.offer_id, self.goal, self.affiliate_id, self.currency)


class Place(NamedTuple):
    """The order of the overview: the highest percentage first."""

    minus_percent: int
    offer_id: str
    goal: str
    affiliate_id: str
    currency: str


class EarnedBonus(Struct):
    """A bonus that was earned by a goal, also one that later terms no longer have. amount: minor units; status: as a
    conversion's (a bonus that was taken back is 'reversed'); occurred_at: of the sale that reached the goal."""

    goal: str
    offer_id: str
    period: str
    order_id: str
    amount: int
    currency: str
    status: str
    occurred_at: datetime
    position: int


def progress(look: Look, program: str, affiliate_id: str, at: datetime) -> list[GoalProgress] | None:
    """Every goal that the terms in force at an instant set an affiliate, in the period in which the instant lies (as it
    is counted now), by offer in the order of the plan; None without such an affiliate."""
    found = look.record(affiliate.key(affiliate_id))
    if found is None:
        return None
    settings = programs.state(look.cur, look.program_id, program)
    goals: list[GoalProgress] = []
    for offer in plan_offers.offers_with(look, "goals"):
        goals += _of_offer(look, settings, found.state, offer, at)
    return goals


def earned(look: Look, affiliate_id: str) -> list[EarnedBonus]:
    """Every bonus that an affiliate ever earned, the first one first; those that were taken back with them."""
    offers = [offer.offer_id for offer in plan_offers.offers_with(look, "goals")]
    params = {"program_id": look.program_id, "offers": offers, "affiliate_id": affiliate_id}
    look.cur.execute(QUERIES["select_bonuses"], params)
    status_of: dict[UUID, str] = dict(look.cur.fetchall())
    found: list[EarnedBonus] = []
    for one in log.select_streams(look.cur, look.program_id, list(status_of)):
        body = one.body
        if not isinstance(body, CommissionAccrued) or body.affiliate_id != affiliate_id or body.level > 1:
            continue
        goal, period = _reached(body)
        found.append(
            EarnedBonus(
                goal=goal,
                offer_id=body.offer_id,
                period=period,
                order_id=body.order_id,
                amount=body.amount,
                currency=body.currency,
                status=status_of[one.originator_id],
                occurred_at=body.occurred_at,
                position=one.position,
            )
        )
    return sorted(found, key=lambda one: (one.occurred_at, one.position))


def _reached(bonus: CommissionAccrued) -> tuple[str, str]:
    """(goal's id, period) that a bonus was priced by."""
    assert bonus.pricing is not None
    (priced,) = bonus.pricing.rules
    counter = priced.tier.counter if priced.tier is not None else ""
    return priced.rule.partition(":")[2], counter.partition("/")[2]


# --- everybody's -------------------------------------------------------------------------------------------


def overview(
    look: Look, program: str, at: datetime, after: Place | None = None, limit: int | None = None
) -> list[AffiliateProgress]:
    """How far every affiliate that has begun has come, the highest percentage first; behind a place. Only what is
    returned is asked for its bonus."""
    settings = programs.state(look.cur, look.program_id, program)
    found: list[tuple[AffiliateProgress, CounterKey, Goal]] = []
    for offer in plan_offers.offers_with(look, "goals"):
        found += _of_everybody(look, settings, offer, at)
    found.sort(key=lambda one: one[0].place())
    behind = (one for one in found if after is None or one[0].place() > after)
    return [
        replace(row, bonus=_bonus(look, key, goal)) if goal.bonus_amount else row
        for row, key, goal in islice(behind, limit)
    ]


def _of_everybody(
    look: Look, program: ProgramState, offer: OfferState, at: datetime
) -> Iterator[tuple[AffiliateProgress, CounterKey, Goal]]:
    terms = offer.terms_at(at)
    if terms is None or terms.plan is None:
        return
    now = counting.local(at, program.zone)
    said = terms.plan.plan
    goals = [*said.goals, *(goal for one in said.overrides if one.goals is not UNSET for goal in one.goals)]
    periods = {counting.period_of(goal.period, now) for goal in goals}
    counted = counters.of_affiliates(look.cur, look.program_id, offer.offer_id, periods)
    group_of = _groups(look, {key.affiliate_id for key in counted}, at)
    for key, counter in counted.items():
        if said.currency is not None and key.currency != said.currency:
            continue
        effective = terms.plan.for_affiliate(key.affiliate_id, group_of[key.affiliate_id])
        for goal in effective.goals:
            if counting.period_of(goal.period, now) == key.period:
                row = _row(key, goal, effective.override, counter)
                yield AffiliateProgress(**asdict(row), affiliate_id=key.affiliate_id), key, goal


def _groups(look: Look, affiliate_ids: Collection[str], at: datetime) -> dict[str, str]:
    """In which group each of some affiliates is at an instant."""
    found: dict[str, str] = {}
    some = iter(sorted(affiliate_ids))
    while part := list(islice(some, STREAMS_AT_ONCE)):
        streams = {stream_id(look.program_id, affiliate.key(one)): one for one in part}
        states: dict[str, AffiliateState | None] = dict.fromkeys(part)
        for event in log.select_streams(look.cur, look.program_id, list(streams)):
            who = streams[event.originator_id]
            states[who] = affiliate.fold(states[who], event.body)
        found |= {who: state.group_at(at) if state is not None else "" for who, state in states.items()}
    return found


# --- one goal ----------------------------------------------------------------------------------------------


def _of_offer(
    look: Look, program: ProgramState, who: AffiliateState, offer: OfferState, at: datetime
) -> Iterator[GoalProgress]:
    terms = offer.terms_at(at)
    if terms is None or terms.plan is None:
        return
    effective = terms.plan.for_affiliate(who.affiliate_id, who.group_at(at))
    for goal in effective.goals:
        period = counting.period_of(goal.period, counting.local(at, program.zone))
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
    row = _row(key, goal, override, counters.load(look.cur, look.program_id, [key])[key])
    return replace(row, bonus=_bonus(look, key, goal)) if goal.bonus_amount else row


def _row(key: CounterKey, goal: Goal, override: str, counter: Counter) -> GoalProgress:
    """Without its bonus, which has to be asked for."""
    counted = counter.standing(goal.by)
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
        bonus=None,
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
