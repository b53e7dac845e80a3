"""A sale under a plan: credited, priced, shared, limited. docs/plans.md says how."""

from __future__ import annotations

from datetime import datetime
from math import lcm

from ledger.domain.conversion import CommissionAccrued, ConversionAttributed, ConversionRecorded, Step
from ledger.domain.event import Event
from ledger.domain.money import allocate, round_half_up
from ledger.domain.plans import capping, counting, pricing, second_level
from ledger.domain.plans.crediting import Credited
from ledger.domain.plans.evidence import Pricing
from ledger.domain.plans.plan import Effective, ReadPlan, Recurring
from ledger.domain.plans.planned_sale import Context, Share, check_amount, context_of
from ledger.domain.plans.pricing import NOTHING, Price, Readings, Sale
from ledger.domain.view import View


def accruals(
    fact: ConversionRecorded,
    terms_version: int,
    matures_at: datetime,
    plan: ReadPlan,
    credited: Credited,
    view: View,
) -> list[Event]:
    """ConversionAttributed (where a journey decided) and a CommissionAccrued for everybody who is credited. Raises
    CannotPrice, InvalidInput."""
    context = context_of(fact, plan, credited, view)
    shares = _shares(context, view)
    _round(shares)
    check_amount(max(share.amount for share in shares))
    capping.limit(context, shares, view)
    events: list[Event] = []
    if credited.touches:
        events.append(
            ConversionAttributed(
                order_id=fact.order_id,
                model=credited.model,
                touches=credited.touches,
                traffic_position=view.traffic_position,
            )
        )
    events += [_accrued(context, share, len(shares), terms_version, matures_at, view) for share in shares]
    events += second_level.accruals(context, shares, terms_version, matures_at, view)
    return events


# --- what each is credited with, and what the sale would earn it ----------------------------------------


def _shares(context: Context, view: View) -> list[Share]:
    fact, affiliates = context.fact, context.credited.affiliates
    weights = [weight for _, weight in affiliates]
    alone = len(affiliates) == 1
    amounts = [fact.amount] if alone else allocate(fact.amount, weights)
    values = [context.whole_value] if alone else allocate(context.whole_value, weights)
    shares = []
    for (affiliate, weight), amount, value in zip(affiliates, amounts, values, strict=True):
        effective = context.plan.for_affiliate(affiliate.affiliate_id, affiliate.group_at(fact.occurred_at))
        customer, first_order_id, over = _customer(effective, context, view)
        price, unpaid = Price(NOTHING, [], ""), "recurring"
        if not over:
            price = _price(context, effective, affiliate.affiliate_id, customer, value, view)
            unpaid = "" if price.rules else "no_rule"
        shares.append(
            Share(
                affiliate, effective, weight, amount, value, price.exact, price.rules, price.bound, unpaid,
                customer, first_order_id,
            )
        )  # fmt: skip
    return shares


def _customer(effective: Effective, context: Context, view: View) -> tuple[str, str, bool]:
    """(new or returning, the first sale's order id, whether the plan pays for this one no more); '' where no rule
    asks."""
    if not effective.asks_customer:
        return "", "", False
    fact = context.fact
    first = None
    if fact.customer_id is not None:
        first = view.first_sale(fact.customer_id, fact.offer_id, fact.occurred_at, fact.order_id)
    if first is None:
        return "new", "", False
    return "returning", first.order_id, _is_over(effective.recurring, first.occurred_at, fact.occurred_at, view)


def _is_over(recurring: Recurring, first_at: datetime, at: datetime, view: View) -> bool:
    if recurring.sales == "first":
        return True
    if recurring.months is None:
        return False
    assert view.program is not None
    begun, now = counting.local(first_at, view.program.zone), counting.local(at, view.program.zone)
    return now >= counting.add_months(begun, recurring.months)


def _price(context: Context, effective: Effective, affiliate_id: str, customer: str, value: int, view: View) -> Price:
    readings: dict[str, Readings] = {}
    for rule in effective.rules:
        tiers = rule.pay.tiers
        if tiers is not None and (name := f"{tiers.level}/{tiers.period}") not in readings:
            key = context.key(tiers.level, tiers.period, affiliate_id)
            readings[name] = Readings(f"{tiers.level}/{key.period}", view.counter(key))
    channel = context.fact.channel or context.credited.channel_of(affiliate_id)
    sale = Sale(context.fact, context.lines, channel, customer, context.factor, value, context.whole_value)
    return pricing.price(effective, context.plan.plan.match == "best", sale, readings)


# --- rounded once, split exactly ---------------------------------------------------------------------------


def _round(shares: list[Share]) -> None:
    """The sum of all shares' exact commissions is rounded half up once, and split by largest remainder."""
    if len(shares) == 1:
        shares[0].amount = round_half_up(*shares[0].exact)
        return
    # integers over one denominator: as exact as fractions, at a third of their time
    common = lcm(*(share.exact[1] for share in shares))
    parts = [share.exact[0] * (common // share.exact[1]) * share.weight for share in shares]
    whole = common * sum(share.weight for share in shares)
    left = round_half_up(sum(parts), whole)
    for share, part in zip(shares, parts, strict=True):
        share.amount = part // whole
        left -= share.amount
    for n in sorted(range(len(shares)), key=lambda n: (-(parts[n] % whole), n))[:left]:
        shares[n].amount += 1


# --- the events ----------------------------------------------------------------------------------------------


def _accrued(
    context: Context, share: Share, count: int, terms_version: int, matures_at: datetime, view: View
) -> CommissionAccrued:
    fact, found, who = context.fact, context.credited.found, share.affiliate.affiliate_id
    whole = sum(weight for _, weight in context.credited.affiliates)
    pricing_ = Pricing(
        rules=share.rules,
        model=context.credited.model,
        override=share.effective.override,
        weight=(share.weight, whole) if count > 1 else None,
        value=share.value,
        exact=pricing.text(share.exact),
        bound=share.bound,
        caps=share.caps,
        unpaid=share.unpaid,
        counted=[context.label(level, kind) for level, kind in share.effective.counters],
        customer=share.customer,
        first_order_id=share.first_order_id,
        rate=context.rate,
        paid_clicks=share.paid_clicks,
    )
    steps, own_click = found.steps, found.affiliate is not None and found.affiliate.affiliate_id == who
    if context.credited.touches and context.credited.model != "last_click":
        # the journey names others, the commission's own event must not
        steps = [Step(context.credited.model, "matched", who)]
    return CommissionAccrued(
        order_id=fact.order_id,
        affiliate_id=who,
        offer_id=fact.offer_id,
        amount=share.amount,
        currency=context.currency,
        sale_amount=fact.amount,
        occurred_at=fact.occurred_at,
        matures_at=matures_at,
        terms_version=terms_version,
        traffic_position=view.traffic_position,
        steps=steps,
        held=share.affiliate.status == "suspended",
        click_id=found.click_id if own_click else None,
        clicked_at=found.clicked_at if own_click else None,
        click_position=found.click_position if own_click else None,
        click_leaf=found.click_leaf if own_click else None,
        credited_amount=share.credited_amount if count > 1 else None,
        sale_currency=context.sale_currency,
        pricing=pricing_,
    )
