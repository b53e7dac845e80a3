"""The facts of a program as an independent model of plans knows them: JSON from the log, kept in lists and searched
from end to end. See naive_program.py.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from ledger.audit import naive_attribution as attribution
from ledger.audit.naive_plans import at, plan_of, rate_factor

State = dict[str, Any]
Credit = tuple[str, Fraction, str | None]  # affiliate, its part of the credit, the channel of its last touch
_STATUS = {
    "AffiliateEnrolled": "applied",
    "AffiliateApproved": "approved",
    "AffiliateSuspended": "suspended",
    "AffiliateReinstated": "approved",
    "AffiliateClosed": "closed",
}


class NaiveFacts:
    """Master data and traffic. Feed it events in the order of the log."""

    def __init__(self) -> None:
        self.zone = ZoneInfo("UTC")
        self.status: dict[str, str] = {}
        self._recruited: dict[str, State] = {}
        self._groups: dict[str, list[State]] = defaultdict(list)
        self._terms: dict[str, list[State]] = defaultdict(list)
        self._coupons: dict[str, list[State]] = defaultdict(list)
        self._rates: list[State] = []
        self._touches: list[State] = []

    def feed(self, position: int, topic: str, e: State) -> None:
        """The next event of either log."""
        if topic == "ProgramOpened":
            self.zone = ZoneInfo(e.get("zone", "UTC"))
        elif topic in _STATUS:
            self.status[e["affiliate_id"]] = _STATUS[topic]
        elif topic == "AffiliateGrouped":
            self._groups[e["affiliate_id"]].append(e)
        elif topic == "AffiliateRecruited":
            self._recruited[e["affiliate_id"]] = e
        elif topic == "TermsPublished":
            self._terms[e["offer_id"]].append(e)
        elif topic == "CouponAssigned":
            self._coupons[e["coupon"]].append(e)
        elif topic == "RateRecorded":
            self._rates.append(e)
        elif topic == "ClickRecorded":
            self._touches.append({**e, "kind": "click", "position": position})
        elif topic == "ImpressionRecorded":
            self._touches.append({**e, "kind": "impression", "position": position})

    def can_earn(self, affiliate_id: str) -> bool:
        """Now."""
        return self.status.get(affiliate_id) in ("approved", "suspended")

    def recruiter_at(self, affiliate_id: str, instant: datetime) -> str:
        """'' for none."""
        said = self._recruited.get(affiliate_id)
        if said is None or (
            said.get("effective_from", "") and datetime.fromisoformat(said["effective_from"]) > instant
        ):
            return ""
        return str(said["recruiter_id"])

    def group_at(self, affiliate_id: str, instant: datetime) -> str:
        """'' for none."""
        return str(_latest(self._groups[affiliate_id], "effective_from", instant).get("group", ""))

    def terms_at(self, offer_id: str, instant: datetime) -> State:
        """The version in force, {} for none."""
        return _latest(self._terms[offer_id], "effective_from", instant)

    def factor(self, base: str, quote: str, instant: datetime) -> Fraction | None:
        """Minor units of quote for one of base; None where no rate is known."""
        if base == quote:
            return Fraction(1)
        one = _latest([r for r in self._rates if (r["base"], r["quote"]) == (base, quote)], "as_of", instant)
        if not one or instant - at(one["as_of"]) > timedelta(days=7):
            return None
        return rate_factor(base, quote, one["rate"])

    def credits(self, sale: State, terms: State, first_credited: list[str], traffic_position: int) -> list[Credit]:
        """Whom a sale is credited to, nobody: []. first_credited: whom the customer's first credited sale went to."""
        model = plan_of(terms).get("attribution", {"model": "last_click"})
        if model["model"] == "coupon_wins":
            if (owner := self._coupon_owner(sale)) is not None:
                return self._alone(owner, None)
            model = {**model, "model": model.get("otherwise", "last_click")}
        elif model["model"] == "lifetime":
            if first_credited and self.can_earn(first_credited[0]):
                return self._alone(first_credited[0], None)
            model = {**model, "model": model.get("otherwise", "last_click")}
        known = [one for one in self._touches if one["position"] <= traffic_position]
        days, views = terms["window_days"], model.get("view_window_days", 0)
        own = self._own_click(sale, known, days)
        if model["model"] == "last_click":
            return self._last_click(sale, known, days, views, own)
        mine = [one for one in known if _is_of(one, sale)]
        touches = attribution.journey(mine, at(sale["occurred_at"]), days, views, own)
        touches = [one for one in touches if self.can_earn(one["affiliate_id"])]
        if not touches:
            return self._named(sale)
        weights = attribution.weights(model, touches, at(sale["occurred_at"]))
        channel = {
            one["affiliate_id"]: one.get("channel") for one, weight in zip(touches, weights, strict=True) if weight
        }
        return [(who, part, channel[who]) for who, part in attribution.credits(touches, weights).items()]

    def _last_click(self, sale: State, known: list[State], days: int, views: int, own: State | None) -> list[Credit]:
        if own is not None:
            return self._alone(own["affiliate_id"], own.get("channel"))
        if found := self._named(sale):
            return found
        mine = [one for one in known if _is_of(one, sale) and self.can_earn(one["affiliate_id"])]
        for some in (
            attribution.journey(mine, at(sale["occurred_at"]), days),
            attribution.journey([one for one in mine if one["kind"] != "click"], at(sale["occurred_at"]), 0, views),
        ):
            if some:
                return self._alone(some[-1]["affiliate_id"], some[-1].get("channel"))
        return []

    def _own_click(self, sale: State, known: list[State], days: int) -> State | None:
        instant = at(sale["occurred_at"])
        for one in known:
            fits = one["kind"] == "click" and one["click_id"] == sale.get("click_id", "")
            in_time = instant - timedelta(days=days) <= at(one["occurred_at"]) <= instant
            if fits and in_time and one["offer_id"] == sale["offer_id"]:
                return one
        return None

    def _coupon_owner(self, sale: State) -> str | None:
        instant = at(sale["occurred_at"])
        for one in reversed(self._coupons[sale.get("coupon") or ""]):
            begun = one.get("valid_from") is None or at(one["valid_from"]) <= instant
            over = one.get("valid_until") is not None and at(one["valid_until"]) <= instant
            if begun and not over:
                return str(one["affiliate_id"]) if one["offer_id"] == sale["offer_id"] else None
        return None

    def _named(self, sale: State) -> list[Credit]:
        owner = self._coupon_owner(sale) or sale.get("affiliate_id")
        return self._alone(owner, None) if owner is not None else []

    def _alone(self, affiliate_id: str, channel: str | None) -> list[Credit]:
        return [(affiliate_id, Fraction(1), channel)] if self.can_earn(affiliate_id) else []


def _latest(some: list[State], member: str, instant: datetime) -> State:
    """The one whose instant is the last that is not after another; of equals the last recorded."""
    best: State = {}
    for one in some:
        if at(one[member]) <= instant and (not best or at(best[member]) <= at(one[member])):
            best = one
    return best


def _is_of(touch: State, sale: State) -> bool:
    """Whether a touch is one of the sale's customer or visitor, on its offer."""
    same = any(sale.get(who) is not None and touch.get(who) == sale[who] for who in ("customer_id", "visitor_id"))
    return same and touch["offer_id"] == sale["offer_id"]
