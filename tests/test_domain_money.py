"""Money rounds half up once, splits exactly, and comes back exactly: the vectors and the properties."""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_view import shop, terms
from support import T0, refund, sale

from ledger.domain import money
from ledger.domain.conversion import CommissionAccrued, ConversionReversed
from ledger.domain.errors import InvalidInput
from ledger.domain.offer import Terms

AMOUNTS = st.integers(0, 10**13)
RATES = st.integers(0, 100_000)


@pytest.mark.parametrize(
    ("amount", "percent", "commission"),
    [(3, "20", 1), (15, "10", 2), (1, "50", 1), (500, "2.9", 15), (7, "20", 1), (2, "20", 0)],
)
def test_the_known_vectors_of_a_percentage(amount: int, percent: str, commission: int) -> None:
    """A percentage of an amount of minor units rounds half up."""
    assert money.percent_of(amount, money.rate_bps("percent", percent)) == commission
    accrued = shop(rate_bps=money.rate_bps("percent", percent)).one(CommissionAccrued, sale("A", amount))
    assert accrued.amount == commission


@given(AMOUNTS, RATES)
def test_a_percentage_is_the_exact_one_rounded_half_up(amount: int, rate_bps: int) -> None:
    """It agrees with exact decimals, and says what rounding did to the ten-thousandth of a minor unit."""
    exact = Decimal(amount) * rate_bps / 10_000
    assert money.percent_of(amount, rate_bps) == int(exact.to_integral_value(ROUND_HALF_UP))
    commission, rounding_e4 = Terms(1, T0, 30, 30, rate_bps, None, None).commission(amount)
    assert Fraction(commission) - Fraction(rounding_e4, 10_000) == Fraction(amount * rate_bps, 10_000)


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**13))
def test_rounding_half_up_goes_away_from_zero(numerator: int, denominator: int) -> None:
    """The nearest integer; a half goes away from zero, on both sides of it."""
    exact = Fraction(numerator, denominator)
    rounded = money.round_half_up(numerator, denominator)
    assert abs(rounded - exact) <= Fraction(1, 2)
    if abs(rounded - exact) == Fraction(1, 2):
        assert abs(rounded) > abs(exact)


@given(st.integers(-(10**13), 10**13), st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any))
def test_shares_sum_exactly_and_none_is_off_by_a_unit(total: int, weights: list[int]) -> None:
    """Largest remainder: the parts add up, each is the exact share rounded down or up, and zero weights get nothing."""
    parts = money.allocate(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
        assert weight or part == 0
    assert money.allocate(-total, weights) == [-part for part in parts]


@given(st.integers(0, 10**9), st.lists(st.integers(1, 1000), min_size=2, max_size=8))
def test_a_larger_weight_never_gets_less(total: int, weights: list[int]) -> None:
    """The split is fair: shares are in the order of the weights, and equal weights differ by a unit at most, the
    first one being ahead."""
    by_weight = sorted(zip(weights, money.allocate(total, weights), strict=True))
    for (weight, part), (heavier, more) in pairwise(by_weight):
        assert part <= more + (weight == heavier)
    equal = money.allocate(total, [1] * len(weights))
    assert equal == sorted(equal, reverse=True)


def test_the_vectors_of_a_split() -> None:
    """100 in three is 34, 33, 33; the largest remainder gets what is left over."""
    assert money.allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert money.allocate(10, [1, 5, 3]) == [1, 6, 3]
    assert money.allocate(0, [1, 2]) == [0, 0]


@pytest.mark.parametrize("weights", [[], [0, 0], [3, -1]])
def test_a_split_needs_weights(weights: list[int]) -> None:
    """No weights, only zeros, or one below zero cannot be split by."""
    with pytest.raises(ValueError, match="weights"):
        money.allocate(100, weights)


def test_half_refunded_of_197_takes_back_99_and_leaves_98() -> None:
    """The vector of the design: 985 of an order of 1970 at 10 %."""
    view = shop()
    assert view.one(CommissionAccrued, sale("A", 1970)).amount == 197
    assert view.one(ConversionReversed, refund("r1", "A", 985)).amount == 99
    assert view.balances() == {"expense:commission": 98, "liability:ada:pending": -98}
    assert view.one(ConversionReversed, refund("r2", "A", 985)).amount == 98
    assert view.balances() == {}


def test_a_refund_is_priced_by_the_terms_of_its_order() -> None:
    """Tezgah: 10 %, then 15 %. The refund of the first half uses the order's 10 %, however late it comes."""
    view = shop(rate_bps=1000)
    assert view.one(CommissionAccrued, sale("A", 10_000)).amount == 1000
    view.given("offer:shoes", terms(2, 1500, effective_from=T0 + timedelta(days=1)))
    assert view.one(ConversionReversed, refund("r1", "A", 5000, occurred_at=T0 + timedelta(days=5))).amount == 500
    assert view.one(CommissionAccrued, sale("B", 10_000, occurred_at=T0 + timedelta(days=1))).amount == 1500
    assert view.one(CommissionAccrued, sale("C", 10_000, occurred_at=T0 + timedelta(hours=23))).amount == 1000


@given(st.integers(1, 10**6), RATES, st.lists(st.integers(0, 10**6), max_size=6))
def test_partial_reversals_are_cumulative(amount: int, rate_bps: int, parts: list[int]) -> None:
    """After r of A is reversed, round_half_up(C x r / A) of the commission is; all of A takes back exactly C, and no
    part is below zero."""
    view = shop(rate_bps=rate_bps)
    commission = view.one(CommissionAccrued, sale("A", amount)).amount
    reversed_sale = taken = 0
    for number, part in enumerate(parts):
        if reversed_sale + part > amount:
            continue
        event = view.one(ConversionReversed, refund(f"r{number}", "A", part))
        assert event.amount >= 0
        reversed_sale, taken = reversed_sale + part, taken + event.amount
        exact = Decimal(commission) * reversed_sale / amount
        assert taken == int(exact.to_integral_value(ROUND_HALF_UP))
    view.when(refund("last", "A"))
    assert view.balances() == {}
    assert view.conversion("A").reversed_commission == commission


def test_zero_amounts_are_real() -> None:
    """A sale of nothing accrues nothing in percent and a flat commission in full; its reversal takes all of it back."""
    view = shop()
    assert view.one(CommissionAccrued, sale("A", 0)).amount == 0
    view.given("offer:shoes", terms(2, None, amount=500, currency="GBP", effective_from=T0))
    assert view.one(CommissionAccrued, sale("B", 0)).amount == 500
    assert view.balances() == {"expense:commission": 500, "liability:ada:pending": -500}
    assert view.one(ConversionReversed, refund("r1", "B", 0)).amount == 500
    assert view.one(ConversionReversed, refund("r2", "A", None)).amount == 0
    assert view.balances() == {}
    assert view.conversion("A").status == view.conversion("B").status == "reversed"


def test_a_reversal_of_nothing_takes_nothing() -> None:
    """Zero of an order that was worth something leaves it as it was."""
    view = shop()
    view.when(sale("A", 1000))
    assert view.one(ConversionReversed, refund("r1", "A", 0)).amount == 0
    assert view.conversion("A").status == "pending"


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("49.90", "EUR", 4990),
        ("49.9", "EUR", 4990),
        ("1500", "JPY", 1500),
        ("1.234", "KWD", 1234),
        ("-0.01", "GBP", -1),
    ],
)
def test_major_units_by_the_currencys_exponent(text: str, currency: str, amount: int) -> None:
    """Decimal major units become minor units and back, by ISO 4217's exponents."""
    assert money.minor_units("amount", text, currency) == amount
    assert Decimal(money.major_units(amount, currency)) == Decimal(text)


@pytest.mark.parametrize("text", ["", "abc", "1.234", "NaN", "Infinity", "1e30", "1,50", "0x10", "99999999999999999"])
def test_an_amount_that_is_none_is_refused_by_name(text: str) -> None:
    """What is no number, too fine or too large for the currency is refused, naming the field."""
    with pytest.raises(InvalidInput) as caught:
        money.minor_units("amount", text, "EUR")
    assert caught.value.field == "amount"


@pytest.mark.parametrize("percent", ["", "ten", "-1", "1001", "2.955", "NaN"])
def test_a_percentage_that_is_none_is_refused_by_name(percent: str) -> None:
    """A percentage has at most two decimals, and is from 0 to 1000."""
    with pytest.raises(InvalidInput) as caught:
        money.rate_bps("percent", percent)
    assert caught.value.field == "percent"
