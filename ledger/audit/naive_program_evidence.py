"""What the evidence of a commission must say, by the model of a whole program (naive_program.py): as JSON, member by
member, as it stands in the log."""

from __future__ import annotations

from typing import Any

from ledger.audit.naive_plans import Paid, parts_between, step_at
from ledger.audit.naive_program_facts import NaiveFacts
from ledger.audit.naive_program_orders import Order, Part

State = dict[str, Any]
_PRICES = {"rate_bps": "rate_bps", "amount": "flat_amount", "amount_per_item": "amount_per_item",
           "amount_per_click": "amount_per_click"}  # fmt: skip


class Expected:
    """A commission that must accrue, and what its price was. tables: by rule; customer, first_order_id: whatever the
    plan asks; count: of affiliates that are credited; weight: (its own, of all); pricing: see `expected`."""

    __slots__ = (
        "bound", "caps", "count", "customer", "first_order_id", "model", "order", "part", "pricing", "rate", "rate_bps",
        "second_level_of", "tables", "weight",
    )  # fmt: skip

    def __init__(
        self,
        part: Part,
        order: Order,
        bound: str = "",
        tables: dict[str, State] | None = None,
        customer: str = "",
        first_order_id: str = "",
    ) -> None:
        self.part, self.order, self.bound, self.tables = part, order, bound, tables or {}
        self.customer, self.first_order_id = customer, first_order_id
        self.caps: list[State] = []
        self.model, self.count, self.weight = "last_click", 1, (1, 1)
        self.rate: State | None = None
        self.rate_bps: int | None = None
        self.second_level_of: int | None = None
        self.pricing: State = {}


def expected(one: Expected, facts: NaiveFacts) -> Expected:
    """With its pricing; nothing that has its default stands there."""
    part = one.part
    asks = part.level == 1 and _asks_customer(part.own)
    said: State = {
        "rules": [_rule(paid, one, facts) for paid in part.rules],
        "override": part.override,
        "weight": list(one.weight) if one.count > 1 and part.level == 1 else None,
        "value": part.value,
        "exact": str(part.exact),
        "bound": one.bound,
        "caps": one.caps,
        "unpaid": part.unpaid,
        "counted": [counter.label for counter in part.counted],
        "customer": one.customer if asks else "",
        "first_order_id": one.first_order_id if asks else "",
        "rate": one.rate,
        "second_level_of": one.second_level_of,
        "rate_bps": one.rate_bps,
        "paid_clicks": part.clicks,
    }
    one.pricing = {name: value for name, value in said.items() if value not in (None, "", 0, [])}
    if part.level == 2:
        one.pricing["second_level_of"] = one.second_level_of
        if one.rate_bps is not None:
            one.pricing["rate_bps"] = one.rate_bps
    if one.model != "last_click":
        one.pricing["model"] = one.model
    return one


def _asks_customer(own: State) -> bool:
    recurring = own.get("recurring", {})
    limited = recurring.get("sales") == "first" or recurring.get("months") is not None
    return limited or any("customer" in rule.get("when", {}) for rule in own["rules"])


def _rule(paid: Paid, one: Expected, facts: NaiveFacts) -> State:
    said: State = {"rule": paid.rule, "amount": paid.amount, "exact": str(paid.exact)}
    if paid.quantity:
        said["quantity"] = paid.quantity
    tiers = one.tables.get(paid.rule)
    if tiers is None:
        return said | {_PRICES[way]: price for way, price in paid.price.items()}
    assert paid.reading is not None
    before, after = paid.reading
    counter = next(
        counter.label
        for counter in one.part.counted
        if counter.label.startswith(f"{tiers.get('level', 'affiliate')}/") and is_kind(counter.label, tiers["period"])
    )
    tier: State = {"by": tiers["by"], "counter": counter, "before": before, "after": after}
    tier |= {"step_before": step_at(tiers, before), "step": step_at(tiers, after)}
    if tiers.get("method", "whole") == "marginal" and after > before:
        tier["parts"] = [{"step": step, "amount": amount} for step, amount in parts_between(tiers, before, after)]
    return said | {"tier": tier}


def is_kind(label: str, period: str) -> bool:
    """Whether a counter's label is of a kind of period."""
    name = label.partition("/")[2]
    if "W" in name or "Q" in name:
        return period == ("week" if "W" in name else "quarter")
    return period == ("total" if name == "total" else {4: "year", 7: "month", 10: "day"}[len(name)])


INSTANTS = frozenset({"occurred_at", "as_of"})


def differs(expected: Any, found: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """(which member, what it should be, what it is) of the first one that differs."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in (*expected, *(name for name in found if name not in expected)):
            where = f"{path}.{name}" if path else name
            if (one := differs(expected.get(name), found.get(name), where)) is not None:
                return one
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
            if (one := differs(ours, theirs, f"{path}.{number}")) is not None:
                return one
        return None
    return None if expected == found and type(expected) is type(found) else (path, expected, found)
