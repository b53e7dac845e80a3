"""What a sale under a plan will look at, so that a batch of them is loaded in a few statements."""

from __future__ import annotations

from ledger.domain import conversion, offer, rates
from ledger.domain.offer import Terms
from ledger.domain.plans import counting, goals
from ledger.domain.plans.counting import CounterKey
from ledger.domain.plans.crediting import Said, journey_key, needs_journey
from ledger.domain.plans.planned_sale import in_calendar
from ledger.domain.view import Needs, View


def _planned(sale: Said, view: View) -> Terms | None:
    if not in_calendar(sale.occurred_at):
        return None  # it will be refused
    the_offer = view.offer(sale.offer_id)
    terms = the_offer.terms_at(sale.occurred_at) if the_offer is not None else None
    return terms if terms is not None and terms.plan is not None else None


def _currency(sale: Said, view: View) -> str:
    if sale.currency is not None:
        return sale.currency
    program = view.program
    assert program is not None
    return program.currency


def then(sale: Said, view: View) -> Needs | None:
    """Journeys, earlier sales and exchange rates."""
    terms = _planned(sale, view)
    if terms is None:
        return None
    assert terms.plan is not None
    plan = terms.plan.plan
    needs = Needs([])
    known = sale.customer_id is not None or sale.visitor_id is not None
    if known and needs_journey(plan.attribution):
        needs.journeys = [journey_key(sale, terms.window_days, plan.attribution)]
    if sale.customer_id is not None and (terms.plan.asks_customer or plan.attribution.model == "lifetime"):
        needs.sales = [(sale.customer_id, sale.offer_id, sale.occurred_at, sale.order_id)]
    if plan.currency is not None and plan.currency != (currency := _currency(sale, view)):
        needs.streams = [rates.key(currency, plan.currency)]
    return needs


def last(sale: Said, view: View) -> Needs | None:
    """The counters of those whom the evidence names: whoever is credited is among them, but for a rare one."""
    terms = _planned(sale, view)
    if terms is None or not terms.plan or not terms.plan.counts:
        return None
    plan, program = terms.plan, view.program
    assert program is not None
    at = counting.local(sale.occurred_at, program.zone)
    currency = plan.plan.currency or _currency(sale, view)
    found: set[CounterKey] = set()
    bonuses: set[str] = set()
    for affiliate_id in _candidates(sale, terms, view):
        affiliate = view.affiliate(affiliate_id)
        if affiliate is None:
            continue
        effective = plan.for_affiliate(affiliate_id, affiliate.group_at(sale.occurred_at))
        for level, kind in effective.counters:
            whose = affiliate_id if level == "affiliate" else ""
            found.add(CounterKey(sale.offer_id, whose, counting.period_of(kind, at), currency))
        for goal in effective.goals:
            if goal.bonus_amount:
                key = CounterKey(sale.offer_id, affiliate_id, counting.period_of(goal.period, at), currency)
                bonuses.add(conversion.key(goals.bonus_order_id(goal.id, key, 1)))
    return Needs(list(bonuses), counters=list(found)) if found else None


def afterwards(order_id: str, view: View) -> Needs | None:
    """What a change of a conversion that was priced by a plan looks at: its offer, and the counters it counts in."""
    state = view.conversion(order_id)
    if state is None or state.recorded is None:
        return None
    accrued = [one.accrued for one in state.commissions.values() if one.accrued is not None]
    keys = {key for one in accrued for key in counting.keys_of(one)}
    return Needs([offer.key(state.recorded.offer_id)], counters=list(keys)) if keys else None


def _candidates(sale: Said, terms: Terms, view: View) -> set[str]:
    assert terms.plan is not None
    rules, found = terms.plan.plan.attribution, set()
    if sale.affiliate_id is not None:
        found.add(sale.affiliate_id)
    if sale.click_id is not None and (said := view.click(sale.click_id) or view.token(sale.click_id)) is not None:
        found.add(said.affiliate_id)
    if sale.coupon is not None and (coupon := view.coupon(sale.coupon)) is not None:
        assigned = coupon.at(sale.occurred_at)
        found |= {assigned.affiliate_id} if assigned is not None else set()
    known = sale.customer_id is not None or sale.visitor_id is not None
    if known and needs_journey(rules):
        found |= {touch.affiliate_id for touch in view.journey(journey_key(sale, terms.window_days, rules))}
    elif not found and sale.customer_id is not None:
        seen = view.last_click(sale.customer_id, sale.offer_id, sale.occurred_at)
        found |= {seen.affiliate_id} if seen is not None else set()
    if sale.customer_id is not None and rules.model == "lifetime":
        referrer = view.referrer(sale.customer_id, sale.offer_id, sale.occurred_at, sale.order_id)
        found |= {referrer} if referrer is not None else set()
    return found
