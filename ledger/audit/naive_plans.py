"""A second opinion on commission plans (docs/plans.md): what one sale earns for one affiliate, written down once more,
on purpose naively.

It knows a plan and a sale as the JSON that stands in the log, and nothing of the ledger's domain. Every amount that is
not whole is a Fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from iso4217 import Currency

State = dict[str, Any]
BPS = 10_000
OVERRIDDEN = ("rules", "min_amount", "max_amount", "recurring", "second_level", "goals")

# (before, after): what the counter that a tier table reads stands at without this conversion, and with it
Reading = tuple[int, int]
Stands = Callable[[State], Reading]


def half_up(exact: Fraction) -> int:
    """To the nearest minor unit, halves up. exact: not below 0."""
    whole, rest = divmod(exact.numerator, exact.denominator)
    return whole + 1 if 2 * rest >= exact.denominator else whole


def largest_remainder(total: int, parts: Sequence[Fraction | int]) -> list[int]:
    """total (minor units) by the parts: each gets its share rounded down, and what is left goes one by one to those
    that lost most, of equals to the first. All is 0 where the parts are."""
    whole = sum(parts)
    if not whole:
        return [0 for _ in parts]
    if len(parts) == 1:
        return [total]
    given = [total * part // whole for part in parts]
    lost = [total * part % whole for part in parts]
    for _ in range(total - sum(given)):
        which = lost.index(max(lost))
        given[which] += 1
        lost[which] -= whole
    return given


def rounded_once(parts: Sequence[Fraction]) -> list[int]:
    """Exact amounts in minor units: their sum is rounded half up, each gets its own rounded down, and what is left goes
    one by one to those that lost most, of equals to the first."""
    given = [one.numerator // one.denominator for one in parts]
    lost = [one - got for one, got in zip(parts, given, strict=True)]
    for _ in range(half_up(sum(parts, Fraction(0))) - sum(given)):
        which = lost.index(max(lost))
        given[which] += 1
        lost[which] -= 1
    return given


def rate_factor(base: str, quote: str, rate: str) -> Fraction:
    """What a minor unit of base is in minor units of quote, where a major one costs `rate`."""
    units = Fraction(10) ** ((Currency(quote).exponent or 0) - (Currency(base).exponent or 0))
    return Fraction(Decimal(rate)) * units


# --- which plan ------------------------------------------------------------------------------------------


def plan_of(terms: State) -> State:
    """The plan of published terms; simple terms are a plan of one rule."""
    if "plan" in terms:
        plan: State = terms["plan"]
        return plan
    if "rate_bps" in terms:
        return {"plan": 1, "rules": [{"id": "all", "pay": {"rate_bps": terms["rate_bps"]}}]}
    return {
        "plan": 1,
        "currency": terms["currency"],
        "rules": [{"id": "all", "pay": {"amount": terms["amount"]}}],
    }


def for_affiliate(plan: State, affiliate_id: str, group: str) -> tuple[State, str]:
    """(the plan as it holds for an affiliate, the id of the override that makes it so or ''). One that names the
    affiliate goes before one that names its group."""
    overrides = plan.get("overrides", [])
    by_name = [one for one in overrides if affiliate_id in one.get("affiliates", [])]
    by_group = [one for one in overrides if group and group in one.get("groups", [])]
    everybodys = plan["rules"] + [rule for one in overrides for rule in one.get("rules", [])]
    for one in by_name + by_group:
        return {**plan, **{key: one[key] for key in OVERRIDDEN if key in one}, "everybodys": everybodys}, one["id"]
    return {**plan, "everybodys": everybodys}, ""


# --- what is sold ----------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A line of a sale. amount: minor units of the sale's currency."""

    amount: int
    quantity: int
    sku: str | None = None
    product: str | None = None
    category: str | None = None


def lines_of(sale: State) -> list[Line]:
    """A sale's items; what they lack of its amount is one line more, which is no item. An item below zero is no line:
    it is taken off the others, as is what they have too much."""
    items = sale.get("items", [])
    if not items:
        return [Line(sale["amount"], 0)]
    sold = [one for one in items if one.get("amount", 0) >= 0]
    worth = [one.get("amount", 0) for one in sold]
    net = sum(one.get("amount", 0) for one in items)
    whole = min(sale["amount"], net) if net > 0 else 0
    if sum(worth) != whole:
        worth = largest_remainder(whole, [Fraction(one) for one in worth])
    lines = [
        Line(amount, max(one.get("quantity", 1), 0), one.get("sku"), one.get("product"), one.get("category"))
        for amount, one in zip(worth, sold, strict=True)
    ]
    if whole < sale["amount"]:
        lines.append(Line(sale["amount"] - whole, 0))
    return lines


# --- what a rule pays ------------------------------------------------------------------------------------


class Paid(NamedTuple):
    """What one rule pays for. amount: of its lines, minor units of the sale's currency; steps: (number of the step,
    what of the sale lies in it), where it is tiered."""

    rule: str
    amount: int
    quantity: int
    exact: Fraction
    price: State
    reading: Reading | None = None
    steps: tuple[tuple[int, int], ...] = ()


class Priced(NamedTuple):
    """What one affiliate would earn for the whole sale. exact: after minimum and maximum; amount: rounded once;
    unpaid: '', no_rule or recurring."""

    exact: Fraction
    amount: int
    rules: list[Paid]
    bound: str
    unpaid: str
    override: str


class Asked(NamedTuple):
    """What a price depends on besides the plan and the sale.

    stands: reads the counter of a tier table; customer: new or returning; first_sale_at: of a returning customer;
    factor: minor units of the plan's currency for one of the sale's; channel: that of the click, where the sale names
    none; zone: of the program's days."""

    stands: Stands = lambda _: (0, 0)
    customer: str = "new"
    first_sale_at: datetime | None = None
    factor: Fraction = Fraction(1)
    channel: str | None = None
    zone: ZoneInfo = ZoneInfo("UTC")


def price(plan: State, sale: State, asked: Asked, affiliate_id: str = "", group: str = "") -> Priced:
    """Price a sale for an affiliate, as if nobody else were credited and no cap held."""
    own, override = for_affiliate(plan, affiliate_id, group)
    return price_by(own, override, sale, asked)


def price_by(own: State, override: str, sale: State, asked: Asked) -> Priced:
    """The same, by a plan as it holds for an affiliate."""
    if not _recurs(own.get("recurring", {}), sale, asked):
        return Priced(Fraction(0), 0, [], "", "recurring", override)
    lines_by_rule: dict[str, list[Line]] = {}
    for line in lines_of(sale):
        rule = _rule_for(own, sale, line, asked)
        if rule is not None:
            lines_by_rule.setdefault(rule["id"], []).append(line)
    rules = [paid(rule, lines_by_rule[rule["id"]], sale, asked) for rule in own["rules"] if rule["id"] in lines_by_rule]
    if not rules:
        return Priced(Fraction(0), 0, [], "", "no_rule", override)
    exact, bound = bounded(own, sum((one.exact for one in rules), Fraction(0)))
    return Priced(exact, half_up(exact), rules, bound, "", override)


def bounded(own: State, exact: Fraction) -> tuple[Fraction, str]:
    """(what is left of a commission between minimum and maximum, which of them held or '')."""
    bound = ""
    if 0 < exact < own.get("min_amount", 0):
        exact, bound = Fraction(own["min_amount"]), "min_amount"
    if "max_amount" in own and exact > own["max_amount"]:
        exact, bound = Fraction(own["max_amount"]), "max_amount"
    return exact, bound


def _rule_for(own: State, sale: State, line: Line, asked: Asked) -> State | None:
    fitting = [rule for rule in own["rules"] if _fits(rule.get("when", {}), sale, line, asked)]
    if not fitting:
        return None
    if own.get("match", "first") == "first":
        first: State = fitting[0]
        return first
    some = _worth_asking(fitting, sale, asked)
    worth = [paid(rule, [line], sale, asked).exact for rule in some]
    best: State = some[worth.index(max(worth))]
    return best


_PROBE = Line(BPS, 1)


def _worth_asking(fitting: list[State], sale: State, asked: Asked) -> list[State]:
    """Of rules that pay in the same way only the one with the highest price, the first of equals, whatever the line is
    worth; in the plan's order."""
    found: dict[str, tuple[Fraction, int]] = {}
    for number, rule in enumerate(fitting):
        pay = rule["pay"]["tiers"]["steps"][0] if "tiers" in rule["pay"] else rule["pay"]
        way = next(one for one in pay if one != "from")
        price = paid(rule, [_PROBE], {**sale, "click_count": 1}, asked).exact
        if way not in found or price > found[way][0]:
            found[way] = price, number
    return [fitting[number] for number in sorted(number for _, number in found.values())]


def _fits(when: State, sale: State, line: Line, asked: Asked) -> bool:
    found = {
        "sku": line.sku,
        "product": line.product,
        "category": line.category,
        "country": sale.get("country"),
        "channel": sale.get("channel") or asked.channel,
        "event": sale.get("event_id"),
        "currency": sale["currency"],
        "coupon": sale.get("coupon"),
    }
    for condition, wanted in when.items():
        if condition == "customer":
            if asked.customer != wanted:
                return False
        elif condition == "coupon" and not wanted:
            if found["coupon"] is None:
                return False
        elif found[condition] not in wanted:
            return False
    return True


def paid(rule: State, lines: Sequence[Line], sale: State, asked: Asked) -> Paid:
    """What a rule pays for some lines of a sale."""
    amount, quantity = sum(line.amount for line in lines), sum(line.quantity for line in lines)
    value, clicks = amount * asked.factor, sale.get("click_count", 0)
    pay = rule["pay"]
    if "tiers" not in pay:
        return Paid(rule["id"], amount, quantity, earned(pay, value, quantity, clicks), pay)
    tiers = pay["tiers"]
    before, after = reading = asked.stands(tiers)
    if tiers.get("method", "whole") == "whole" or after == before:
        number = step_at(tiers, after)
        step = tiers["steps"][number]
        exact = earned(step, value, quantity, clicks)
        return Paid(rule["id"], amount, quantity, exact, step, reading, ((number, after - before),))
    parts = parts_between(tiers, before, after)
    exact = Fraction(0)
    for number, part in parts:
        exact += earned(tiers["steps"][number], value * Fraction(part, after - before), 0, 0)
    return Paid(rule["id"], amount, quantity, exact, {}, reading, tuple(parts))


def earned(price: State, value: Fraction, quantity: int, clicks: int) -> Fraction:
    """What a plain price comes to. value: minor units of the plan's currency."""
    if "rate_bps" in price:
        return value * Fraction(price["rate_bps"], BPS)
    if "amount" in price:
        return Fraction(price["amount"])
    if "amount_per_item" in price:
        return Fraction(price["amount_per_item"] * quantity)
    return Fraction(price["amount_per_click"] * clicks)


def step_at(tiers: State, counted: int) -> int:
    """The number of the step that a counter is in."""
    reached = [number for number, step in enumerate(tiers["steps"]) if step["from"] <= counted]
    return max(reached, default=0)


def parts_between(tiers: State, before: int, after: int) -> list[tuple[int, int]]:
    """(number of a step, how much of what is counted from before to after lies in it)."""
    starts = [step["from"] for step in tiers["steps"]]
    parts = []
    for number, start in enumerate(starts):
        ends = min(after, starts[number + 1]) if number + 1 < len(starts) else after
        begins = max(before, start)
        if ends > begins:
            parts.append((number, ends - begins))
    return parts


def _recurs(recurring: State, sale: State, asked: Asked) -> bool:
    """Whether this sale of the customer is one that pays."""
    if asked.customer == "new":
        return True
    if "months" in recurring:
        if asked.first_sale_at is None:
            return True
        return at(sale["occurred_at"]) < months_after(asked.first_sale_at, recurring["months"], asked.zone)
    return bool(recurring.get("sales", "all") == "all")


def at(text: str) -> datetime:
    """An instant from RFC 3339 text."""
    return datetime.fromisoformat(text)


def months_after(instant: datetime, months: int, zone: ZoneInfo) -> datetime:
    """The same day and time of day so many months later, or the month's last day if it has no such day."""
    local = instant.astimezone(zone).replace(tzinfo=None)
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    for day in range(local.day, 0, -1):
        try:
            return local.replace(year=year, month=month + 1, day=day).replace(tzinfo=zone)
        except ValueError:
            continue
    raise AssertionError("every month has a first day")
