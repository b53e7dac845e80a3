"""Caps: each commission of a sale is let through the plan's limits, in order; what one takes, the next finds taken."""

from __future__ import annotations

from ledger.domain.money import round_half_up
from ledger.domain.plans.counting import CounterKey
from ledger.domain.plans.evidence import CapReading
from ledger.domain.plans.plan import Cap
from ledger.domain.plans.planned_sale import Context, Share
from ledger.domain.view import View


def limit(context: Context, shares: list[Share], view: View) -> None:
    """Set what each share is paid of its amount, and what the caps said."""
    if not context.plan.plan.caps:
        for share in shares[:1]:
            share.paid_clicks = context.fact.click_count if share.amount else 0
        return
    spent: dict[CounterKey, int] = {}
    # what caps by conversions of the whole offer said to the first commission that asked: it is one conversion
    said: dict[str, bool] = {}
    for number, share in enumerate(shares):
        share.paid_clicks = context.fact.click_count if number == 0 and share.amount else 0
        for cap in context.plan.plan.caps:
            if not share.amount:
                break
            _ask(cap, context, share, spent, said, view)
        if len(shares) == 1:
            return
        for key in _commission_keys(context, share.affiliate.affiliate_id):
            spent[key] = spent.get(key, 0) + share.amount


def _commission_keys(context: Context, affiliate_id: str) -> set[CounterKey]:
    caps = (cap for cap in context.plan.plan.caps if cap.by == "commission")
    return {context.key(cap.level, cap.period, affiliate_id) for cap in caps}


def _reading(cap: Cap, key: CounterKey, room: int, asked: int, given: int) -> CapReading:
    return CapReading(cap=cap.id, by=cap.by, counter=f"{cap.level}/{key.period}", room=room, asked=asked, given=given)


def _ask(
    cap: Cap, context: Context, share: Share, spent: dict[CounterKey, int], said: dict[str, bool], view: View
) -> None:
    key = context.key(cap.level, cap.period, share.affiliate.affiliate_id)
    asked = share.amount if cap.by == "commission" else share.paid_clicks if cap.by == "clicks" else 1
    if cap.by == "clicks" and not asked:
        return
    if cap.by == "conversions" and cap.level == "offer" and cap.id in said:
        if not said[cap.id]:
            share.caps = [*share.caps, _reading(cap, key, 0, 1, 0)]
            share.amount, share.unpaid, share.paid_clicks = 0, f"cap:{cap.id}", 0
        return
    room = max(0, cap.limit - view.counter(key).used(cap.by, cap.reversals_free_room))
    if cap.by == "commission":
        room = max(0, room - spent.get(key, 0))
    given = asked if asked <= room else (room if cap.over == "clamp" else 0)
    share.caps = [*share.caps, _reading(cap, key, room, asked, given)]
    said[cap.id] = given > 0
    if given == asked:
        return
    if not given:
        share.amount, share.unpaid, share.paid_clicks = 0, f"cap:{cap.id}", 0
    elif cap.by == "clicks":
        share.amount, share.paid_clicks = round_half_up(share.amount * given, asked), given
    else:
        share.amount = given
