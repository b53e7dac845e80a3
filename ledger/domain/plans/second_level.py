"""The second level: what the recruiters of those who earned something earn by it."""

from __future__ import annotations

from datetime import datetime

from ledger.domain.affiliate import AffiliateState
from ledger.domain.conversion import CommissionAccrued, Step
from ledger.domain.money import BPS, round_half_up
from ledger.domain.plans import pricing
from ledger.domain.plans.crediting import CAN_EARN
from ledger.domain.plans.evidence import CapReading, Pricing
from ledger.domain.plans.plan import Cap
from ledger.domain.plans.planned_sale import Context, Share
from ledger.domain.view import View

_Part = tuple[int, int]  # what it is a part of (minor units), basis points


def accruals(
    context: Context, shares: list[Share], terms_version: int, matures_at: datetime, view: View
) -> list[CommissionAccrued]:
    """One commission a recruiter, however many of the recruited are credited."""
    events: list[CommissionAccrued] = []
    spent = sum(share.amount for share in shares)
    for recruiter, parts in _recruiters(context, shares, view):
        exact = sum(base * bps for base, bps in parts), BPS
        if not exact[0]:
            continue
        amount, readings, unpaid = _limited(context, round_half_up(*exact), spent, view)
        spent += amount
        bps = {bps for _, bps in parts}
        priced = Pricing(
            model=context.credited.model,
            exact=pricing.text(exact),
            caps=readings,
            unpaid=unpaid,
            counted=sorted({context.label("offer", cap.period) for cap in _caps(context)}),
            second_level_of=sum(base for base, _ in parts),
            rate_bps=bps.pop() if len(bps) == 1 else None,
            rate=context.rate,
        )
        events.append(_accrued(context, recruiter, amount, priced, terms_version, matures_at, view))
    return events


def _recruiters(context: Context, shares: list[Share], view: View) -> list[tuple[AffiliateState, list[_Part]]]:
    """Those who can earn, with what they earn of."""
    found: dict[str, list[_Part]] = {}
    for share in shares:
        rule, recruiter_id = share.effective.second_level, share.affiliate.recruiter_at(context.fact.occurred_at)
        if rule is not None and recruiter_id and share.amount:
            base = share.amount if rule.of == "commission" else share.value
            found.setdefault(recruiter_id, []).append((base, rule.rate_bps))
    recruiters = [(view.affiliate(affiliate_id), parts) for affiliate_id, parts in found.items()]
    return [(one, parts) for one, parts in recruiters if one is not None and one.status in CAN_EARN]


def _caps(context: Context) -> list[Cap]:
    return [cap for cap in context.plan.plan.caps if cap.level == "offer" and cap.by == "commission"]


def _limited(context: Context, amount: int, spent: int, view: View) -> tuple[int, list[CapReading], str]:
    """(what the offer's caps leave of it, what they said, the one that left nothing). spent: by the sale so far."""
    readings: list[CapReading] = []
    for cap in _caps(context):
        used = view.counter(context.key("offer", cap.period, "")).used(cap.by, cap.reversals_free_room)
        room = max(0, cap.limit - used - spent)
        given = amount if amount <= room else (room if cap.over == "clamp" else 0)
        counter = context.label("offer", cap.period)
        readings.append(CapReading(cap=cap.id, by=cap.by, counter=counter, room=room, asked=amount, given=given))
        amount = given
        if not amount:
            return 0, readings, f"cap:{cap.id}"
    return amount, readings, ""


def _accrued(
    context: Context,
    recruiter: AffiliateState,
    amount: int,
    priced: Pricing,
    terms_version: int,
    matures_at: datetime,
    view: View,
) -> CommissionAccrued:
    fact = context.fact
    return CommissionAccrued(
        order_id=fact.order_id,
        affiliate_id=recruiter.affiliate_id,
        offer_id=fact.offer_id,
        amount=amount,
        currency=context.currency,
        sale_amount=fact.amount,
        occurred_at=fact.occurred_at,
        matures_at=matures_at,
        terms_version=terms_version,
        traffic_position=view.traffic_position,
        steps=[Step("second_level", "matched", recruiter.affiliate_id)],
        held=recruiter.status == "suspended",
        level=2,
        credited_amount=0,
        sale_currency=context.sale_currency,
        pricing=priced,
    )
