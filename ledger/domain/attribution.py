"""Attribution: who is credited with a conversion, and why.

The steps are tried in order: click_id, coupon, explicit affiliate_id, the customer's last click. A step that
fails is written down with its reason and the next is tried.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from ledger.domain.affiliate import AffiliateState
from ledger.domain.conversion import Step
from ledger.domain.view import View

OUR_CLICK_PREFIX = "ck1_"


class Attribution(Struct):
    """affiliate None: nobody is credited; waits: for a click not seen yet. clicked_at, click_position and
    click_leaf are the evidence of a click (position 0: known from its signature alone)."""

    steps: list[Step]
    affiliate: AffiliateState | None = None
    waits: bool = False
    click_id: str | None = None
    clicked_at: datetime | None = None
    click_position: int | None = None
    click_leaf: str | None = None
    channel: str | None = None


class Claim(Struct, frozen=True):
    """What a conversion says about where it came from. window_days: of the terms in force at occurred_at."""

    offer_id: str
    occurred_at: datetime
    window_days: int
    click_id: str | None = None
    coupon: str | None = None
    affiliate_id: str | None = None
    customer_id: str | None = None


def attribute(claim: Claim, view: View, may_wait: bool) -> Attribution:
    """Try the steps. may_wait: a click_id not seen yet may still come."""
    found = Attribution([])
    if claim.click_id is not None:
        by_click_id(found, claim, view, may_wait)
        if found.affiliate is not None or found.waits:
            return found
    if claim.coupon is not None and by_coupon(found, claim, view):
        return found
    if claim.affiliate_id is not None and by_name(found, claim.affiliate_id, view):
        return found
    if claim.customer_id is not None:
        _by_last_click(found, claim, view)
    return found


def _credit(found: Attribution, rule: str, affiliate_id: str, view: View) -> bool:
    """Credit the affiliate if there is one of that name; its status is the caller's business."""
    affiliate = view.affiliate(affiliate_id)
    if affiliate is None:
        found.steps.append(Step(rule, "unknown_affiliate", affiliate_id))
        return False
    found.steps.append(Step(rule, "matched", affiliate_id))
    found.affiliate = affiliate
    return True


def by_name(found: Attribution, affiliate_id: str, view: View) -> bool:
    """Credit the affiliate that the conversion names."""
    return _credit(found, "affiliate_id", affiliate_id, view)


def _in_window(claim: Claim, clicked_at: datetime) -> str | None:
    """Why a click does not count, or None when it does."""
    if clicked_at > claim.occurred_at:
        return "after_the_conversion"
    try:
        opens = claim.occurred_at - timedelta(days=claim.window_days)
    except OverflowError:
        return None
    return "expired" if clicked_at < opens else None


def by_click_id(found: Attribution, claim: Claim, view: View, may_wait: bool) -> None:
    """Credit the affiliate of the conversion's own click, or wait for that."""
    assert claim.click_id is not None
    seen = view.click(claim.click_id)
    said = seen or view.token(claim.click_id)
    if said is None:
        if claim.click_id.startswith(OUR_CLICK_PREFIX):
            found.steps.append(Step("click_id", "bad_signature"))
        elif may_wait:
            found.steps.append(Step("click_id", "not_seen_yet"))
            found.waits = True
        else:
            found.steps.append(Step("click_id", "unknown"))
        return
    if said.offer_id != claim.offer_id:
        found.steps.append(Step("click_id", "other_offer", said.affiliate_id))
        return
    if (why_not := _in_window(claim, said.occurred_at)) is not None:
        found.steps.append(Step("click_id", why_not, said.affiliate_id))
        return
    if _credit(found, "click_id", said.affiliate_id, view):
        found.click_id = claim.click_id
        found.clicked_at = said.occurred_at
        found.click_position = seen.position if seen else 0
        found.click_leaf = seen.leaf_hash if seen else None
        found.channel = seen.channel if seen else None


def by_coupon(found: Attribution, claim: Claim, view: View) -> bool:
    """Credit the affiliate to whom the coupon belonged."""
    assert claim.coupon is not None
    coupon = view.coupon(claim.coupon)
    assigned = coupon.at(claim.occurred_at) if coupon else None
    if coupon is None:
        found.steps.append(Step("coupon", "unknown"))
    elif assigned is None:
        found.steps.append(Step("coupon", "not_valid_then"))
    elif assigned.offer_id != claim.offer_id:
        found.steps.append(Step("coupon", "other_offer", assigned.affiliate_id))
    else:
        return _credit(found, "coupon", assigned.affiliate_id, view)
    return False


def _by_last_click(found: Attribution, claim: Claim, view: View) -> None:
    assert claim.customer_id is not None
    seen = view.last_click(claim.customer_id, claim.offer_id, claim.occurred_at)
    if seen is None:
        found.steps.append(Step("last_click", "none"))
    elif (why_not := _in_window(claim, seen.occurred_at)) is not None:
        found.steps.append(Step("last_click", why_not, seen.affiliate_id))
    elif _credit(found, "last_click", seen.affiliate_id, view):
        found.click_id = seen.click_id
        found.clicked_at = seen.occurred_at
        found.click_position = seen.position
        found.click_leaf = seen.leaf_hash
        found.channel = seen.channel
