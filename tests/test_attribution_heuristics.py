"""First, last and linear touch against an independent package, over 12,000 generated journeys.

The package (tests/vectors/attribution_heuristics.json says which, and how it was called) comes as C++ to compile, under
another licence, and wants four libraries: so it was run once, and what it said is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from generated_journeys import COUNT, journeys

from ledger.domain.plans import models
from ledger.domain.plans.journey import Touch
from ledger.domain.plans.plan import AttributionRules

VECTOR = Path(__file__).parent / "vectors" / "attribution_heuristics.json"
SALE = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    """What the package said, of which journeys."""
    found: dict[str, Any] = json.loads(VECTOR.read_text())
    return found


def test_the_journeys_are_those_that_the_package_was_given(package: dict[str, Any]) -> None:
    """Byte by byte, and at least 10,000."""
    lines = [f"{' > '.join(one.touches)},1,{one.value}" for one in journeys()]
    text = "\n".join(["path,conversions,value", *lines, ""])
    assert hashlib.sha256(text.encode()).hexdigest() == package["journeys_sha256"]
    assert package["journeys"] == COUNT == len(lines) >= 10_000


@pytest.mark.parametrize(("model", "theirs"), [("first_click", "first"), ("last_click", "last"), ("linear", "linear")])
def test_a_models_totals_are_the_packages(package: dict[str, Any], model: str, theirs: str) -> None:
    """Conversions and value by affiliate: ours exact fractions, theirs floats."""
    conversions: dict[str, Fraction] = defaultdict(Fraction)
    value: dict[str, Fraction] = defaultdict(Fraction)
    for one in journeys():
        touches = [Touch(n, who, SALE - timedelta(days=20 - n)) for n, who in enumerate(one.touches, 1)]
        weights = models.weights(AttributionRules(), model, touches, SALE)
        for who, weight in models.credits(touches, weights):
            conversions[who] += Fraction(weight, sum(weights))
            value[who] += Fraction(weight * one.value, sum(weights))
    said = package["totals"]
    assert set(conversions) == {who for who, of in said.items() if of[theirs]["conversions"]}
    for who, of in said.items():
        assert float(conversions[who]) == pytest.approx(of[theirs]["conversions"], rel=1e-9)
        assert float(value[who]) == pytest.approx(of[theirs]["value"], rel=1e-9)
    assert sum(conversions.values()) == COUNT
    assert sum(value.values()) == sum(one.value for one in journeys())
