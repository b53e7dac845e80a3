"""A commission's explanation in plain English: amounts in major units, rates in percent, times in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

from ledger.domain import money
from ledger.domain.conversion import Step
from ledger.explaining.data import (
    Change,
    Credit,
    ExplainedCap,
    ExplainedCommission,
    ExplainedRule,
    ExplainedSale,
    ExplainedTier,
    ReachedGoal,
    RecruitersPart,
    Rounding,
)
from ledger.plan_words import amount as money_text
from ledger.plan_words import measured, pay, percent

_DIGITS_MAX = 8  # decimals of an exact figure; what needs more is told roughly
_BY_STEP = {
    "click_id": "by the click that the sale names",
    "coupon": "by its coupon",
    "affiliate_id": "as the affiliate that the sale names",
    "last_click": "by the customer's last click",
    "last_impression": "by the last impression",
    "lifetime": "as whoever was credited with the customer's first sale",
}
_STEP = {
    "click_id": "click id",
    "coupon": "coupon",
    "affiliate_id": "named affiliate",
    "last_click": "customer's last click",
}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


# --- small words -----------------------------------------------------------------------------------------------


def instant(at: datetime) -> str:
    """'2026-11-22 08:00 UTC'; with seconds where there are any."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at.second else f"{at:%Y-%m-%d %H:%M} UTC"


def exact_money(exact: Fraction, currency: str) -> str:
    """A fraction of minor units: '12.395 EUR', 'about 12.3333 EUR'."""
    places = money.EXPONENTS.get(currency, 2)
    major = exact / 10**places
    digits, scaled = 0, major
    while scaled.denominator != 1 and digits < _DIGITS_MAX:
        digits, scaled = digits + 1, scaled * 10
    if scaled.denominator == 1:
        return f"{_decimal(scaled.numerator, digits, max(digits, places))} {currency}"
    digits = places + 2
    rough = money.round_half_up(major.numerator * 10**digits, major.denominator)
    return f"about {_decimal(rough, digits, digits)} {currency}"


def _decimal(scaled: int, digits: int, shown: int) -> str:
    with localcontext() as context:
        context.prec = 60  # any amount that there can be
        return f"{Decimal(scaled).scaleb(-digits):.{shown}f}"


def share_text(share: Fraction) -> str:
    """'30 %', 'about 33.33 %'."""
    percentage = share * 100
    if (percentage * 100).denominator == 1:
        return percent(int(percentage * 100))
    with localcontext() as context:
        context.prec = 60
        rough = Decimal(percentage.numerator) / Decimal(percentage.denominator)
        return f"about {rough.quantize(Decimal('0.01'), ROUND_HALF_UP)} %"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _period(counter: str) -> str:
    period = counter.partition("/")[2]
    return "since the beginning" if period == "total" else f"in {period}"


def tried(steps: Sequence[Step]) -> str:
    """Steps of attribution that credited nobody."""
    said = []
    for step in steps:
        who = f" ({step.affiliate_id})" if step.affiliate_id else ""
        said.append(f"{_STEP.get(step.rule, step.rule.replace('_', ' '))}{who}: {step.result.replace('_', ' ')}")
    return "; ".join(said) or "it named no click, coupon, affiliate or customer"


# --- the whole of it -------------------------------------------------------------------------------------------


def paragraph(one: ExplainedCommission, sale: ExplainedSale | None, touch_count: int | None) -> str:
    """One commission, to be read aloud. touch_count: of the whole journey; None where the reader may not know it."""
    said = [_opening(one, sale, touch_count)]
    if one.rounding is not None:
        said += _priced(one, sale)
    said.append(f"It matures on {instant(one.matures_at)}{', but was held from the start' if one.held else ''}.")
    said += _became(one, sale)
    return " ".join(said)


def _opening(one: ExplainedCommission, sale: ExplainedSale | None, touch_count: int | None) -> str:
    earns = f"earns {money_text(one.accrued, one.currency)}"
    who, terms = one.affiliate_id, one.terms
    by = ""
    if terms is not None:
        override = f" (override {terms.override})" if terms.override else ""
        by = f" by version {terms.terms_version} of the terms of offer {terms.offer_id}{override}"
    if one.goal is not None:
        return f"{who} reached the goal {_goal(one.goal, one.currency)} and {earns}{by}."
    if one.second_level is not None:
        return f"{who} recruited an affiliate that is credited with this sale and {earns}{by}."
    if one.credit is None:
        return f"{who} was credited with nothing when the sale was recorded."
    if one.clicks is not None:
        clicks = measured(one.clicks.count, "clicks", None)
        return f"{who} is credited with a bundle of {clicks} and {earns}{by}."
    whole = f" of {money_text(sale.amount, sale.currency)}" if sale is not None else ""
    share = Fraction(one.credit.share)
    part = f"{share_text(share)} of the sale{whole}" if share != 1 else f"the sale{whole}"
    return f"{who} is credited with {part} {_why(one.credit, touch_count)} and {earns}{by}."


def _goal(goal: ReachedGoal, currency: str) -> str:
    if goal.target is None:
        return goal.goal
    stood = f"; the counter stood at {measured(goal.counted, goal.by, currency)}" if goal.counted is not None else ""
    return f"{goal.goal} ({measured(goal.target, goal.by, currency)} {_period(f'affiliate/{goal.period}')}{stood})"


def _why(credit: Credit, touch_count: int | None) -> str:
    matched = next((step.rule for step in reversed(credit.steps) if step.result == "matched"), "")
    touches = [touch for touch in credit.touches if touch.weight != 0]
    if credit.model == "last_click" or not touches:
        model = "" if credit.model == "last_click" else f" (model {_named(credit.model)})"
        return _BY_STEP.get(matched, f"by the {_named(matched)}") + model
    seen = "impression" if all(touch.kind == "impression" for touch in touches) else "touch"
    plural = {"impression": "impressions", "touch": "touches"}[seen]
    if touch_count is None:
        own = f"a {seen} of its own" if len(touches) == 1 else f"{plural} of its own"
        return f"({_named(credit.model)}: by {own})"
    if touch_count == 1:
        return f"({_named(credit.model)}: by the only {seen})"
    places = [_place(touch.number or 0, touch_count) for touch in touches]
    return f"({_named(credit.model)}: {_listed(places)} of {touch_count} {plural})"


def _named(model: str) -> str:
    return model.replace("_", "-") if model in ("position_based", "last_non_direct") else model.replace("_", " ")


def _place(number: int, count: int) -> str:
    if number == count:
        return "last"
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"number {number}"


# --- how it is priced ------------------------------------------------------------------------------------------


def _priced(one: ExplainedCommission, sale: ExplainedSale | None) -> Iterator[str]:
    yield from _conditions(one)
    if one.goal is None:
        for rule in one.rules:
            yield _rule(rule, one, sale)
    if len(one.rules) > 1:
        together = sum((Fraction(rule.exact) for rule in one.rules), Fraction(0))
        yield f"Together that is {exact_money(together, one.currency)}."
    if one.bound:
        which = "less than the minimum" if one.bound == "min_amount" else "more than the maximum"
        yield f"That is {which}, so it is {exact_money(Fraction(one.exact), one.currency)}."
    if one.second_level is not None:
        yield f"The second level pays {_recruiters_part(one.second_level, one.currency)}:" + (
            f" {exact_money(Fraction(one.exact), one.currency)}."
        )
    assert one.rounding is not None
    yield from _rounded(one, one.rounding)
    yield from (_cap(cap, one.currency) for cap in one.caps)
    yield from _unpaid(one)


def _recruiters_part(part: RecruitersPart, currency: str) -> str:
    what = {"commission": " of commission", "sale": " of the sale"}.get(part.of, "")
    base = f"{money_text(part.base, currency)}{what}"
    return f"{percent(part.rate_bps)} of {base}" if part.rate_bps is not None else f"several rates of {base} in all"


def _conditions(one: ExplainedCommission) -> Iterator[str]:
    if one.customer == "new":
        yield "The customer is new."
    elif one.customer:
        first = f" (the first order was {one.first_order_id})" if one.first_order_id else ""
        yield f"The customer is a returning one{first}."
    if one.rate is not None:
        rate = one.rate
        yield (
            f"1 {rate.base} is {rate.rate} {rate.quote}, as {rate.source} said for {instant(rate.as_of)},"
            " the rate in force at the sale."
        )


def _rule(rule: ExplainedRule, one: ExplainedCommission, sale: ExplainedSale | None) -> str:
    name = f"Rule {rule.rule}{f' ({rule.when})' if rule.when else ''} pays" if rule.rule else "The terms pay"
    sold = money_text(rule.amount, sale.currency if sale is not None else one.currency)
    earned = exact_money(Fraction(rule.exact), one.currency)
    if one.credit is not None and one.credit.share != "1":
        earned += " for the whole sale"
    if rule.rate_bps is not None:
        return f"{name} {percent(rule.rate_bps)} of {sold}: {earned}."
    if rule.flat_amount is not None:
        return f"{name} a flat {earned}."
    if rule.amount_per_item is not None:
        items = "1 item" if rule.quantity == 1 else f"{rule.quantity:,} items"
        return f"{name} {money_text(rule.amount_per_item, one.currency)} an item for {items}: {earned}."
    if rule.amount_per_click is not None:
        clicks = measured(rule.quantity, "clicks", None)
        return f"{name} {money_text(rule.amount_per_click, one.currency)} a click for {clicks}: {earned}."
    if rule.tier is None:
        return f"{name} {earned}."
    return f"{name} {_tier(rule.tier, rule, sold, earned, one.currency)}"


def _tier(tier: ExplainedTier, rule: ExplainedRule, sold: str, earned: str, currency: str) -> str:
    whose = "the offer's" if tier.counter.startswith("offer/") else "its own"
    period = _period(tier.counter)
    before, after = (_counted(value, tier.by, currency) for value in (tier.before, tier.after))
    stood = f"which stood at {before} before and {after} with this sale"
    if tier.by == "commission":
        stood = f"which stood at {before} before this sale"
    if tier.parts:
        table = f"marginal tiers on {whose} {tier.by} {period}, {stood}"
        parts = [f"{exact_money(Fraction(part.paid_for), currency)} at {percent(part.rate_bps)}" for part in tier.parts]
        return f"{table}: {_listed(parts)}, which is {earned}."
    table = f"tiers on {whose} {tier.by} {period}, {stood}"
    if not tier.steps:
        return f"{table}: {earned}."
    step = tier.steps[tier.step]
    at = f"tier {tier.step + 1} (from {_counted(step.from_, tier.by, currency)})"
    if step.rate_bps is not None:
        return f"{table}: {at} pays {percent(step.rate_bps)} of {sold}, {earned}."
    items = f" for {rule.quantity:,}" if step.amount_per_item is not None else ""
    return f"{table}: {at} pays {pay(step, currency)}{items}, {earned}."


def _counted(value: int, by: str, currency: str) -> str:
    return f"{value:,}" if by == "conversions" else money_text(value, currency)


def _rounded(one: ExplainedCommission, rounding: Rounding) -> Iterator[str]:
    exact, result = Fraction(rounding.exact), money_text(rounding.rounded, one.currency)
    share = Fraction(one.credit.share) if one.credit is not None else Fraction(1)
    if one.level == 1 and share != 1 and Fraction(one.exact):
        yield f"{share_text(share)} of that is {exact_money(exact, one.currency)}."
    if exact == rounding.rounded:
        return
    if rounding.method == "half_up":
        yield f"Rounded half up, that is {result}."
    else:
        yield f"The shares are rounded together, once, and split by largest remainder, which makes it {result}."


def _cap(cap: ExplainedCap, currency: str) -> str:
    def units(value: int) -> str:
        return measured(value, cap.by, None) if cap.by != "commission" else money_text(value, currency)

    whose = "all" if cap.counter.startswith("offer/") else "the affiliate"
    name = f"Cap {cap.cap} for {whose} had room for {units(cap.room)} {_period(cap.counter)}"
    if cap.given == cap.asked:
        return f"{name}: it fits."
    if cap.given:
        return f"{name} of the {units(cap.asked)} asked for, so it is cut off there."
    return f"{name}, less than the {units(cap.asked)} asked for, so nothing is paid."


def _unpaid(one: ExplainedCommission) -> Iterator[str]:
    if one.unpaid == "no_rule":
        yield "No rule of the plan fits, so nothing is paid."
    elif one.unpaid == "recurring":
        yield "The plan pays no more for later sales of this customer, so nothing is paid."
    elif one.unpaid and all(cap.given for cap in one.caps):
        yield f"Cap {one.unpaid.removeprefix('cap:')} lets this conversion through no more, so nothing is paid."


# --- what became of it -----------------------------------------------------------------------------------------


def _became(one: ExplainedCommission, sale: ExplainedSale | None) -> Iterator[str]:
    for change in one.changes:
        on, moved = f"On {instant(change.effective_at)}", money_text(abs(change.amount), one.currency)
        match change.what:
            case "held":
                yield f"{on} it was held back."
            case "released":
                yield f"{on} it was let go."
            case "approved":
                yield f"{on} it {'was approved by hand' if change.by_hand else 'matured'}: it may be paid."
            case "rejected":
                yield f"{on} it was rejected: {moved} is not owed after all."
            case "reversed":
                back = change.sale_amount or 0
                if back and sale is not None:
                    yield f"{on} {money_text(back, sale.currency)} of the sale was given back: {moved} is taken back."
                else:
                    yield f"{on} it was reversed: {moved} is taken back."
            case "repriced":
                total = money_text(change.commission, one.currency)
                more = f"{moved} {'more' if change.amount >= 0 else 'less'}"
                cut = f" as far as cap {change.cap} let it" if change.cap else ""
                yield f"{on} {_cause(one, change)}: the commission is {total} from then on{cut}, {more}."
    if not one.changes and one.commission != one.accrued:
        yield f"It was repriced to {money_text(one.commission, one.currency)} since."
    if not one.changes and one.taken_back:
        yield f"{money_text(one.taken_back, one.currency)} of it was taken back."
    if one.outstanding != one.accrued or any(change.amount for change in one.changes):
        yield f"{money_text(one.outstanding, one.currency)} stands."


def _cause(one: ExplainedCommission, change: Change) -> str:
    if change.cause == "simulation":
        return f"simulation {change.simulation_id} was applied"
    tier = next((rule.tier for rule in one.rules if rule.rule == change.rule), None)
    number = f"tier {(change.step or 0) + 1} of rule {change.rule}"
    what = "was reached" if change.cause == "tier_reached" else "is what is left"
    if tier is None or change.counted is None:
        return f"{number} {what}"
    stood = f"{tier.by} {_period(change.counter)} stood at {_counted(change.counted, tier.by, one.currency)}"
    return f"{number} {what}, as {stood}"
