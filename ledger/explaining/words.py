"""A commission's explanation in plain English: amounts in major units, rates in percent, times in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from ledger.domain.conversion import Step
from ledger.explaining.became import became
from ledger.explaining.data import (
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
from ledger.explaining.figures import half_up
from ledger.explaining.phrases import (
    counted,
    exact_money,
    instant,
    listed,
    period_of,
    remainder_text,
    share_text,
    step_pays,
)
from ledger.plan_words import amount as money_text
from ledger.plan_words import measured, percent

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


# --- a sale without a commission ---------------------------------------------------------------------------------


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
    said += became(one, sale)
    return " ".join(said)


def _opening(one: ExplainedCommission, sale: ExplainedSale | None, touch_count: int | None) -> str:
    earns = f"earns {money_text(one.accrued, one.currency)}"
    who, terms = f"Affiliate {one.affiliate_id}", one.terms
    by = ""
    if terms is not None:
        override = f" (override {terms.override})" if terms.override else ""
        by = f" by version {terms.terms_version} of the terms of offer {terms.offer_id}{override}"
    if one.goal is not None:
        return f"{who} reached the goal {_goal(one.goal, one.currency)} and {earns}{by}."
    if one.second_level is not None:
        return f"{who} recruited {_recruited(one.second_level)} credited with this sale, and {earns}{by}."
    if one.credit is None:
        return f"{who} was credited with nothing when the sale was recorded."
    if one.clicks is not None:
        clicks = measured(one.clicks.count, "clicks", None)
        if _is_cut(one):
            return f"{who} is paid for {one.clicks.paid:,} of {clicks} of a bundle and {earns}{by}."
        return f"{who} is credited with a bundle of {clicks} and {earns}{by}."
    whole = f" of {money_text(sale.amount, sale.currency)}" if sale is not None else ""
    share = Fraction(one.credit.share)
    part = f"{share_text(share)} of the sale{whole}" if share != 1 else f"the sale{whole}"
    return f"{who} is credited with {part} {_why(one.credit, touch_count)} and {earns}{by}."


def _recruited(part: RecruitersPart) -> str:
    if not part.recruited:
        return "an affiliate that is"
    names = listed([each.affiliate_id for each in part.recruited])
    return f"{names}, who {'are' if len(part.recruited) > 1 else 'is'}"


def _is_cut(one: ExplainedCommission) -> bool:
    """Whether a cap of clicks let some clicks of a bundle through only, or none."""
    return one.clicks is not None and any(cap.by == "clicks" and (cap.given < one.clicks.count) for cap in one.caps)


def _goal(goal: ReachedGoal, currency: str) -> str:
    if goal.target is None:
        return goal.goal
    stood = f"; the counter stood at {measured(goal.counted, goal.by, currency)}" if goal.counted is not None else ""
    return f"{goal.goal} ({measured(goal.target, goal.by, currency)} {period_of(f'affiliate/{goal.period}')}{stood})"


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
    return f"({_named(credit.model)}: {listed(places)} of {touch_count} {plural})"


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
    yield from (_cap(cap, one) for cap in one.caps)
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
    period = period_of(tier.counter)
    before, after = (counted(value, tier.by, currency) for value in (tier.before, tier.after))
    stood = f"which stood at {before} before and {after} with this sale"
    if tier.by == "commission":
        stood = f"which stood at {before} before this sale"
    if tier.parts:
        table = f"marginal tiers on {whose} {tier.by} {period}, {stood}"
        parts = [f"{exact_money(Fraction(part.paid_for), currency)} at {percent(part.rate_bps)}" for part in tier.parts]
        return f"{table}: {listed(parts)}, which is {earned}."
    table = f"tiers on {whose} {tier.by} {period}, {stood}"
    if not tier.steps:
        return f"{table}: {earned}."
    step = tier.steps[tier.step]
    at = f"tier {tier.step + 1} (from {counted(step.from_, tier.by, currency)})"
    return f"{table}: {at} pays {step_pays(step, rule, sold, currency)}, {earned}."


def _rounded(one: ExplainedCommission, rounding: Rounding) -> Iterator[str]:
    exact, result = Fraction(rounding.exact), money_text(rounding.rounded, one.currency)
    share = Fraction(one.credit.share) if one.credit is not None else Fraction(1)
    if one.level == 1 and share != 1 and Fraction(one.exact):
        yield f"{share_text(share)} of that is {exact_money(exact, one.currency)}."
    if exact == rounding.rounded:
        return
    if rounding.method == "half_up":
        yield f"Rounded half up, that is {result}."
        return
    yield from _handed_out(rounding, one.currency)
    yield f"{_remainder(one.affiliate_id, rounding, one.currency)}: {result}."


def _handed_out(rounding: Rounding, currency: str) -> Iterator[str]:
    """What rounding shares together leaves to be handed out; without the sum where the reader may not know it."""
    unit = money_text(1, currency)
    if rounding.together is None or rounding.left is None:
        yield f"The shares are rounded together, once; what is left goes to the largest remainders, {unit} each."
        return
    together = Fraction(rounding.together)
    in_all = exact_money(together, currency)
    if together != half_up(together):
        in_all += f", rounded half up {money_text(half_up(together), currency)}"
    yield (
        f"The shares are rounded together, once: they come to {in_all}; beyond each one rounded down that is"
        f" {money_text(rounding.left, currency)}"
        + (f", which goes to the largest remainders, {unit} each." if rounding.left else ".")
    )


def _remainder(affiliate_id: str, rounding: Rounding, currency: str) -> str:
    """Why a share got a unit of what was left, or why not. The one that decides is the largest remainder that got none,
    or the smallest that got one."""
    its = f"Its remainder of {remainder_text(Fraction(rounding.remainder), currency)}"
    gets = rounding.reason in ("larger", "earlier_touch")
    if rounding.reason == "none_left":
        return f"{its} is dropped, as nothing is left to go round"
    left, order = rounding.left, rounding.remainders
    other = order[left if gets else left - 1 :][:1] if left is not None and order else []
    named = ""
    if other:
        named = f" ({other[0].affiliate_id}: {remainder_text(Fraction(other[0].remainder), currency)})"
    match rounding.reason:
        case "larger" if order and not other:
            why = "gets one of these, as everybody does"
        case "larger":
            why = f"is larger than any that gets none{named}, so it gets one of these"
        case "earlier_touch":
            why = f"is as large as another's{named}, but its first touch came earlier, so it gets one of these"
        case "later_touch":
            why = f"is as large as another's{named}, whose first touch came earlier, so it gets none"
        case _:
            why = f"is smaller than any that gets one{named}, so it gets none"
    return f"{its} {why}"


def _cap(cap: ExplainedCap, one: ExplainedCommission) -> str:
    def units(value: int) -> str:
        return measured(value, cap.by, None) if cap.by != "commission" else money_text(value, one.currency)

    name = f"Cap {cap.cap} for {'all' if cap.counter.startswith('offer/') else 'the affiliate'}"
    period = period_of(cap.counter)
    cut = "so it is cut off there"
    if cap.by == "clicks" and one.clicks is not None:
        cut = f"so {cap.given:,} of {units(one.clicks.count)} are paid"
    if cap.room is None or cap.asked is None:
        if not cap.given:
            return f"{name} {period}: it does not fit, so nothing is paid."
        return f"{name} {period}: it {'fits' if cap.fits else f'does not fit whole, {cut}'}."
    had = f"{name} had room for {units(cap.room)} {period}"
    if cap.fits:
        return f"{had}: it fits."
    if cap.given:
        return f"{had} of the {units(cap.asked)} asked for, {cut}."
    return f"{had}, less than the {units(cap.asked)} asked for, so nothing is paid."


def _unpaid(one: ExplainedCommission) -> Iterator[str]:
    if one.unpaid == "no_rule":
        yield "No rule of the plan fits, so nothing is paid."
    elif one.unpaid == "recurring":
        yield "The plan pays no more for later sales of this customer, so nothing is paid."
    elif one.unpaid and all(cap.given for cap in one.caps):
        yield f"Cap {one.unpaid.removeprefix('cap:')} lets this conversion through no more, so nothing is paid."
