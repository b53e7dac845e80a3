"""What became of a commission after it accrued, in words."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ledger.explaining.data import Change, ExplainedCommission, ExplainedSale, Repricing, TopUpCap
from ledger.explaining.phrases import counted, exact_money, instant, period_of, share_text, step_pays
from ledger.plan_words import amount as money_text

_TOLD_MOST = 3  # top-ups that are told one by one: the last ones


def became(one: ExplainedCommission, sale: ExplainedSale | None) -> Iterator[str]:
    """Its changes, oldest first, and what stands in the end."""
    repriced = [number for number, change in enumerate(one.changes) if change.what == "repriced"]
    summed_up = repriced[:-_TOLD_MOST]
    for number, change in enumerate(one.changes):
        if number not in summed_up:
            yield from _change(one, change, sale)
        elif number == summed_up[-1]:
            yield _summed_up([one.changes[each] for each in summed_up], one.currency)
    if not one.changes and one.commission != one.accrued:
        yield f"It was repriced to {money_text(one.commission, one.currency)} since."
    if not one.changes and one.taken_back:
        yield f"{money_text(one.taken_back, one.currency)} of it was taken back."
    if one.outstanding != one.accrued or any(change.amount for change in one.changes):
        yield f"{money_text(one.outstanding, one.currency)} stands."


def _summed_up(changes: list[Change], currency: str) -> str:
    times = "once" if len(changes) == 1 else f"{len(changes):,} times"
    was, commission = money_text(changes[0].was or 0, currency), money_text(changes[-1].commission, currency)
    return (
        f"Until {instant(changes[-1].effective_at)} it was repriced {times}, from {was} to {commission}; the last"
        f" {_TOLD_MOST} times follow one by one."
    )


def _change(one: ExplainedCommission, change: Change, sale: ExplainedSale | None) -> Iterator[str]:
    on, moved = f"On {instant(change.effective_at)}", money_text(abs(change.amount), one.currency)
    match change.what:
        case "held":
            yield f"{on} it was held back."
        case "released":
            yield f"{on} it was let go."
        case "approved":
            may = ": it may be paid" if change.outstanding else ", with nothing to be paid"
            yield f"{on} it {'was approved by hand' if change.by_hand else 'matured'}{may}."
        case "rejected":
            yield f"{on} it was rejected: {moved} is not owed after all."
        case "reversed":
            back = change.sale_amount or 0
            if back and sale is not None:
                yield f"{on} {money_text(back, sale.currency)} of the sale was given back: {moved} is taken back."
            else:
                yield f"{on} it was reversed: {moved} is taken back."
        case "repriced":
            yield f"{on} {_cause(one, change)}."
            if change.repricing is not None:
                yield from _sum(change.repricing, one, change, sale)
            yield _outcome(change, one.currency)


def _cause(one: ExplainedCommission, change: Change) -> str:
    if change.cause == "simulation":
        return f"simulation {change.simulation_id} was applied"
    tier = next((rule.tier for rule in one.rules if rule.rule == change.rule), None)
    number = f"tier {(change.step or 0) + 1} of rule {change.rule}"
    what = "was reached" if change.cause == "tier_reached" else "is what is left"
    if tier is None or change.counted is None:
        return f"{number} {what}"
    stood = f"{tier.by} {period_of(change.counter)} stood at {counted(change.counted, tier.by, one.currency)}"
    return f"{number} {what}, as {stood}"


# --- the sum of a top-up ---------------------------------------------------------------------------------------


def _sum(summed: Repricing, one: ExplainedCommission, change: Change, sale: ExplainedSale | None) -> Iterator[str]:
    """From what the step pays to what that makes of the commission."""
    currency = one.currency
    rule = next(each for each in one.rules if each.rule == change.rule)
    own = next(Fraction(each.exact) for each in summed.rules if each.rule == change.rule)
    assert rule.tier is not None
    step = rule.tier.steps[change.step or 0]
    sold = money_text(rule.amount, sale.currency if sale is not None else currency)
    share = Fraction(one.credit.share) if one.credit is not None else Fraction(1)
    whole = " for the whole sale" if share != 1 else ""
    yield f"It pays {step_pays(step, rule, sold, currency)}: {exact_money(own, currency)}{whole}."
    total = sum((Fraction(each.exact) for each in summed.rules), Fraction(0))
    if len(summed.rules) > 1:
        others = exact_money(total - own, currency)
        yield f"With {others} by the other rules that is {exact_money(total, currency)}."
    if summed.bound:
        which = "less than the minimum" if summed.bound == "min_amount" else "more than the maximum"
        yield f"That is {which}, so it is {exact_money(Fraction(summed.exact), currency)}."
    exact = Fraction(summed.share_exact)
    if share != 1 and exact:
        yield f"{share_text(share)} of that is {exact_money(exact, currency)}."
    if exact != summed.rounded:
        yield f"Rounded half up, that is {money_text(summed.rounded, currency)}."
    if summed.limit is not None:
        was = money_text(change.was or 0, currency)
        would_be = f"The commission would be {money_text(summed.rounded, currency)} instead of {was}"
        yield f"{would_be}, but {_limit(summed.limit, currency)}."


def _limit(limit: TopUpCap, currency: str) -> str:
    asked = f"the {money_text(limit.asked, currency)} more"
    if limit.room is not None:
        return f"cap {limit.cap} had room for {money_text(limit.room, currency)} of {asked}"
    if limit.over == "unpaid":
        return f"{asked} did not fit whole into cap {limit.cap}, so nothing of it is paid"
    return f"{asked} did not fit whole into cap {limit.cap}"


def _outcome(change: Change, currency: str) -> str:
    """What the commission is from then on, and what that adds to what stands."""
    now, was = (money_text(amount, currency) for amount in (change.commission, change.was or 0))
    moved = f"{money_text(abs(change.amount), currency)} {'more' if change.amount >= 0 else 'less'}"
    cut = f", as far as cap {change.cap} lets it" if change.cap and change.repricing is None else ""
    if change.commission == change.was:
        return f"So the commission stays {now}{cut}."
    said = f"So the commission is {now} from then on instead of {was}{cut}"
    if change.outstanding != change.commission:
        stands, stood = (money_text(one, currency) for one in (change.outstanding, change.outstanding - change.amount))
        return f"{said}; less what was taken back, {stands} of it stands instead of {stood}: {moved}."
    return f"{said}: {moved}."
