"""Whether the figures of an explanation lead to the commission that it explains: computed again from the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ledger.domain.money import BPS, round_half_up
from ledger.domain.plan import TierStep
from ledger.explaining.commission import GOAL_RULE, factor_of
from ledger.explaining.data import ExplainedCommission, ExplainedRule, ExplainedTier, Explanation


def adds_up(explanation: Explanation) -> bool:
    """Whether every figure follows from the others."""
    return not mistakes(explanation)


def mistakes(explanation: Explanation) -> list[str]:
    """Where the figures do not follow from each other, one sentence each."""
    found = []
    for one in explanation.commissions:
        whose = f"{one.affiliate_id}/{one.level}"
        found += [f"{whose}: {mistake}" for mistake in _of_one(one, explanation)]
    return found + list(_of_shares(explanation))


def _of_one(one: ExplainedCommission, explanation: Explanation) -> Iterator[str]:
    if one.rounding is not None:
        yield from _rules(one)
        yield from _whole(one)
        yield from _capped(one)
    yield from _changes(one, explanation)


def _differs(what: str, said: object, follows: object) -> Iterator[str]:
    if said != follows:
        yield f"{what} is said to be {said}, but {follows} follows"


# --- from rules to the exact commission ------------------------------------------------------------------------


def _rules(one: ExplainedCommission) -> Iterator[str]:
    factor = factor_of(one.rate)
    for rule in one.rules:
        earned = _earned(rule, factor)
        if earned is not None:
            yield from _differs(f"what rule {rule.rule!r} earns", Fraction(rule.exact), earned)
        if rule.tier is not None and rule.tier.steps:
            yield from _tier(rule.tier)


def _earned(rule: ExplainedRule, factor: Fraction) -> Fraction | None:
    """What a rule pays for its lines; None where its table is not known."""
    if rule.rule.startswith(GOAL_RULE) or rule.flat_amount is not None:
        return Fraction(rule.flat_amount or 0)
    if rule.rate_bps is not None:
        return Fraction(rule.amount * rule.rate_bps, BPS) * factor
    if rule.amount_per_item is not None:
        return Fraction(rule.amount_per_item * rule.quantity)
    if rule.amount_per_click is not None:
        return Fraction(rule.amount_per_click * rule.quantity)
    if rule.tier is None or not rule.tier.steps:
        return None
    if not rule.tier.parts:
        return _by_step(rule.tier.steps[rule.tier.step], rule, factor)
    size = sum(part.counted for part in rule.tier.parts)
    blended = sum(Fraction(part.counted, size) * part.rate_bps for part in rule.tier.parts)
    return rule.amount * factor * blended / BPS


def _by_step(step: TierStep, rule: ExplainedRule, factor: Fraction) -> Fraction:
    if step.rate_bps is not None:
        return Fraction(rule.amount * step.rate_bps, BPS) * factor
    return Fraction(step.amount if step.amount is not None else (step.amount_per_item or 0) * rule.quantity)


def _tier(tier: ExplainedTier) -> Iterator[str]:
    reached = max(n for n, step in enumerate(tier.steps) if step.from_ <= tier.after)
    yield from _differs("the step reached", tier.step, reached)
    if tier.method == "marginal" and tier.after > tier.before:
        yield from _differs(
            "what the steps' parts come to", sum(p.counted for p in tier.parts), tier.after - tier.before
        )
    for part in tier.parts:
        yield from _differs("what a part earns", Fraction(part.exact), Fraction(part.paid_for) * part.rate_bps / BPS)


def _bounded(one: ExplainedCommission, total: Fraction) -> Fraction:
    terms = one.terms
    if terms is not None and terms.min_amount is not None and 0 < total < terms.min_amount:
        return Fraction(terms.min_amount)
    if terms is not None and terms.max_amount is not None and total > terms.max_amount:
        return Fraction(terms.max_amount)
    return total


def _share(one: ExplainedCommission) -> Fraction:
    return Fraction(one.credit.share) if one.credit is not None and one.level == 1 else Fraction(1)


def _whole(one: ExplainedCommission) -> Iterator[str]:
    assert one.rounding is not None
    total = sum((Fraction(rule.exact) for rule in one.rules), Fraction(0))
    if one.second_level is None:
        is_bonus = one.goal is not None  # which no minimum or maximum touches
        yield from _differs("the exact commission", Fraction(one.exact), total if is_bonus else _bounded(one, total))
    elif one.second_level.rate_bps is not None:
        of = Fraction(one.second_level.base * one.second_level.rate_bps, BPS)
        yield from _differs("the recruiter's exact commission", Fraction(one.exact), of)
    exact, rounding = Fraction(one.rounding.exact), one.rounding
    yield from _differs("the exact share", exact, Fraction(one.exact) * _share(one))
    yield from _differs("what rounding added", Fraction(rounding.added), rounding.rounded - exact)
    if rounding.method == "half_up":
        yield from _differs("the rounded commission", rounding.rounded, _rounded(exact))
    elif abs(rounding.rounded - exact) >= 1:
        yield f"{exact} was rounded to {rounding.rounded}"


def _rounded(exact: Fraction) -> int:
    return round_half_up(exact.numerator, exact.denominator)


def _of_shares(explanation: Explanation) -> Iterator[str]:
    """The shares of a sale are all of it, and their sum is rounded once."""
    shares = [one for one in explanation.commissions if one.rounding is not None and one.credit and one.credit.whole]
    if not shares or explanation.journey is None:  # an affiliate's view has its own alone
        return
    yield from _differs("the sum of the shares", sum(map(_share, shares)), 1)
    exact = sum((Fraction(one.rounding.exact) for one in shares if one.rounding), Fraction(0))
    rounded = sum(one.rounding.rounded for one in shares if one.rounding)
    yield from _differs("the sum of the rounded shares", rounded, _rounded(exact))
    if explanation.sale is not None:
        credited = sum(one.credit.credited_amount for one in shares if one.credit)
        yield from _differs("what all are credited with", credited, explanation.sale.amount)


# --- from there to what stands ---------------------------------------------------------------------------------


def _capped(one: ExplainedCommission) -> Iterator[str]:
    """Caps take away from the rounded commission, one behind the other."""
    assert one.rounding is not None
    amount = one.rounding.rounded
    for cap in one.caps:
        fits = cap.asked <= cap.room
        clamped = cap.room if cap.over == "clamp" else 0
        if cap.over:
            yield from _differs(f"what cap {cap.cap} gave", cap.given, cap.asked if fits else clamped)
        if cap.by == "commission":
            yield from _differs(f"what was asked of cap {cap.cap}", cap.asked, amount)
            amount = cap.given
        elif not cap.given:
            amount = 0
        elif cap.given < cap.asked:
            amount = round_half_up(amount * cap.given, cap.asked)
    yield from _differs("what accrued", one.accrued, 0 if one.unpaid else amount)


def _changes(one: ExplainedCommission, explanation: Explanation) -> Iterator[str]:
    yield from _differs("what stands", one.outstanding, one.commission - one.taken_back)
    if not one.changes:
        return
    sale = explanation.sale.amount if explanation.sale is not None else 0
    outstanding, given_back, steps = one.accrued, 0, {r.rule: r.tier.step for r in one.rules if r.tier is not None}
    for change in one.changes:
        outstanding += change.amount
        yield from _differs(f"what stands after it was {change.what}", change.outstanding, outstanding)
        given_back = given_back if change.reversed_amount is None else change.reversed_amount
        if change.amount and change.what in ("repriced", "reversed"):
            back = _taken_back(change.commission, given_back, sale, change.what)
            yield from _differs("what stands of it", change.outstanding, change.commission - back)
        if change.what == "repriced" and change.step is not None:
            steps[change.rule] = change.step
            if not change.cap and (again := _repriced(one, steps)) is not None:
                yield from _differs("what it was repriced to", change.commission, again)
    yield from _differs("what stands in the end", one.outstanding, outstanding)
    yield from _differs("the commission in the end", one.commission, one.changes[-1].commission)


def _taken_back(commission: int, given_back: int, sale: int, what: str) -> int:
    """The same part of the commission as of the sale; of a sale of nothing, any reversal takes all."""
    if not sale:
        return commission if what == "reversed" else 0
    return commission if given_back == sale else round_half_up(commission * given_back, sale)


def _repriced(one: ExplainedCommission, steps: dict[str, int]) -> int | None:
    """A commission by other steps of its tables, rounded by itself; None where a table is not known."""
    factor, total = factor_of(one.rate), Fraction(0)
    for rule in one.rules:
        if rule.tier is None or rule.tier.method == "marginal":
            total += Fraction(rule.exact)
        elif not rule.tier.steps:
            return None
        else:
            total += _by_step(rule.tier.steps[steps[rule.rule]], rule, factor)
    return _rounded(_bounded(one, total) * _share(one))
