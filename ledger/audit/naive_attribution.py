"""A second opinion on attribution (docs/plans.md): from a journey to weights, and from weights to credits, written
down once more, on purpose naively.

A touch is JSON as it stands in ConversionAttributed: affiliate_id, occurred_at, kind, channel, position.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

from ledger.audit.naive_plans import at

State = dict[str, Any]
NEWEST = 100  # touches of a journey
EXACT = Context(prec=80)
UNITS = 10**12  # of which a touch without age has all, by time_decay
DAY = timedelta(days=1)


def journey(
    touches: Sequence[State],
    occurred_at: datetime,
    window_days: int,
    view_window_days: int = 0,
    own: State | None = None,
) -> list[State]:
    """The touches that count, in order of time. touches: all of the customer and visitor on the offer, some of them
    duplicates; own: the click that the conversion names."""
    clicks = _within(touches, "click", occurred_at, window_days)
    if own is not None and all(own["click_id"] != one.get("click_id") for one in clicks):
        clicks = sorted([*clicks, own], key=_in_time)
    if clicks or not view_window_days:
        return clicks
    return _within(touches, "impression", occurred_at, view_window_days)


def _within(touches: Sequence[State], kind: str, occurred_at: datetime, days: int) -> list[State]:
    found = [
        one
        for one in touches
        if one.get("kind", "click") == kind
        and not one.get("duplicate")
        and occurred_at - days * DAY <= at(one["occurred_at"]) <= occurred_at
    ]
    return sorted(found, key=_in_time)[-NEWEST:]


def _in_time(touch: State) -> tuple[datetime, int]:
    return at(touch["occurred_at"]), touch.get("position", 0)


def weights(attribution: State, touches: Sequence[State], occurred_at: datetime) -> list[int]:
    """Of each touch of a journey, by a model that looks at the journey. touches: in order of time, at least one."""
    model, count = attribution["model"], len(touches)
    if model == "first_click":
        return _all_to(0, count)
    if model == "last_click":
        return _all_to(count - 1, count)
    if model == "last_non_direct":
        direct = attribution.get("direct_channels", ["direct"])
        others = [number for number, one in enumerate(touches) if one.get("channel") not in direct]
        return _all_to(others[-1] if others else count - 1, count)
    if model == "linear":
        return [1 for _ in touches]
    if model == "position_based":
        return _by_position(attribution, count)
    if model == "time_decay":
        half_life = attribution.get("half_life_days", 7)
        found = [decayed(occurred_at - at(one["occurred_at"]), half_life) for one in touches]
        return found if any(found) else [1] * count
    raise ValueError(f"no model of touches: {model}")


def _all_to(number: int, count: int) -> list[int]:
    return [1 if one == number else 0 for one in range(count)]


def _by_position(attribution: State, count: int) -> list[int]:
    first, middle, last = attribution.get("weights", [40, 20, 40])
    if count == 1:
        return [1]
    if attribution.get("spread", "middle") == "all":  # middle / count for each, times count
        found = [middle for _ in range(count)]
        found[0] += first * count
        found[-1] += last * count
        return found
    if count == 2:
        return [first, last] if first + last else [1, 1]
    between = count - 2  # middle / between for each of them, times between
    return [first * between, *(middle for _ in range(between)), last * between]


def decayed(age: timedelta, half_life_days: int) -> int:
    """2^(−age / half-life) in units of 10⁻¹², rounded down."""
    halves = Fraction(age // timedelta(microseconds=1)) / Fraction(half_life_days * (DAY // timedelta(microseconds=1)))
    if halves.denominator == 1:
        return int(UNITS // 2**halves.numerator)
    power = EXACT.divide(Decimal(halves.numerator), Decimal(halves.denominator))
    exact = EXACT.multiply(Decimal(UNITS), EXACT.power(Decimal(2), -power))
    return int(exact.to_integral_value(ROUND_FLOOR))


def credits(touches: Sequence[State], found: Sequence[int]) -> dict[str, Fraction]:
    """Which part of the credit each affiliate has, in the order of their first touches; nobody with none."""
    added: dict[str, int] = {}
    for touch, weight in zip(touches, found, strict=True):
        added[touch["affiliate_id"]] = added.get(touch["affiliate_id"], 0) + weight
    whole = sum(added.values())
    return {who: Fraction(weight, whole) for who, weight in added.items() if weight}
