"""Evidence of prices by a plan, checked from topics and JSON alone: an honest history passes, and each lie is found
where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import naive_chain
from ledger.audit.findings import Findings
from ledger.audit.naive_plan_facts import PlanFacts, plan_hash
from ledger.audit.naive_planned import PlannedPrices

State = dict[str, Any]
History = list[tuple[str, State]]
WHEN = "2026-11-22T12:00:00Z"
PLAN: State = {
    "plan": 1,
    "currency": "EUR",
    "rules": [
        {
            "id": "all",
            "pay": {
                "tiers": {
                    "by": "revenue",
                    "period": "month",
                    "level": "affiliate",
                    "method": "marginal",
                    "steps": [
                        {"from": 0, "rate_bps": 400},
                        {"from": 20_000, "rate_bps": 600},
                        {"from": 40_000, "rate_bps": 800},
                    ],
                }
            },
        }
    ],
    "caps": [{"id": "day", "level": "offer", "by": "commission", "period": "day", "limit": 2_500, "over": "clamp"}],
    "second_level": {"of": "commission", "rate_bps": 1_000},
}


def recorded(order_id: str, amount: int) -> tuple[str, State]:
    sale = {"order_id": order_id, "offer_id": "sale", "amount": amount, "currency": "EUR", "occurred_at": WHEN}
    return "ConversionRecorded", sale


def accrued(order_id: str, sale_amount: int, amount: int, pricing: State, **more: Any) -> tuple[str, State]:
    state = {
        "order_id": order_id,
        "affiliate_id": "ana",
        "offer_id": "sale",
        "amount": amount,
        "currency": "EUR",
        "sale_amount": sale_amount,
        "occurred_at": WHEN,
        "terms_version": 1,
        "pricing": pricing,
    }
    return "CommissionAccrued", state | more


def priced(amount: int, before: int, steps: tuple[int, int], parts: list[State], exact: str, cap: State) -> State:
    tier = {"by": "revenue", "counter": "affiliate/2026-11", "before": before, "after": before + amount, "parts": parts}
    tier |= {"step_before": steps[0], "step": steps[1]}
    return {
        "rules": [{"rule": "all", "amount": amount, "exact": exact, "tier": tier}],
        "value": amount,
        "exact": exact,
        "caps": [{"cap": "day", "by": "commission", "counter": "offer/2026-11-22", **cap}],
        "counted": ["affiliate/2026-11", "offer/2026-11-22"],
    }


def second(order_id: str, sale_amount: int, amount: int, of: int, cap: State) -> tuple[str, State]:
    cap = {"cap": "day", "by": "commission", "counter": "offer/2026-11-22", **cap}
    pricing = {"second_level_of": of, "rate_bps": 1_000, "caps": [cap], "counted": ["offer/2026-11-22"]}
    return accrued(order_id, sale_amount, amount, pricing, affiliate_id="rec", level=2)


def honest() -> History:
    """300.00 and then 200.00: 14.00 each, of which the day's cap leaves 9.60 the second time."""
    first = [{"step": 0, "amount": 20_000}, {"step": 1, "amount": 10_000}]
    later = [{"step": 1, "amount": 10_000}, {"step": 2, "amount": 10_000}]
    cap = {"room": 2_500, "asked": 1_400, "given": 1_400}
    tight = {"room": 960, "asked": 1_400, "given": 960}
    terms = {"offer_id": "sale", "terms_version": 1, "effective_from": WHEN, "hold_days": 0, "plan": deepcopy(PLAN)}
    return [
        ("ProgramOpened", {"program": "shop", "currency": "EUR"}),
        ("TermsPublished", terms),
        ("AffiliateRecruited", {"affiliate_id": "ana", "recruiter_id": "rec"}),
        recorded("a", 30_000),
        accrued("a", 30_000, 1_400, priced(30_000, 0, (0, 1), first, "1400", cap)),
        second("a", 30_000, 140, 1_400, {"room": 1_100, "asked": 140, "given": 140}),
        recorded("b", 20_000),
        accrued("b", 20_000, 960, priced(20_000, 30_000, (1, 2), later, "1400", tight)),
        second("b", 20_000, 0, 960, {"room": 0, "asked": 96, "given": 0}),
        ("ConversionReversed", {"order_id": "a", "affiliate_id": "ana", "reversal_id": "r", "sale_amount": 15_000}),
        recorded("c", 1),
        accrued("c", 1, 0, priced(1, 35_000, (1, 1), [{"step": 1, "amount": 1}], "3/50", dict.fromkeys(cap, 0))),
    ]


def found(history: History, path: Path | None = None) -> list[tuple[str, int]]:
    """(kind, position) of each finding, in order."""
    findings, facts = Findings(), PlanFacts()
    for position, (topic, e) in enumerate(history, 1):
        facts.event(position, topic, e)
    part = PlannedPrices(findings, facts)
    for position, (topic, e) in enumerate(history, 1):
        if "order_id" in e:
            part.event(position, topic, e)
    naive_chain.check([naive_chain.written(part.end(), path)], findings)
    return [(one.kind, one.position) for one in findings.in_order()]


def test_an_honest_history_passes(tmp_path: Path) -> None:
    """In memory, and over a file."""
    assert found(honest()) == found(honest(), tmp_path / "counted") == []


def change(position: int, *path: str | int, to: Any) -> Callable[[History], None]:
    def apply(history: History) -> None:
        place: Any = history[position - 1][1]
        for member in path[:-1]:
            place = place[member]
        place[path[-1]] = to

    return apply


RULE: tuple[str | int, ...] = ("pricing", "rules", 0)
LIES: dict[str, tuple[Callable[[History], None], tuple[str, int]]] = {
    "another amount": (change(5, "amount", to=1_401), ("price_differs", 5)),
    "another exact sum": (change(5, "pricing", "exact", to="1399"), ("price_differs", 5)),
    "another exact rule": (change(5, *RULE, "exact", to="1401"), ("price_differs", 5)),
    "a rule of other lines": (change(5, *RULE, "amount", to=20_000), ("price_differs", 5)),
    "a rule that is none": (change(5, *RULE, "rule", to="some"), ("price_differs", 5)),
    "another counter": (change(8, *RULE, "tier", "counter", to="affiliate/2026-10"), ("price_differs", 8)),
    "another step": (change(8, *RULE, "tier", "step", to=1), ("price_differs", 8)),
    "other parts": (change(8, *RULE, "tier", "parts", 0, "step", to=0), ("price_differs", 8)),
    "amounts of parts": (change(8, *RULE, "tier", "parts", 0, "amount", to=9_999), ("price_differs", 8)),
    "a counter that never stood there": (change(12, *RULE, "tier", "before", to=35_001), ("price_differs", 12)),
    "another value": (change(8, "pricing", "value", to=1), ("price_differs", 8)),
    "an override": (change(8, "pricing", "override", to="gold"), ("price_differs", 8)),
    "a rate that nobody recorded": (
        change(8, "pricing", "rate", to={"base": "EUR", "quote": "USD", "rate": "2"}),
        ("price_differs", 8),
    ),
    "not counted": (change(8, "pricing", "counted", to=[]), ("price_differs", 8)),
    "more given than fits": (change(8, "pricing", "caps", 0, "given", to=961), ("price_differs", 8)),
    "a bound": (change(8, "pricing", "bound", to="max_amount"), ("price_differs", 8)),
    "part of the credit": (change(8, "pricing", "weight", to=(1, 2)), ("price_differs", 8)),
    "part of the sale": (change(8, "credited_amount", to=1), ("price_differs", 8)),
    "another recruiter": (change(9, "affiliate_id", to="bo"), ("price_differs", 9)),
    "of another commission": (change(6, "pricing", "second_level_of", to=1_401), ("price_differs", 6)),
    "another second level": (change(6, "amount", to=141), ("price_differs", 6)),
    "evidence that is none": (change(8, "pricing", "exact", to="much"), ("event_unreadable", 8)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_where_it_stands(lie: str) -> None:
    """Each member of the evidence leads to the amount, or is led to by the sale."""
    history = honest()
    alter, expected = LIES[lie]
    alter(history)
    assert expected in found(history)


def test_counters_are_followed_across_sales() -> None:
    """A sale whose own evidence agrees with itself, but that counts from where the counter never stood."""
    history = honest()
    tier = history[11][1]["pricing"]["rules"][0]["tier"]
    tier["before"], tier["after"] = 34_000, 34_001
    assert found(history) == [("counter_differs", 12)]
    history = honest()
    history[7][1]["pricing"]["caps"][0].update(room=961, given=961)
    history[7][1]["amount"] = 961
    history[8][1]["pricing"]["second_level_of"] = 961
    assert found(history) == [("counter_differs", 8)]
    del history[5]  # what the second level used up is missing from then on
    assert ("counter_differs", 7) in found(history)


def test_a_plans_hash_is_of_its_canonical_form() -> None:
    """However its members are ordered; its lists are not."""
    assert (
        plan_hash({"b": [1, 2], "a": "ü"}) == plan_hash({"a": "ü", "b": [1, 2]}) != plan_hash({"a": "ü", "b": [2, 1]})
    )
