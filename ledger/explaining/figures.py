"""Fractions that several parts of an explanation need."""

from __future__ import annotations

from fractions import Fraction

from ledger.domain import rates
from ledger.domain.money import round_half_up
from ledger.domain.plans.evidence import FrozenRate, Pricing


def share_of(pricing: Pricing | None) -> Fraction:
    """An affiliate's part of the credit."""
    return Fraction(1) if pricing is None or pricing.weight is None else Fraction(*pricing.weight)


def factor_of(rate: FrozenRate | None) -> Fraction:
    """From minor units of the sale's currency to those of the commission's."""
    return Fraction(1) if rate is None else Fraction(*rates.factor(rate.rate, rate.base, rate.quote))


def half_up(exact: Fraction) -> int:
    """Whole minor units."""
    return round_half_up(exact.numerator, exact.denominator)
