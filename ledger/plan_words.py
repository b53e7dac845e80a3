"""What a commission plan pays, in plain words: one sentence for each rule, tier, cap and goal."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from ledger.domain import money
from ledger.domain.plans.plan import (
    AttributionRules,
    Cap,
    Goal,
    Override,
    Pay,
    Plan,
    Recurring,
    Rule,
    SecondLevel,
    Tiers,
    TierStep,
    When,
)

NAMED_MOST = 5  # items of a list that are named one by one

_MODELS = {
    "last_click": "The last click is credited.",
    "first_click": "The first touch is credited.",
    "last_non_direct": "The last touch is credited that is not direct.",
    "linear": "All touches are credited alike.",
    "time_decay": "Touches are credited by age: half as much for every {days} days.",
    "coupon_wins": "Whom the coupon belongs to is credited.",
    "lifetime": "Whoever was credited with the customer's first sale is credited with all that follow.",
}
_WHO = {"affiliate": "each affiliate", "offer": "the offer as a whole"}
_WHAT = {"sku": "SKU", "coupon": "coupon"}


def sentences(plan: Plan) -> list[str]:
    """A whole plan."""
    currency = plan.currency
    found = [f"Commissions are in {currency or 'the currency of the sale'}."]
    found += _attribution(plan.attribution)
    if len(plan.rules) > 1:
        how = "the first rule that fits" if plan.match == "first" else "the fitting rule that pays most for it"
        found.append(f"Each line of an order earns by {how}.")
    found += _rules(plan.rules, currency)
    found += _bounds(plan.min_amount, plan.max_amount, currency)
    if plan.recurring != Recurring():
        found.append(recurring(plan.recurring))
    found += [cap(one, currency) for one in plan.caps]
    found += [goal(one, currency) for one in plan.goals]
    if plan.second_level is not None:
        found.append(second_level(plan.second_level))
    for one in plan.overrides:
        found += _override(one, currency)
    return found


def simple(rate_bps: int | None, flat: int | None, currency: str | None) -> list[str]:
    """Terms without a plan."""
    if rate_bps is not None:
        return ["Commissions are in the currency of the sale.", f"Every sale pays {percent(rate_bps)} of the amount."]
    assert flat is not None
    return [f"Commissions are in {currency}.", f"Every sale pays {amount(flat, currency)}."]


# --- small words -----------------------------------------------------------------------------------------------


def percent(rate_bps: int) -> str:
    """1250 → '12.5 %'."""
    whole, rest = divmod(rate_bps, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".") + " %"


def amount(minor: int, currency: str | None) -> str:
    """500 EUR → '5.00 EUR'."""
    return f"{money.major_units(minor, currency)} {currency}" if currency else f"{minor} minor units"


def measured(value: int, by: str, currency: str | None) -> str:
    """A value of a counter: '10 conversions', '200.00 EUR of revenue'."""
    if by in ("conversions", "clicks"):
        return f"{value:,} {by if value != 1 else by[:-1]}"
    return f"{amount(value, currency)} of {by}"


def _period(period: str) -> str:
    return "in all" if period == "total" else f"a {period}"


def _named(names: Sequence[str]) -> str:
    shown = list(names[:NAMED_MOST])
    if len(names) > NAMED_MOST:
        return f"{', '.join(shown)} or one of {len(names) - NAMED_MOST:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


# --- the parts of a plan -----------------------------------------------------------------------------------------


def _attribution(said: AttributionRules) -> list[str]:
    if said.model == "position_based":
        found = [_by_position(said)]
    else:
        found = [_MODELS[said.model].format(days=said.half_life_days)]
    if said.model in ("coupon_wins", "lifetime"):
        other = AttributionRules(said.otherwise, said.weights, said.spread, said.half_life_days)
        found[0] += f" Otherwise: {_attribution(other)[0]}"
    if said.view_window_days:
        found.append(f"Impressions of the {said.view_window_days} days before count where there is no click.")
    return found


def _by_position(said: AttributionRules) -> str:
    first, middle, last = said.weights
    between = "all touches" if said.spread == "all" else "those between"
    return f"The first touch is credited with {first} parts, {between} with {middle}, the last with {last}."


def pay(one: Pay | TierStep, currency: str | None) -> str:
    """'12 % of the amount', '5.00 EUR a conversion'; what tiers pay is said of each step."""
    if one.rate_bps is not None:
        return f"{percent(one.rate_bps)} of the amount"
    if one.amount is not None:
        return f"{amount(one.amount, currency)} a conversion"
    if one.amount_per_item is not None:
        return f"{amount(one.amount_per_item, currency)} an item"
    if isinstance(one, Pay) and one.amount_per_click is not None:
        return f"{amount(one.amount_per_click, currency)} a click"
    return "by tiers"


def conditions(when: When) -> str:
    """'where the category is shoes and the customer is new', '' without any."""
    found = []
    for name in ("sku", "product", "category", "country", "channel", "event", "currency", "coupon"):
        names: list[str] | None = getattr(when, name)
        if names:
            found.append(f"the {_WHAT.get(name, name)} is {_named(names)}")
        elif names is not None:
            found.append("there is a coupon")
    if when.customer is not None:
        found.append(f"the customer is {when.customer}")
    return f"where {' and '.join(found)}" if found else ""


def rule(one: Rule, currency: str | None) -> list[str]:
    """A rule, and each of its tiers."""
    where = conditions(one.when)
    if one.pay.tiers is None:
        return [f"Rule {one.id} pays {pay(one.pay, currency)}{where and f', {where}'}."]
    begins = f"Rule {one.id} pays {_table(one.pay.tiers)}{where and f', {where}'}."
    return [begins, *(step(one.id, number, one.pay.tiers, currency) for number in range(len(one.pay.tiers.steps)))]


def _table(tiers: Tiers) -> str:
    of = "all conversions of the offer" if tiers.level == "offer" else "the affiliate's own"
    how = "by the tier reached with the conversion"
    if tiers.method == "marginal":
        how = "each part of the sale by the tier in which it lies"
    said = f"{how}, by {tiers.by} {'since the beginning' if tiers.period == 'total' else f'in a {tiers.period}'} ({of})"
    if tiers.retroactive:
        said += "; reaching a tier tops up what was paid before in the period"
        said += ", and reversals take it back" if tiers.on_reversal == "take_back" else ", for good"
    return said


def step(rule_id: str, number: int, tiers: Tiers, currency: str | None) -> str:
    """One tier of a rule; number: from 0."""
    one = tiers.steps[number]
    return (
        f"Tier {number + 1} of rule {rule_id}: {pay(one, currency)}, from {measured(one.from_, tiers.by, currency)} on."
    )


def _rules(rules: Sequence[Rule], currency: str | None) -> list[str]:
    return [said for one in rules for said in rule(one, currency)]


def _bounds(least: int | None, most: int | None, currency: str | None) -> list[str]:
    found = []
    if least is not None:
        found.append(f"A conversion that pays anything pays at least {amount(least, currency)}.")
    if most is not None:
        found.append(f"A conversion pays at most {amount(most, currency)}.")
    return found


def recurring(one: Recurring) -> str:
    """Which of a customer's sales pay."""
    if one.months is not None:
        months = "month" if one.months == 1 else f"{one.months} months"
        return f"A customer's sales pay for {months} from the first on."
    return "Only a customer's first sale pays." if one.sales == "first" else "All of a customer's sales pay."


def cap(one: Cap, currency: str | None) -> str:
    """A limit, and what is over it."""
    limit = measured(one.limit, one.by, currency)
    over = "what does not fit whole is not paid" if one.over == "unpaid" else "what is over it is cut off"
    freed = "; reversals free room" if one.reversals_free_room else ""
    return f"Cap {one.id}: at most {limit} {_period(one.period)} for {_WHO[one.level]}; {over}{freed}."


def goal(one: Goal, currency: str | None) -> str:
    """A target, and what it earns."""
    earns = f"earns {amount(one.bonus_amount, currency)} once" if one.bonus_amount else "is shown, and earns nothing"
    back = ", taken back when reversals undo it" if one.on_reversal == "take_back" else ""
    return f"Goal {one.id}: {measured(one.target, one.by, currency)} {_period(one.period)} {earns}{back}."


def second_level(one: SecondLevel) -> str:
    """What the recruiter earns."""
    return f"Who recruited the affiliate earns {percent(one.rate_bps)} of the {one.of}."


def _override(one: Override, currency: str | None) -> list[str]:
    whom = []
    if one.affiliates:
        whom.append(f"affiliate {_named(one.affiliates)}")
    if one.groups:
        whom.append(f"group {_named(one.groups)}")
    found: list[str] = []
    if one.rules is not UNSET:
        found += _rules(one.rules, currency)
    if one.min_amount is not UNSET:
        found += _bounds(one.min_amount, None, currency) or ["There is no minimum."]
    if one.max_amount is not UNSET:
        found += _bounds(None, one.max_amount, currency) or ["There is no maximum."]
    if one.recurring is not UNSET:
        found.append(recurring(one.recurring))
    if one.second_level is None:
        found.append("Who recruited the affiliate earns nothing.")
    elif one.second_level is not UNSET:
        found.append(second_level(one.second_level))
    if one.goals is not UNSET:
        found += [goal(each, currency) for each in one.goals] or ["There are no goals."]
    heading = f"Override {one.id} is for {' and '.join(whom)}"
    if not found:
        return [f"{heading}: all is as in the plan."]
    return [f"{heading}; otherwise than in the plan:", *(f"  {said}" for said in found)]
