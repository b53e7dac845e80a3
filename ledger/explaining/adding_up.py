"""Whether the figures of an explanation lead to the commission that it explains: computed again from the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ledger.domain.money import BPS, round_half_up
from ledger.domain.plans.plan import TierStep
from ledger.explaining.commission import GOAL_RULE
from ledger.explaining.data import (
    Change,
    ExplainedCommission,
    ExplainedRule,
    ExplainedTier,
    Explanation,
    RecruitersPart,
    Repricing,
    Rounding,
    TopUpCap,
)
from ledger.explaining.figures import factor_of, half_up


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
    else:
        yield from _second_level(one, one.second_level)
    exact, rounding = Fraction(one.rounding.exact), one.rounding
    yield from _differs("the exact share", exact, Fraction(one.exact) * _share(one))
    yield from _differs("what rounding added", Fraction(rounding.added), rounding.rounded - exact)
    if rounding.method == "half_up":
        yield from _differs("the rounded commission", rounding.rounded, half_up(exact))
    else:
        gets = rounding.reason in ("larger", "earlier_touch")
        yield from _differs("what remains of the share", Fraction(rounding.remainder), exact - int(exact))
        yield from _differs("the rounded share", rounding.rounded, int(exact) + gets)
        if rounding.left is not None:
            yield from _differs("why the share was rounded so", rounding.reason, _reason(one.affiliate_id, rounding))


def _reason(affiliate_id: str, rounding: Rounding) -> str:
    order = [(Fraction(other.remainder), other.affiliate_id) for other in rounding.remainders]
    left, own = rounding.left or 0, Fraction(rounding.remainder)
    if not own or not left:
        return "none_left" if own else "whole"
    # ties count where they are at the edge between those who get a unit and those who do not
    is_tie = left < len(order) and order[left - 1][0] == order[left][0] == own
    if affiliate_id in {who for _, who in order[:left]}:
        return "earlier_touch" if is_tie else "larger"
    return "later_touch" if is_tie else "smaller"


def _second_level(one: ExplainedCommission, part: RecruitersPart) -> Iterator[str]:
    exact = Fraction(one.exact)
    if part.rate_bps is not None:
        yield from _differs("the recruiter's exact commission", exact, Fraction(part.base * part.rate_bps, BPS))
    if part.recruited:
        yield from _differs("what it is a part of", part.base, sum(each.base for each in part.recruited))
        of = sum((Fraction(each.base * each.rate_bps, BPS) for each in part.recruited), Fraction(0))
        yield from _differs("the recruiter's exact commission", exact, of)


def _of_shares(explanation: Explanation) -> Iterator[str]:
    """The shares of a sale are all of it, and their sum is rounded once."""
    shares = [one for one in explanation.commissions if one.rounding is not None and one.credit and one.credit.whole]
    if not shares or explanation.journey is None:  # an affiliate's view has its own alone
        return
    yield from _differs("the sum of the shares", sum(map(_share, shares)), 1)
    roundings = [one.rounding for one in shares if one.rounding]
    exact = sum((Fraction(one.exact) for one in roundings), Fraction(0))
    yield from _differs("the sum of the rounded shares", sum(one.rounded for one in roundings), half_up(exact))
    left = half_up(exact) - sum(int(Fraction(one.exact)) for one in roundings)
    own = {one.affiliate_id: one.rounding.remainder for one in shares if one.rounding}
    order = sorted(own, key=lambda who: -Fraction(own[who]))
    for one in roundings:
        yield from _differs("the sum of the exact shares", Fraction(one.together or "0"), exact)
        yield from _differs("what is left beyond the shares rounded down", one.left, left)
        told = [(other.affiliate_id, other.remainder) for other in one.remainders]
        yield from _differs("the order of the remainders", told, [(who, own[who]) for who in order])
    if explanation.sale is not None:
        credited = sum(one.credit.credited_amount for one in shares if one.credit)
        yield from _differs("what all are credited with", credited, explanation.sale.amount)


# --- from there to what stands ---------------------------------------------------------------------------------


def _part(amount: int, given: int, asked: int) -> int:
    return round_half_up(amount * given, asked) if given else 0


def _capped(one: ExplainedCommission) -> Iterator[str]:
    """Caps take away from the rounded commission, one behind the other."""
    assert one.rounding is not None
    amount, clicks = one.rounding.rounded, one.clicks.count if one.clicks is not None else 0
    for cap in one.caps:
        expected = amount if cap.by == "commission" else 1
        if cap.by == "clicks":
            expected = clicks
            clicks = cap.given
        asked = expected if cap.asked is None else cap.asked
        yield from _differs(f"what was asked of cap {cap.cap}", asked, expected)
        yield from _differs(f"whether cap {cap.cap} was kept", cap.fits, cap.given == asked)
        if cap.over and cap.room is not None:
            clamped = cap.room if cap.over == "clamp" else 0
            yield from _differs(f"what cap {cap.cap} gave", cap.given, asked if asked <= cap.room else clamped)
        amount = cap.given if cap.by == "commission" else _part(amount, cap.given, asked)
    yield from _differs("what accrued", one.accrued, 0 if one.unpaid else amount)


def _changes(one: ExplainedCommission, explanation: Explanation) -> Iterator[str]:
    yield from _differs("what stands", one.outstanding, one.commission - one.taken_back)
    if not one.changes:
        return
    sale = explanation.sale.amount if explanation.sale is not None else 0
    outstanding, given_back, steps = one.accrued, 0, {r.rule: r.tier.step for r in one.rules if r.tier is not None}
    commission = one.accrued
    for change in one.changes:
        outstanding += change.amount
        yield from _differs(f"what stands after it was {change.what}", change.outstanding, outstanding)
        given_back = given_back if change.reversed_amount is None else change.reversed_amount
        if change.amount and change.what in ("repriced", "reversed"):
            back = _taken_back(change.commission, given_back, sale, change.what)
            yield from _differs("what stands of it", change.outstanding, change.commission - back)
        if change.what == "repriced":
            yield from _differs("what it was before it was repriced", change.was, commission)
            if change.step is not None:
                steps[change.rule] = change.step
            if change.repricing is not None:
                yield from _repriced(one, change, change.repricing, steps)
        commission = change.commission
    yield from _differs("what stands in the end", one.outstanding, outstanding)
    yield from _differs("the commission in the end", one.commission, one.changes[-1].commission)


def _taken_back(commission: int, given_back: int, sale: int, what: str) -> int:
    """The same part of the commission as of the sale; of a sale of nothing, any reversal takes all."""
    if not sale:
        return commission if what == "reversed" else 0
    return commission if given_back == sale else round_half_up(commission * given_back, sale)


def _repriced(one: ExplainedCommission, change: Change, summed: Repricing, steps: dict[str, int]) -> Iterator[str]:
    """A commission by other steps of its tables, rounded by itself, as far as a cap let it."""
    factor, total = factor_of(one.rate), Fraction(0)
    for rule, said in zip(one.rules, summed.rules, strict=True):
        earned, step = Fraction(rule.exact), None
        if rule.tier is not None and rule.tier.steps and rule.tier.method == "whole":
            step = steps[rule.rule]
            earned = _by_step(rule.tier.steps[step], rule, factor)
        what = f"what rule {rule.rule!r} earns then"
        yield from _differs(what, (said.rule, said.step, Fraction(said.exact)), (rule.rule, step, earned))
        total += earned
    exact = _bounded(one, total)
    yield from _differs("the bound that holds then", bool(summed.bound), exact != total)
    yield from _differs("the exact commission then", Fraction(summed.exact), exact)
    yield from _differs("the exact share then", Fraction(summed.share_exact), exact * _share(one))
    yield from _differs("the rounded commission then", summed.rounded, half_up(exact * _share(one)))
    yield from _topped_up(change, summed.rounded, summed.limit)


def _topped_up(change: Change, rounded: int, limit: TopUpCap | None) -> Iterator[str]:
    yield from _differs("the cap of the top-up", limit.cap if limit is not None else "", change.cap)
    was = change.was or 0
    if limit is None:
        yield from _differs("what it was repriced to", change.commission, rounded)
        return
    yield from _differs("what the top-up asked for", limit.asked, rounded - was)
    if limit.over == "unpaid":
        yield from _differs("what it was repriced to", change.commission, was)
    elif limit.room is not None:
        yield from _differs("what it was repriced to", change.commission, was + limit.room)
    if not was <= change.commission < rounded:
        yield f"cap {limit.cap} made {change.commission} of {rounded}, where it was {was}"
