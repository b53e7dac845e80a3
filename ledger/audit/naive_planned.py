"""Conversions under commission plans, one stream after the other: each is checked once all of its commissions accrued,
and again with every event that changes them; what it counts by then is written down for the chain of counters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from ledger.audit import naive_plans, naive_priced
from ledger.audit.findings import Findings
from ledger.audit.naive_chain import Claim, Counted
from ledger.audit.naive_counters import Counter, counter_of
from ledger.audit.naive_plan_facts import PlanFacts
from ledger.audit.naive_plans import half_up
from ledger.audit.naive_priced import Checked, Difference

State = dict[str, Any]
GOAL = "~goal-"  # what the ids of bonuses for goals begin with
_WRONG = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError, RecursionError)
Stand = dict[tuple[Counter, str], int]  # what a conversion counts, by counter and kind


class _Part:
    """One commission of a conversion. amount: accrued, with top-ups; used: of caps."""

    __slots__ = ("amount", "checked", "e", "level", "rejected", "used")

    def __init__(self, e: State, checked: Checked | None) -> None:
        self.e, self.checked, self.level = e, checked, e.get("level", 1)
        self.amount = self.used = e["amount"]
        self.rejected = False


class _Order:
    __slots__ = ("accruals", "attributed", "parts", "reversals", "reversed_amount", "sale", "stands")

    def __init__(self, sale: State) -> None:
        self.sale = sale
        self.attributed: State | None = None
        self.accruals: list[tuple[int, State]] = []
        self.parts: dict[tuple[str, int], _Part] | None = None  # once it was checked
        self.reversals: set[str] = set()
        self.reversed_amount = 0
        self.stands: Stand = {}

    def left_of(self, amount: int) -> int:
        """What reversals left of an amount."""
        whole = self.sale["amount"]
        if self.reversals and self.reversed_amount >= whole:
            return 0
        return amount - half_up(Fraction(amount * self.reversed_amount, whole)) if whole else amount


class PlannedPrices:
    """Reads the conversions' events of a part of the streams, in order, and is asked in the end what they count. What
    all commissions have in common, planned or not, is checked beside it (naive_commissions.py)."""

    def __init__(self, findings: Findings, facts: PlanFacts) -> None:
        self._findings, self._facts = findings, facts
        self._orders: dict[str, _Order] = {}
        self._counted: list[Counted] = []

    def event(self, position: int, topic: str, e: State) -> None:
        """The next event."""
        if topic == "ConversionRecorded":
            self._orders[e["order_id"]] = _Order(e)
            return
        order = self._orders.get(e["order_id"])
        if order is None:
            return
        if topic == "ConversionAttributed":
            order.attributed = e
        elif topic == "CommissionAccrued":
            if "pricing" in e:
                order.accruals.append((position, e))
        elif order.accruals:
            self._accrued(order)
            self._changed(position, topic, e, order)

    def end(self) -> list[Counted]:
        """After the last event."""
        for order in self._orders.values():
            self._accrued(order)
        return self._counted

    # --- checking --------------------------------------------------------------------------------------------

    def _tell(self, position: int, order: _Order, differences: Iterable[Difference]) -> None:
        for what, expected, found in differences:
            if expected != found:
                subject = f"order {order.sale['order_id']}"
                shown = f"{what} {_plain(expected)}"
                self._findings.report("price_differs", "books", position, shown, _plain(found), subject)

    def _accrued(self, order: _Order) -> None:
        """All commissions of a conversion, once no more of them comes."""
        if order.parts is not None or not order.accruals:
            return
        order.parts = {}
        try:
            self._check(order, order.parts)
        except _WRONG as problem:
            position, told = order.accruals[0][0], f"{type(problem).__name__} {problem}"
            self._findings.report("event_unreadable", "books", position, "evidence of a price by a plan", told)

    def _check(self, order: _Order, parts: dict[tuple[str, int], _Part]) -> None:
        position, lead = order.accruals[0]
        terms = self._facts.terms(lead["offer_id"], lead["terms_version"])
        if terms is None:
            return
        plan = naive_plans.plan_of(terms)
        if lead["order_id"].startswith(GOAL):
            self._tell(position, order, naive_priced.bonus_differs(position, lead, plan, self._facts))
            return
        firsts = [(where, e) for where, e in order.accruals if e.get("level", 1) == 1]
        offer_value = sum(e["pricing"].get("value", 0) for _, e in firsts)
        checked = [Checked(where, e, order.sale, plan, self._facts, offer_value) for where, e in firsts]
        for (where, _), one in zip(firsts, checked, strict=True):
            self._tell(where, order, one.differences())
        accruals = [e for _, e in firsts]
        if accruals:
            self._tell(position, order, naive_priced.shares_differ(order.sale, order.attributed, accruals, plan))
            self._tell(position, order, naive_priced.values_differ(order.sale, checked))
            for (where, e), due in zip(firsts, naive_priced.amounts_due(accruals), strict=True):
                self._tell(where, order, [("a commission of", due, e["amount"])])
        for where, e in order.accruals:
            if e.get("level", 1) == 2:
                self._tell(where, order, naive_priced.second_level_differs(where, e, checked, self._facts))
        by_affiliate = {one.e["affiliate_id"]: one for one in checked}
        claims = [claim for (where, _), one in zip(firsts, checked, strict=True) for claim in _tier_claims(where, one)]
        # all of a conversion counts at once, but its commissions take what caps leave one after the other
        for where, e in order.accruals:
            of = by_affiliate.get(e["affiliate_id"]) if e.get("level", 1) == 1 else None
            parts[e["affiliate_id"], e.get("level", 1)] = _Part(e, of)
            self._count(where, order, claims + _cap_claims(where, e, plan))
            claims = []

    def _changed(self, position: int, topic: str, e: State, order: _Order) -> None:
        assert order.parts is not None
        which = e.get("affiliate_id", ""), e.get("level", 1)
        if topic == "ConversionReversed" and e["reversal_id"] not in order.reversals:
            order.reversals.add(e["reversal_id"])
            order.reversed_amount += e["sale_amount"]
        elif topic == "ConversionRejected" and which in order.parts:
            order.parts[which].rejected = True
        elif topic == "CommissionRepriced" and which in order.parts:
            self._repriced(position, e, order, order.parts[which])
        else:
            return
        self._count(position, order, [])

    def _repriced(self, position: int, e: State, order: _Order, part: _Part) -> None:
        part.amount = e["commission"]
        part.used += e["amount"]
        if part.checked is not None and e["cause"] in ("tier_reached", "tier_lost"):
            self._tell(position, order, _stepped(e, part.checked, len(order.accruals)))

    # --- counting --------------------------------------------------------------------------------------------

    def _count(self, position: int, order: _Order, claims: list[Claim]) -> None:
        stands = _stands(order)
        adds = [
            ("|".join(counter), by, stands.get((counter, by), 0) - order.stands.get((counter, by), 0))
            for counter, by in stands.keys() | order.stands.keys()
        ]
        order.stands = stands
        adds = [one for one in adds if one[2]]
        if adds or claims:
            self._counted.append(Counted(position, order.sale["order_id"], claims, adds))


def _plain(one: object) -> object:
    """For people: fractions as such."""
    if isinstance(one, dict):
        return ", ".join(f"{key}: {value}" for key, value in one.items())
    return one


def _counters(part: _Part) -> list[Counter]:
    e = part.e
    names = e["pricing"].get("counted", [])
    return [counter_of(e["offer_id"], e["affiliate_id"], name, e["currency"]) for name in names]


def _tier_claims(position: int, one: Checked) -> list[Claim]:
    """What the evidence says that tables' counters stood at before."""
    tiers = [rule["tier"] for rule in one.pricing.get("rules", []) if "tier" in rule]
    return [(_name(one.e, tier["counter"]), tier["by"], tier["before"], position) for tier in tiers]


def _cap_claims(position: int, e: State, plan: State) -> list[Claim]:
    """What the evidence says was used of caps before."""
    caps = {cap["id"]: cap for cap in plan.get("caps", [])}
    said: list[Claim] = []
    for cap in e["pricing"].get("caps", []):
        known = caps.get(cap["cap"])
        if known is not None and cap["room"]:  # what is over a lower limit than before leaves no room either
            kind = "left" if known.get("reversals_free_room") else "used"
            used = known["limit"] - cap["room"]
            said.append((_name(e, cap["counter"]), f"{cap['by']} {kind}", used, position))
    return said


def _name(e: State, label: str) -> str:
    return "|".join(counter_of(e["offer_id"], e["affiliate_id"], label, e["currency"]))


def _stands(order: _Order) -> Stand:
    """What a conversion counts now: for each affiliate its own part, and for the offer once, and whole."""
    assert order.parts is not None
    found: Stand = defaultdict(int)
    gone = bool(order.reversals) and order.reversed_amount >= order.sale["amount"]
    firsts = [part for part in order.parts.values() if part.level == 1]
    of_offer = {counter for part in firsts for counter in _counters(part) if not counter.affiliate_id}
    for part in order.parts.values():
        alive = not part.rejected and not gone
        left = order.left_of(part.amount) if alive else 0
        counters = {counter for counter in _counters(part) if counter.affiliate_id or part.level == 2}
        if part.level == 1:
            counters |= of_offer
        for counter in counters:
            found[counter, "commission used"] += part.used
            found[counter, "commission left"] += left
            if part.level == 1:
                _count_first(found, counter, order, part, alive, left)
    return dict(found)


def _count_first(found: Stand, counter: Counter, order: _Order, part: _Part, alive: bool, left: int) -> None:
    """What a commission of the first level counts besides."""
    clicks = _clicks(order, part)
    found[counter, "commission"] += left
    found[counter, "clicks used"] += clicks
    if part.e["amount"]:
        found[counter, "conversions used"] = 1
    if alive:
        found[counter, "conversions"] = 1
        found[counter, "revenue"] += order.left_of(part.e["pricing"].get("value", 0))
        found[counter, "clicks left"] += clicks
        if part.e["amount"]:
            found[counter, "conversions left"] = 1


def _clicks(order: _Order, part: _Part) -> int:
    """What of a bundle was paid."""
    if not part.e["amount"]:
        return 0
    caps = part.e["pricing"].get("caps", [])
    return int(min([one["given"] for one in caps if one["by"] == "clicks"], default=order.sale.get("click_count", 0)))


def _stepped(e: State, one: Checked, commissions: int) -> Iterable[Difference]:
    """A commission after a tier was reached or lost: paid by that step."""
    tiered = [rule for rule in one.own["rules"] if "tiers" in rule["pay"]]
    said = {rule["rule"]: rule for rule in one.pricing.get("rules", [])}
    paying = [rule for rule in tiered if rule["id"] in said]
    if len(paying) != 1:
        return  # which of several tables moved is not said
    tiers = paying[0]["pay"]["tiers"]
    yield "step", naive_plans.step_at(tiers, e["counted"]), e["step"]
    exact = Fraction(0)
    for rule_id, paid in said.items():
        if rule_id == paying[0]["id"]:
            value = paid["amount"] * one.factor
            exact += naive_plans.earned(tiers["steps"][e["step"]], value, paid.get("quantity", 0), 0)
        else:
            exact += Fraction(paid["exact"])
    due = half_up(naive_plans.bounded(one.own, exact)[0])
    if commissions == 1 and not any(cap["by"] == "commission" for cap in one.own.get("caps", [])):
        yield "a commission of", due, e["commission"]
