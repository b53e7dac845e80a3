"""Small words of explanations: instants, amounts, fractions and what a tier pays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from fractions import Fraction

from ledger.domain import money
from ledger.domain.plans.plan import TierStep
from ledger.explaining.data import ExplainedRule
from ledger.plan_words import amount as money_text
from ledger.plan_words import pay, percent

_DIGITS_MAX = 8  # decimals of an exact figure; what needs more is told roughly
_DENOMINATOR_MAX = 10**6  # of a fraction that is told as one


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
    """'30 %', '31/75 (about 41.33 %)': exact, so that whoever reads it can do the sum again."""
    percentage = share * 100
    if (percentage * 100).denominator == 1:
        return percent(int(percentage * 100))
    return f"{share} (about {_rough(percentage, 2)} %)"


def remainder_text(remainder: Fraction, currency: str) -> str:
    """What is beyond whole minor units: '3/16 of 0.01 EUR'; very fine fractions roughly."""
    unit = money_text(1, currency)
    if remainder.denominator > _DENOMINATOR_MAX:
        return f"about {_rough(remainder, _DIGITS_MAX)} of {unit}"
    return f"{remainder} of {unit}" if remainder else money_text(0, currency)


def _rough(exact: Fraction, digits: int) -> str:
    return _decimal(money.round_half_up(exact.numerator * 10**digits, exact.denominator), digits, digits)


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def period_of(counter: str) -> str:
    period = counter.partition("/")[2]
    return "since the beginning" if period == "total" else f"in {period}"


def counted(value: int, by: str, currency: str) -> str:
    """What a counter of a table stands at."""
    return f"{value:,}" if by == "conversions" else money_text(value, currency)


def step_pays(step: TierStep, rule: ExplainedRule, sold: str, currency: str) -> str:
    """What a step of a table pays for a rule's lines; sold: their amount."""
    if step.rate_bps is not None:
        return f"{percent(step.rate_bps)} of {sold}"
    items = f" for {rule.quantity:,}" if step.amount_per_item is not None else ""
    return f"{pay(step, currency)}{items}"
