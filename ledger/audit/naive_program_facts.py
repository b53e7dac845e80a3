"""The facts of a program as an independent model of plans knows them: JSON from the log, in the order of positions. See
naive_program.py.

Touches are kept by person and offer, in order of time, so that a sale looks at its own journey alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction
from operator import itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ledger.audit import naive_attribution as attribution
from ledger.audit.naive_plans import at, plan_of, rate_factor

State = dict[str, Any]
_STATUS = {
    "AffiliateEnrolled": "applied",
    "AffiliateApproved": "approved",
    "AffiliateSuspended": "suspended",
    "AffiliateReinstated": "approved",
    "AffiliateClosed": "closed",
}
_KIND = {"ClickRecorded": "click", "ImpressionRecorded": "impression"}
_TOUCH = ("position", "affiliate_id", "occurred_at", "kind", "channel")  # as it stands in ConversionAttributed


class Credit(NamedTuple):
    """An affiliate that is credited. weight: of the sum of all; channel: of its last touch that counts."""

    affiliate_id: str
    weight: int
    channel: str | None


class Credited(NamedTuple):
    """Whom a sale is credited to. model: that decided; touches: (touch, weight) of the journey that did; rule: the step
    of attribution that did; click: the one that is quoted."""

    credits: list[Credit]
    model: str
    rule: str = ""
    touches: list[tuple[State, int]] = []
    click: State | None = None


class NaiveFacts:
    """Master data and traffic. Feed it events in the order of the log; all of the traffic may come first."""

    def __init__(self) -> None:
        self.zone = ZoneInfo("UTC")
        self.status: dict[str, str] = {}
        self.simulations: dict[str, str] = {}
        self._recruited: dict[str, State] = {}
        self._groups: dict[str, list[State]] = defaultdict(list)
        self._terms: dict[str, list[State]] = defaultdict(list)
        self._coupons: dict[str, list[State]] = defaultdict(list)
        self._rates: dict[tuple[str, str], list[State]] = defaultdict(list)
        # by (offer, person): (instant, position, touch), sorted
        self._touches: dict[tuple[str, str], list[tuple[datetime, int, State]]] = defaultdict(list)
        self._clicks: dict[str, State] = {}

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
            self._rates[e["base"], e["quote"]].append(e)
        elif topic in _KIND:
            self._touched({**e, "kind": _KIND[topic], "position": position})
        elif topic.startswith("Simulation"):
            self.simulations[e["simulation_id"]] = topic

    def _touched(self, touch: State) -> None:
        if touch["kind"] == "click":
            self._clicks.setdefault(touch["click_id"], touch)
        for who in ("customer_id", "visitor_id"):
            if touch.get(who) is not None:
                entry = (at(touch["occurred_at"]), touch["position"], touch)
                insort(self._touches[touch["offer_id"], f"{who}:{touch[who]}"], entry, key=itemgetter(0, 1))

    def can_earn(self, affiliate_id: str) -> bool:
        """Now."""
        return self.status.get(affiliate_id) in ("approved", "suspended")

    def recruiter_at(self, affiliate_id: str, instant: datetime) -> str:
        """'' for none."""
        said = self._recruited.get(affiliate_id)
        if said is None or (said.get("effective_from", "") and at(said["effective_from"]) > instant):
            return ""
        return str(said["recruiter_id"])

    def group_at(self, affiliate_id: str, instant: datetime) -> str:
        """'' for none."""
        return str(_latest(self._groups.get(affiliate_id, []), "effective_from", instant).get("group", ""))

    def terms(self, offer_id: str) -> list[State]:
        """Every version that was published."""
        return self._terms.get(offer_id, [])

    def terms_at(self, offer_id: str, instant: datetime) -> State:
        """The version in force, {} for none."""
        return _latest(self.terms(offer_id), "effective_from", instant)

    def rate(self, base: str, quote: str, instant: datetime) -> State | None:
        """In force at an instant, None where no rate is known."""
        one = _latest(self._rates.get((base, quote), []), "as_of", instant)
        return one if one and instant - at(one["as_of"]) <= timedelta(days=7) else None

    def factor(self, base: str, quote: str, instant: datetime) -> Fraction | None:
        """Minor units of quote for one of base; None where no rate is known."""
        if base == quote:
            return Fraction(1)
        one = self.rate(base, quote, instant)
        return None if one is None else rate_factor(base, quote, one["rate"])

    # --- credit ----------------------------------------------------------------------------------------------

    def credited(
        self, sale: State, terms: State, referrer: str, traffic_position: int, signed: State | None = None
    ) -> Credited:
        """Whom a sale is credited to. referrer: whom the customer's first credited sale went to, '' for nobody; signed:
        its own click, where that is known by its signature alone."""
        model = plan_of(terms).get("attribution", {"model": "last_click"})
        if model["model"] == "coupon_wins":
            if (owner := self._coupon_owner(sale)) is not None:
                return self._alone(owner, "coupon_wins", "coupon")
            model = {**model, "model": model.get("otherwise", "last_click")}
        elif model["model"] == "lifetime":
            if referrer and self.can_earn(referrer):
                return self._alone(referrer, "lifetime", "lifetime")
            model = {**model, "model": model.get("otherwise", "last_click")}
        days, views = terms["window_days"], model.get("view_window_days", 0)
        own = self._own_click(sale, days, traffic_position, signed)
        if model["model"] == "last_click":
            return self._last_click(sale, days, views, traffic_position, own)
        clicks = self._journey(sale, "click", days, traffic_position)
        if own is not None and all(not own["position"] or one["position"] != own["position"] for one in clicks):
            clicks = sorted([*clicks, own], key=lambda one: (at(one["occurred_at"]), one["position"]))
        touches = [one for one in clicks[-attribution.NEWEST :] if self.can_earn(one["affiliate_id"])]
        if not touches and views:
            some = self._journey(sale, "impression", views, traffic_position)
            touches = [one for one in some if self.can_earn(one["affiliate_id"])]
        if not touches:
            return self._named(sale, model["model"])
        weights = attribution.weights(model, touches, at(sale["occurred_at"]))
        added: dict[str, int] = {}
        channel: dict[str, str | None] = {}
        for one, weight in zip(touches, weights, strict=True):
            if weight:
                added[one["affiliate_id"]] = added.get(one["affiliate_id"], 0) + weight
                channel[one["affiliate_id"]] = one.get("channel")
        credits = [Credit(who, weight, channel[who]) for who, weight in added.items()]
        return Credited(credits, model["model"], model["model"], list(zip(touches, weights, strict=True)), own)

    def _last_click(self, sale: State, days: int, views: int, traffic_position: int, own: State | None) -> Credited:
        if own is not None:
            return self._alone(own["affiliate_id"], "last_click", "click_id", own)
        if (found := self._named(sale, "last_click")).credits:
            return found
        if (last := self._customers_last_click(sale, days, traffic_position)) is not None:
            return self._alone(last["affiliate_id"], "last_click", "last_click", last)
        if views:
            some = self._journey(sale, "impression", views, traffic_position)
            seen = [one for one in some if self.can_earn(one["affiliate_id"])][-1:]
            if seen:
                found = self._alone(seen[0]["affiliate_id"], "last_click", "last_impression")
                credits = [one._replace(channel=seen[0].get("channel")) for one in found.credits]
                return found._replace(credits=credits, touches=[(seen[0], 1)])
        return Credited([], "last_click")

    def _between(self, key: tuple[str, str], since: datetime, until: datetime) -> list[State]:
        some = self._touches.get(key, [])
        first = bisect_left(some, since, key=itemgetter(0))
        return [one for instant, _, one in some[first:] if instant <= until]

    def _journey(self, sale: State, kind: str, days: int, traffic_position: int) -> list[State]:
        """Clicks or impressions of the sale's customer and visitor, the newest ones, in order of time."""
        until = at(sale["occurred_at"])
        since = _before(until, days)
        found: dict[int, State] = {}
        for who in ("customer_id", "visitor_id"):
            if sale.get(who) is None:
                continue
            for one in self._between((sale["offer_id"], f"{who}:{sale[who]}"), since, until):
                if one["kind"] == kind and one["position"] <= traffic_position and not one.get("duplicate"):
                    found[one["position"]] = one
        some = sorted(found.values(), key=lambda one: (at(one["occurred_at"]), one["position"]))
        return some[-attribution.NEWEST :]

    def _customers_last_click(self, sale: State, days: int, traffic_position: int) -> State | None:
        if sale.get("customer_id") is None:
            return None
        until = at(sale["occurred_at"])
        key = sale["offer_id"], f"customer_id:{sale['customer_id']}"
        for one in reversed(self._between(key, _before(until, days), until)):
            if one["kind"] == "click" and one["position"] <= traffic_position:
                return one
        return None

    def _own_click(self, sale: State, days: int, traffic_position: int, signed: State | None) -> State | None:
        if sale.get("click_id") is None:
            return None
        one = self._clicks.get(sale["click_id"])
        if one is None or one["position"] > traffic_position:
            one = signed
        if one is None or one["offer_id"] != sale["offer_id"]:
            return None
        until = at(sale["occurred_at"])
        return one if _before(until, days) <= at(one["occurred_at"]) <= until else None

    def knows_click(self, click_id: str | None, traffic_position: int) -> State | None:
        """A click up to a position of the traffic log."""
        one = self._clicks.get(click_id or "")
        return one if one is not None and one["position"] <= traffic_position else None

    def _coupon_owner(self, sale: State) -> str | None:
        instant = at(sale["occurred_at"])
        for one in reversed(self._coupons.get(sale.get("coupon") or "", [])):
            begun = one.get("valid_from") is None or at(one["valid_from"]) <= instant
            over = one.get("valid_until") is not None and at(one["valid_until"]) <= instant
            if begun and not over:
                return str(one["affiliate_id"]) if one["offer_id"] == sale["offer_id"] else None
        return None

    def _named(self, sale: State, model: str) -> Credited:
        if (owner := self._coupon_owner(sale)) is not None:
            return self._alone(owner, model, "coupon")
        named = sale.get("affiliate_id")
        return self._alone(named, model, "affiliate_id") if named in self.status else Credited([], model)

    def _alone(self, affiliate_id: str, model: str, rule: str, click: State | None = None) -> Credited:
        if not self.can_earn(affiliate_id):
            return Credited([], model)
        channel = click.get("channel") if click is not None else None
        return Credited([Credit(affiliate_id, 1, channel)], model, rule, [], click)


def touch_of(one: State) -> State:
    """A touch as it stands in evidence."""
    return {name: one[name] for name in _TOUCH if one.get(name) is not None}


def _before(instant: datetime, days: int) -> datetime:
    try:
        return instant - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=instant.tzinfo)


def _latest(some: list[State], member: str, instant: datetime) -> State:
    """The one whose instant is the last that is not after another; of equals the last recorded."""
    best: State = {}
    for one in some:
        if at(one[member]) <= instant and (not best or at(best[member]) <= at(one[member])):
            best = one
    return best
