"""Money: integer minor units and a currency, exact rates, and rounding that happens once and by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from iso4217 import Currency as IsoCurrency

from ledger.domain.errors import InvalidInput
from ledger.domain.ids import AMOUNT_MAX

BPS = 10_000
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
EXPONENTS: dict[str, int] = {c.value: c.exponent for c in IsoCurrency if c.exponent is not None}


def round_half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, halves away from zero. denominator > 0."""
    if numerator < 0:
        return -((-2 * numerator + denominator) // (2 * denominator))
    return (2 * numerator + denominator) // (2 * denominator)


def percent_of(amount: int, rate_bps: int) -> int:
    """rate_bps basis points of amount (minor units), rounded half up once."""
    return round_half_up(amount * rate_bps, BPS)


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split total by weights so that the parts sum exactly to it (largest remainder; ties to the first).

    Raises ValueError for negative weights or weights that sum to zero.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError("weights must not be negative and must not sum to zero")
    sign = -1 if total < 0 else 1
    shares = [abs(total) * weight // whole for weight in weights]
    remainders = [abs(total) * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: abs(total) - sum(shares)]:
        shares[i] += 1
    return [sign * share for share in shares]


def exponent(field: str, currency: str) -> int:
    """How many decimals a currency's major unit has (ISO 4217). Raises InvalidInput."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise InvalidInput(field, "must be an ISO 4217 currency code such as EUR") from None


def minor_units(field: str, text: str, currency: str) -> int:
    """'49.90' EUR → 4990. Raises InvalidInput when it is no number or finer than the currency."""
    places = exponent("currency", currency)
    # Decimal itself would also take 1e3, 1_000 and other scripts' digits, which no two systems read alike
    if len(text) > 24 or not _DECIMAL.fullmatch(text.strip()):
        raise InvalidInput(field, "must be a decimal number such as 49.90")
    value = Decimal(text.strip())
    scaled = value.scaleb(places)
    if scaled != scaled.to_integral_value():
        raise InvalidInput(field, f"has more than {places} decimals, {currency} has {places}")
    if abs(scaled) > AMOUNT_MAX:
        raise InvalidInput(field, f"must be at most {AMOUNT_MAX} minor units")
    return int(scaled)


def major_units(amount: int, currency: str) -> str:
    """4990 EUR → '49.90'."""
    places = EXPONENTS.get(currency, 2)
    return f"{Decimal(amount).scaleb(-places):.{places}f}" if places else str(amount)


def rate_bps(field: str, percent: str) -> int:
    """'2.9' → 290. Raises InvalidInput when it is no percentage with at most two decimals."""
    try:
        value = Decimal(percent.strip().removesuffix("%"))
    except InvalidOperation:
        raise InvalidInput(field, "must be a percentage such as 10 or 2.9") from None
    if not value.is_finite() or not 0 <= value <= 1000 or value * 100 != (value * 100).to_integral_value():
        raise InvalidInput(field, "must be a percentage from 0 to 1000 with at most two decimals")
    return int(value * 100)


def line_amount(quantity: Decimal, price: Decimal, places: int) -> int:
    """round_half_up(quantity × price × 10^places), exact decimals."""
    return int((quantity * price).scaleb(places).to_integral_value(ROUND_HALF_UP))
