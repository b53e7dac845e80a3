"""Pricing: what a plan pays an affiliate for a whole sale, exactly, and why. Rounding, sharing and caps come after
(ledger.domain.sharing)."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

from ledger.domain.conversion import ConversionRecorded
from ledger.domain.money import BPS, allocate
from ledger.domain.plans.counting import Counter
from ledger.domain.plans.evidence import PricedRule, TierPart, TierReading
from ledger.domain.plans.plan import Effective, Pay, Rule, Tiers, TierStep, When

Exact = tuple[int, int]  # numerator, denominator > 0: minor units of the commission's currency
NOTHING: Exact = (0, 1)


class Line(NamedTuple):
    """A line of an order. amount: minor units of the sale's currency."""

    amount: int
    quantity: int = 0
    sku: str | None = None
    product: str | None = None
    category: str | None = None


class Sale(NamedTuple):
    """What prices depend on. channel: the conversion's or its click's; customer: new or returning; factor: from minor
    units of the sale's currency to those of the commission's; value: the credited sale in the commission's currency,
    whole_value: all of it."""

    fact: ConversionRecorded
    lines: Sequence[Line]
    channel: str | None
    customer: str
    factor: Exact
    value: int
    whole_value: int


class Readings(NamedTuple):
    """What the counters of a tier stood at before this conversion. label: 'affiliate/2026-11'."""

    label: str
    counter: Counter


class Tables:
    """The tier tables of one sale and affiliate, each read once. readings: of their counters, by 'level/kind of
    period'."""

    def __init__(self, readings: dict[str, Readings]) -> None:
        self._readings = readings
        self._read: dict[int, TierReading] = {}

    def reading(self, tiers: Tiers, sale: Sale) -> TierReading:
        """Where a table stands."""
        found = self._read.get(id(tiers))
        if found is None:
            reading = self._readings[f"{tiers.level}/{tiers.period}"]
            found = self._read[id(tiers)] = read_tier(tiers, sale, reading)
        return found


class Price(NamedTuple):
    """exact: within the plan's bounds; rules: what each paid for."""

    exact: Exact
    rules: list[PricedRule]
    bound: str


def lines_of(fact: ConversionRecorded) -> list[Line]:
    """A conversion's lines, none below zero, which add up to its amount: its items; what they lack is one line more.
    A discount, as an item below zero or as an amount below the items', is shared out over the items."""
    if not fact.items:
        return [Line(fact.amount)]
    amounts = [max(item.amount, 0) for item in fact.items]
    total = max(0, min(fact.amount, sum(item.amount for item in fact.items)))
    if sum(amounts) != total:
        amounts = allocate(total, amounts)
    lines = [
        Line(amount, max(item.quantity, 0), item.sku, item.product, item.category)
        for item, amount in zip(fact.items, amounts, strict=True)
        if item.amount >= 0
    ]
    if total < fact.amount:
        lines.append(Line(fact.amount - total))
    return lines


# --- which rule ------------------------------------------------------------------------------------------


def _fits_sale(when: When, sale: Sale) -> bool:
    fact = sale.fact
    if when.event is not None and fact.event_id not in when.event:
        return False
    if when.country is not None and fact.country not in when.country:
        return False
    if when.channel is not None and sale.channel not in when.channel:
        return False
    if when.currency is not None and fact.currency not in when.currency:
        return False
    if when.coupon is not None and (fact.coupon is None or (when.coupon and fact.coupon not in when.coupon)):
        return False
    return when.customer is None or when.customer == sale.customer


def _fits_line(when: When, line: Line) -> bool:
    return (
        (when.sku is None or line.sku in when.sku)
        and (when.product is None or line.product in when.product)
        and (when.category is None or line.category in when.category)
    )


def _by_rule(rules: Sequence[Rule], best: bool, sale: Sale, tables: Tables) -> dict[int, list[Line]]:
    """The lines that each rule pays for, by its number."""
    fitting = [(number, rule) for number, rule in enumerate(rules) if _fits_sale(rule.when, sale)]
    candidates: dict[tuple[str | None, str | None, str | None], list[tuple[int, Rule]]] = {}
    found: dict[int, list[Line]] = {}
    for line in sale.lines:
        kind = (line.sku, line.product, line.category)
        if (some := candidates.get(kind)) is None:
            some = [one for one in fitting if _fits_line(one[1].when, line)]
            some = candidates[kind] = _worth_asking(some, sale, tables) if best else some[:1]
        if some:
            chosen = some[0][0] if len(some) == 1 else _best(some, line, sale, tables)
            found.setdefault(chosen, []).append(line)
    return found


def _best(some: Sequence[tuple[int, Rule]], line: Line, sale: Sale, tables: Tables) -> int:
    """The number of the rule that pays most for a line, of equals the first."""
    chosen, most = -1, NOTHING
    for number, rule in some:
        earned = _earned(rule, line, sale, tables)
        if chosen < 0 or earned[0] * most[1] > most[0] * earned[1]:
            chosen, most = number, earned
    return chosen


def _worth_asking(some: Sequence[tuple[int, Rule]], sale: Sale, tables: Tables) -> list[tuple[int, Rule]]:
    """Of rules that pay in the same way only the one that pays most, the first of equals: which of them it is does not
    depend on a line's amount, and a long list of rules costs no more than a short one."""
    found: dict[str, tuple[Exact, int, Rule]] = {}
    for number, rule in some:
        way, price = _unit(rule, sale, tables)
        if way not in found or price[0] * found[way][0][1] > found[way][0][0] * price[1]:
            found[way] = (price, number, rule)
    return sorted(((number, rule) for _, number, rule in found.values()), key=lambda one: one[0])


def _unit(rule: Rule, sale: Sale, tables: Tables) -> tuple[str, Exact]:
    """(in which way a rule pays, its price)."""
    pay: Pay | TierStep = rule.pay
    if rule.pay.tiers is not None:
        tier = tables.reading(rule.pay.tiers, sale)
        if tier.parts:
            steps = rule.pay.tiers.steps
            blended = sum(part.amount * (steps[part.step].rate_bps or 0) for part in tier.parts)
            return "rate", (blended, sum(part.amount for part in tier.parts))
        pay = rule.pay.tiers.steps[tier.step]
    if pay.rate_bps is not None:
        return "rate", (pay.rate_bps, 1)
    if pay.amount is not None:
        return "flat", (pay.amount, 1)
    if pay.amount_per_item is not None:
        return "item", (pay.amount_per_item, 1)
    return "click", (rule.pay.amount_per_click or 0, 1)


# --- what it pays ----------------------------------------------------------------------------------------


def plus(one: Exact, other: Exact) -> Exact:
    """The sum of two fractions."""
    if one[1] == other[1]:
        return one[0] + other[0], one[1]
    return one[0] * other[1] + other[0] * one[1], one[1] * other[1]


def text(exact: Exact) -> str:
    """'197/2', '14'."""
    common = gcd(exact[0], exact[1])
    numerator, denominator = exact[0] // common, exact[1] // common
    return str(numerator) if denominator == 1 else f"{numerator}/{denominator}"


def from_text(said: str) -> Exact:
    """The fraction again."""
    numerator, _, denominator = said.partition("/")
    return int(numerator), int(denominator or "1")


def by_step(step: TierStep, amount: int, quantity: int, factor: Exact) -> Exact:
    """What one step of a table pays for lines of an amount (minor units of the sale's currency) and a quantity."""
    if step.rate_bps is not None:
        return amount * step.rate_bps * factor[0], BPS * factor[1]
    if step.amount is not None:
        return step.amount, 1
    return (step.amount_per_item or 0) * quantity, 1


def read_tier(tiers: Tiers, sale: Sale, reading: Readings) -> TierReading:
    """Where a table's counter stands before and after this conversion, and which steps pay it. Measured by commission,
    it is paid by the step in which the counter stands before it."""
    before = reading.counter.standing(tiers.by)
    size = 0
    if tiers.by == "conversions":
        size = 1
    elif tiers.by == "revenue":
        size = sale.value if tiers.level == "affiliate" else sale.whole_value
    after = before + size
    step = tiers.step_at(after)
    parts = _parts(tiers, before, after) if tiers.method == "marginal" else []
    return TierReading(
        by=tiers.by,
        counter=reading.label,
        before=before,
        after=after,
        step_before=tiers.step_at(before),
        step=step,
        parts=parts,
    )


def _parts(tiers: Tiers, before: int, after: int) -> list[TierPart]:
    """How much of what lies between two values of the counter lies in each step."""
    starts = [step.from_ for step in tiers.steps]
    found = []
    for number, start in enumerate(starts):
        low = max(before, start if number else before)
        high = min(after, starts[number + 1]) if number + 1 < len(starts) else after
        if high > low:
            found.append(TierPart(number, high - low))
    return found


def _by_tiers(tiers: Tiers, tier: TierReading, amount: int, quantity: int, factor: Exact) -> Exact:
    if not tier.parts:
        return by_step(tiers.steps[tier.step], amount, quantity, factor)
    blended = sum(part.amount * (tiers.steps[part.step].rate_bps or 0) for part in tier.parts)
    size = sum(part.amount for part in tier.parts)
    return amount * blended * factor[0], BPS * size * factor[1]


def _together(lines: Sequence[Line]) -> Line:
    """Lines as one."""
    if len(lines) == 1:
        return lines[0]
    return Line(sum(line.amount for line in lines), sum(line.quantity for line in lines))


def _earned(rule: Rule, lines: Line, sale: Sale, tables: Tables) -> Exact:
    pay = rule.pay
    if pay.rate_bps is not None:
        return lines.amount * pay.rate_bps * sale.factor[0], BPS * sale.factor[1]
    if pay.amount is not None:
        return pay.amount, 1
    if pay.amount_per_item is not None:
        return pay.amount_per_item * lines.quantity, 1
    if pay.amount_per_click is not None:
        return pay.amount_per_click * sale.fact.click_count, 1
    assert pay.tiers is not None
    return _by_tiers(pay.tiers, tables.reading(pay.tiers, sale), lines.amount, lines.quantity, sale.factor)


def price(effective: Effective, best: bool, sale: Sale, readings: dict[str, Readings]) -> Price:
    """What a whole sale earns an affiliate. readings: of its tiers' counters, by 'level/kind of period'."""
    total, priced, tables = NOTHING, [], Tables(readings)
    for number, some in sorted(_by_rule(effective.rules, best, sale, tables).items()):
        rule, lines = effective.rules[number], _together(some)
        exact = _earned(rule, lines, sale, tables)
        total = plus(total, exact)
        priced.append(
            PricedRule(
                rule=rule.id,
                amount=lines.amount,
                exact=text(exact),
                quantity=lines.quantity,
                rate_bps=rule.pay.rate_bps,
                flat_amount=rule.pay.amount,
                amount_per_item=rule.pay.amount_per_item,
                amount_per_click=rule.pay.amount_per_click,
                tier=tables.reading(rule.pay.tiers, sale) if rule.pay.tiers is not None else None,
            )
        )
    exact, bound = bounded(effective, total)
    return Price(exact, priced, bound)


def bounded(effective: Effective, total: Exact) -> tuple[Exact, str]:
    """A commission within the minimum (where it is more than nothing) and the maximum, and which of them held."""
    if effective.min_amount is not None and 0 < total[0] < effective.min_amount * total[1]:
        return (effective.min_amount, 1), "min_amount"
    if effective.max_amount is not None and total[0] > effective.max_amount * total[1]:
        return (effective.max_amount, 1), "max_amount"
    return total, ""


def repriced(effective: Effective, priced: Sequence[PricedRule], steps: dict[str, int], factor: Exact) -> Exact:
    """What a sale that was priced earns by other steps of its tables (by rule id); the rest stays as it was."""
    tables = {rule.id: rule.pay.tiers for rule in effective.rules}
    total = NOTHING
    for one in priced:
        tiers = tables.get(one.rule)
        if tiers is None or tiers.method == "marginal":
            total = plus(total, from_text(one.exact))
        else:
            step = tiers.steps[steps[one.rule]]
            total = plus(total, by_step(step, one.amount, one.quantity, factor))
    return bounded(effective, total)[0]
