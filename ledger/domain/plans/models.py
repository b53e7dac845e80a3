"""Attribution models: whose touches brought a conversion, and how much of it each is credited with.

A model gives each touch of a journey an integer weight; an affiliate's credit is the sum of its touches' weights.
Sources: docs/plans.md, 'Attribution'.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Context, Decimal

from ledger.domain.plans.journey import Touch
from ledger.domain.plans.plan import AttributionRules

DECAY_UNITS = 10**12  # the weight of a touch of this very moment
_DECAY = Context(prec=28)


def weights(rules: AttributionRules, model: str, touches: Sequence[Touch], occurred_at: datetime) -> list[int]:
    """The weight of each touch of a journey that is not empty, in order of time."""
    match model:
        case "first_click":
            return _only(0, len(touches))
        case "last_click":
            return _only(len(touches) - 1, len(touches))
        case "last_non_direct":
            direct = set(rules.direct_channels)
            indirect = [n for n, touch in enumerate(touches) if touch.channel not in direct]
            return _only(indirect[-1] if indirect else len(touches) - 1, len(touches))
        case "linear":
            return [1] * len(touches)
        case "position_based":
            return _by_position(rules, len(touches))
        case "time_decay":
            return _by_age(rules.half_life_days, touches, occurred_at)
    raise AssertionError(model)


def _only(index: int, count: int) -> list[int]:
    return [int(n == index) for n in range(count)]


def _by_position(rules: AttributionRules, count: int) -> list[int]:
    first, middle, last = rules.weights
    if count == 1:
        return [1]
    if rules.spread == "all":
        found = [middle] * count
        found[0] += first * count
        found[-1] += last * count
    elif count == 2:
        found = [first, last]
    else:
        found = [first * (count - 2), *[middle] * (count - 2), last * (count - 2)]
    return found if any(found) else [1] * count


def _by_age(half_life_days: int, touches: Sequence[Touch], occurred_at: datetime) -> list[int]:
    found = []
    for touch in touches:
        age = occurred_at - touch.occurred_at
        micros = age.days * 86_400_000_000 + age.seconds * 1_000_000 + age.microseconds
        halvings = _DECAY.divide(Decimal(-micros), Decimal(half_life_days * 86_400_000_000))
        found.append(int(_DECAY.multiply(_DECAY.power(Decimal(2), halvings), Decimal(DECAY_UNITS))))
    return found if any(found) else [1] * len(touches)


def credits(touches: Sequence[Touch], weights_: Sequence[int]) -> list[tuple[str, int]]:
    """(affiliate id, weight) of those with any, in the order of their first touches that count."""
    found: dict[str, int] = {}
    for touch, weight in zip(touches, weights_, strict=True):
        if weight:
            found[touch.affiliate_id] = found.get(touch.affiliate_id, 0) + weight
    return list(found.items())
