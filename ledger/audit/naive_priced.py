"""Commissions that a plan priced, checked from their own evidence: the rules, tiers, caps, rate, weight and rounding
that each states must lead from its sale and the plan in force to its amount.

One conversion at a time; what it counts goes into the chain of counters (naive_chain.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from ledger.audit import naive_attribution, naive_plans
from ledger.audit.naive_counters import label, labels
from ledger.audit.naive_plan_facts import PlanFacts
from ledger.audit.naive_plans import Asked, Paid, at, half_up, largest_remainder

State = dict[str, Any]
Difference = tuple[str, object, object]  # what, expected, found
_JOURNEY = frozenset({"first_click", "last_non_direct", "linear", "position_based", "time_decay"})
_PRICES = {"rate_bps": "rate_bps", "amount": "flat_amount"}  # in a plan, in the evidence; else the same


def shares_differ(
    sale: State, attributed: State | None, accruals: Sequence[State], plan: State
) -> Iterator[Difference]:
    """Weights by the model, and the sale's amount by the weights. accruals: of the first level, in their order."""
    if attributed is not None and attributed["touches"]:
        touches = [one["touch"] for one in attributed["touches"]]
        said = naive_attribution.credits(touches, [one["weight"] for one in attributed["touches"]])
        if attributed["model"] in _JOURNEY:
            model = {**plan["attribution"], "model": attributed["model"]}
            found = naive_attribution.weights(model, touches, at(sale["occurred_at"]))
            yield "credit by the model", naive_attribution.credits(touches, found), said
        yield "weights", said, {e["affiliate_id"]: weight_of(e) for e in accruals}
    parts = largest_remainder(sale["amount"], [weight_of(e) for e in accruals])
    yield "credited_amount", parts, [credited(e) for e in accruals]
    yield "all of the credit", 1, sum(weight_of(e) for e in accruals)


def values_differ(sale: State, firsts: Sequence[Checked]) -> Iterator[Difference]:
    """What counters count: all of the sale in the commission's currency, rounded once and split as the credit is."""
    whole = half_up(sale["amount"] * firsts[0].factor)
    yield (
        "value",
        largest_remainder(whole, [weight_of(one.e) for one in firsts]),
        [one.pricing.get("value", 0) for one in firsts],
    )


def weight_of(e: State) -> Fraction:
    """An affiliate's part of the credit."""
    mine, whole = e["pricing"].get("weight") or (1, 1)
    return Fraction(mine, whole)


def credited(e: State) -> int:
    """The affiliate's part of the sale."""
    return int(e["sale_amount"] if e.get("credited_amount") is None else e["credited_amount"])


class Checked:
    """One affiliate's commission of the first level. value: the credited sale as counters count it; offer_value: all
    of the sale."""

    def __init__(self, position: int, e: State, sale: State, plan: State, facts: PlanFacts, offer_value: int) -> None:
        self.e, self.pricing = e, e["pricing"]
        self._sale, self._plan, self._facts, self._position = sale, plan, facts, position
        self.group = facts.group(e["affiliate_id"], at(sale["occurred_at"]), position)
        self.own, self.override = naive_plans.for_affiliate(plan, e["affiliate_id"], self.group)
        self._offer_value = offer_value
        self.factor = Fraction(1)
        if rate := self.pricing.get("rate"):
            self.factor = naive_plans.rate_factor(rate["base"], rate["quote"], rate["rate"])

    def differences(self) -> Iterator[Difference]:
        """Everything about it, whether it differs or not."""
        sale, pricing = self._sale, self.pricing
        yield "override", self.override, pricing.get("override", "")
        yield "currency", self._plan.get("currency", sale["currency"]), self.e["currency"]
        yield from self._rate()
        for said in pricing.get("rules", []):
            yield from self._rule(said)
        yield from self._whole()
        names = labels(self.own, at(sale["occurred_at"]), self._facts.zone)
        yield "counted", names, sorted(pricing.get("counted", []))
        for said in pricing.get("caps", []):
            yield from self._cap(said)

    def _rate(self) -> Iterator[Difference]:
        base, quote = self._sale["currency"], self.e["currency"]
        said = self.pricing.get("rate")
        if base == quote:
            yield "rate", None, said
            return
        known = self._facts.rate(base, quote, at(self._sale["occurred_at"]), self._position)
        yield "rate", known, said

    def _rule(self, said: State) -> Iterator[Difference]:
        """One rule by itself: its price, its tier, and what they make of its lines."""
        rule = next((one for one in self.own["rules"] if one["id"] == said["rule"]), None)
        if rule is None:
            yield "a rule of the plan", [one["id"] for one in self.own["rules"]], said["rule"]
            return
        asked = Asked(stands=lambda _: reading(said), factor=self.factor)
        lines = [naive_plans.Line(said["amount"], said.get("quantity", 0))]
        paid = naive_plans.paid(rule, lines, self._sale, asked)
        yield f"exact of rule {said['rule']}", str(paid.exact), said["exact"]
        if tiers := rule["pay"].get("tiers"):
            yield from self._tier(tiers, said["tier"], paid)
        else:
            for name, price in rule["pay"].items():
                yield f"{name} of rule {said['rule']}", price, said.get(_PRICES.get(name, name))

    def _tier(self, tiers: State, said: State, paid: Paid) -> Iterator[Difference]:
        before, after = said["before"], said["after"]
        name = label(tiers.get("level", "affiliate"), tiers["period"], at(self._sale["occurred_at"]), self._facts.zone)
        yield "counter", name, said["counter"]
        yield "tiers by", tiers["by"], said["by"]
        if tiers["by"] != "commission":
            value = self._offer_value if tiers.get("level") == "offer" else self.pricing.get("value", 0)
            yield "counted with it", before + (1 if tiers["by"] == "conversions" else value), after
        yield "step before", naive_plans.step_at(tiers, before), said["step_before"]
        yield "step", naive_plans.step_at(tiers, after), said["step"]
        if parts := said.get("parts"):
            yield "parts", [number for number, _ in paid.steps], [one["step"] for one in parts]
            if paid.amount == self.pricing.get("value", 0):  # all of the sale, in its own currency
                yield "parts", [amount for _, amount in paid.steps], [one["amount"] for one in parts]

    def _whole(self) -> Iterator[Difference]:
        """All rules, the minimum and the maximum."""
        pricing, sale = self.pricing, self._sale
        stated = {one["rule"]: one for one in pricing.get("rules", [])}
        exact = sum((Fraction(one["exact"]) for one in stated.values()), Fraction(0))
        tiered = any("tiers" in rule["pay"] for rule in self.own["rules"])
        customer = pricing.get("customer") or "new"
        if pricing.get("unpaid") == "recurring":
            yield "a plan that ends with the customer's first sales", True, "recurring" in self.own
            yield "customer", "returning", customer
            return
        if customer == "returning" and self.own.get("recurring", {}).get("sales") == "first":
            yield "unpaid", "recurring", pricing.get("unpaid", "")
        exact, bound = naive_plans.bounded(self.own, exact)
        yield "bound", bound, pricing.get("bound", "")
        yield "exact", exact, Fraction(pricing.get("exact", "0"))
        if tiered and self.own.get("match") == "best":
            return  # what a table would have paid that was not chosen stands nowhere
        by_table = {
            id(rule["pay"]["tiers"]): reading(stated[rule["id"]])
            for rule in self.own["rules"]
            if "tiers" in rule["pay"] and rule["id"] in stated
        }
        asked = Asked(
            stands=lambda tiers: by_table.get(id(tiers), (0, 0)),
            customer=customer,
            factor=self.factor,
            channel=self.e.get("channel"),
            zone=self._facts.zone,
        )
        if any("channel" in rule.get("when", {}) for rule in self.own["rules"]) and not sale.get("channel"):
            return  # that of the click stands in the traffic log
        priced = naive_plans.price({**self.own, "recurring": {}, "overrides": []}, sale, asked)
        lines = [(one.rule, one.amount, one.quantity) for one in priced.rules]
        yield "lines by rule", lines, [(r, one["amount"], one.get("quantity", 0)) for r, one in stated.items()]

    def _cap(self, said: State) -> Iterator[Difference]:
        cap = next((one for one in self.own.get("caps", []) if one["id"] == said["cap"]), None)
        if cap is None:
            yield "a cap of the plan", [one["id"] for one in self.own.get("caps", [])], said["cap"]
            return
        name = label(cap["level"], cap["period"], at(self._sale["occurred_at"]), self._facts.zone)
        yield "counter", name, said["counter"]
        yield "cap by", cap["by"], said["by"]
        yield "given", what_fits(cap, said["room"], said["asked"]), said["given"]


def reading(said: State) -> tuple[int, int]:
    """(before, after) of a rule's tier."""
    tier = said.get("tier")
    return (tier["before"], tier["after"]) if tier else (0, 0)


def what_fits(cap: State, room: int, asked: int) -> int:
    """What of something a cap lets through."""
    if asked <= room:
        return asked
    return room if cap.get("over", "unpaid") == "clamp" and cap["by"] != "conversions" else 0


def amounts_due(accruals: Sequence[State]) -> list[int]:
    """Exact commissions by weight, rounded once, and what caps left. accruals: of the first level."""
    shares = naive_plans.rounded_once([Fraction(e["pricing"].get("exact", "0")) * weight_of(e) for e in accruals])
    return [capped(share, e["pricing"].get("caps", [])) for share, e in zip(shares, accruals, strict=True)]


def capped(amount: int, caps: Sequence[State]) -> int:
    """What caps, one after the other, leave of an amount."""
    for one in caps:
        if one["given"] < one["asked"]:
            amount = (
                one["given"] if one["by"] == "commission" else half_up(Fraction(amount * one["given"], one["asked"]))
            )
    return amount


def bonus_differs(position: int, e: State, plan: State, facts: PlanFacts) -> Iterator[Difference]:
    """The bonus of a goal, which is a conversion of its own."""
    group = facts.group(e["affiliate_id"], at(e["occurred_at"]), position)
    own, _ = naive_plans.for_affiliate(plan, e["affiliate_id"], group)
    goals = {f"goal:{one['id']}": one.get("bonus_amount", 0) for one in own.get("goals", [])}
    said = e["pricing"]["rules"][0]
    yield "bonus of the goal", goals.get(said["rule"], "none"), e["amount"]
    yield "flat_amount", e["amount"], said.get("flat_amount")
    yield "counted", [], e["pricing"].get("counted", [])


def second_level_differs(position: int, e: State, firsts: Sequence[Checked], facts: PlanFacts) -> Iterator[Difference]:
    """A commission of who recruited. firsts: those of the first level on the same sale."""
    mine = [
        one
        for one in firsts
        if facts.recruiter(one.e["affiliate_id"], at(e["occurred_at"]), position) == e["affiliate_id"]
    ]
    rules = [(one, one.own["second_level"]) for one in mine if "second_level" in one.own and one.e["amount"]]
    yield "whom it recruited, paid by the plan", True, bool(rules)
    if not rules:
        return
    bases = [
        one.e["amount"] if rule.get("of", "commission") == "commission" else one.pricing.get("value", 0)
        for one, rule in rules
    ]
    exact = sum(
        Fraction(base * rule["rate_bps"], naive_plans.BPS) for base, (_, rule) in zip(bases, rules, strict=True)
    )
    yield "second_level_of", sum(bases), e["pricing"].get("second_level_of")
    if len({rule["rate_bps"] for _, rule in rules}) == 1:
        yield "rate_bps", rules[0][1]["rate_bps"], e["pricing"].get("rate_bps")
    yield "a commission of", capped(half_up(Fraction(exact)), e["pricing"].get("caps", [])), e["amount"]
