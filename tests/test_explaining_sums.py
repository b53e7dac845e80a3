"""Explanations add up: over random plans, sales and reversals every figure follows from the others; a wrong one is
found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from explaining_world import ALL, explained, orders, planned, reverse, sell, tiered, touched
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_view import MemoryView
from msgspec.structs import replace
from support import T0

from ledger.domain.affiliate import AffiliateGrouped, AffiliateRecruited
from ledger.domain.conversion import Item
from ledger.domain.event import BEGINNING
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.plans import plan_check
from ledger.domain.rates import RecordRate
from ledger.explaining.adding_up import adds_up, mistakes
from ledger.explaining.data import ExplainedCommission, Explanation

OTHERS = ("cleo", "dora")
_rate = st.integers(0, 3000)
_amount = st.integers(0, 900)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A tier table of any kind."""
    by = draw(st.sampled_from(["conversions", "revenue", "commission"]))
    method = draw(st.sampled_from(["whole", "marginal"])) if by == "revenue" else "whole"
    member = "rate_bps" if method == "marginal" else draw(st.sampled_from(["rate_bps", "amount", "amount_per_item"]))
    far = {"conversions": 6, "revenue": 40_000, "commission": 3_000}[by]
    starts = [0, *sorted(draw(st.sets(st.integers(1, far), max_size=3)))]
    table = {
        "by": by, "period": draw(st.sampled_from(["day", "month", "total"])), "method": method,
        "level": draw(st.sampled_from(["affiliate", "offer"])),
        "steps": [{"from": start, member: draw(_rate if member == "rate_bps" else _amount)} for start in starts],
    }  # fmt: skip
    if method == "whole" and by != "commission" and draw(st.booleans()):
        table |= {"retroactive": True, "on_reversal": draw(st.sampled_from(["keep", "take_back"]))}
    return table


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to three rules: for boots, for new customers, for everything."""
    pay = st.one_of(
        _rate.map(lambda bps: {"rate_bps": bps}),
        _amount.map(lambda amount: {"amount": amount}),
        _amount.map(lambda amount: {"amount_per_item": amount}),
        tables().map(lambda table: {"tiers": table}),
        tables().map(lambda table: {"tiers": table}),
    )
    conditions = [{"category": ["boots"]}, {"customer": "new"}][: draw(st.integers(0, 2))]
    found = [{"id": f"rule-{n}", "pay": draw(pay), "when": when} for n, when in enumerate(conditions)]
    return [*found, {"id": "rest", "pay": draw(pay)}]


_caps = st.fixed_dictionaries(
    {
        "level": st.sampled_from(["affiliate", "offer"]),
        "by": st.sampled_from(["conversions", "commission"]),
        "period": st.sampled_from(["day", "total"]),
        "limit": st.integers(0, 3000),
        "reversals_free_room": st.booleans(),
    }
)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Everything that plans may say of money, attribution and limits."""
    plan: dict[str, Any] = {"rules": draw(rules()), "currency": draw(st.sampled_from(["GBP", "EUR"]))}
    plan["match"] = draw(st.sampled_from(["first", "best"]))
    plan["attribution"] = {"model": draw(st.sampled_from(["linear", "position_based", "time_decay", "last_click"]))}
    caps = draw(st.lists(_caps, max_size=2))
    plan["caps"] = [
        cap | {"id": f"cap-{n}", "over": "clamp" if cap["by"] == "commission" and n else "unpaid"}
        for n, cap in enumerate(caps)
    ]
    maybe: dict[str, Any] = {
        "min_amount": st.integers(0, 50),
        "max_amount": st.integers(60, 2000),
        "second_level": st.fixed_dictionaries({"rate_bps": _rate, "of": st.sampled_from(["commission", "sale"])}),
        "recurring": st.sampled_from([{"sales": "first"}, {"months": 1}]),
        "overrides": rules().map(lambda some: [{"id": "gold", "groups": ["gold"], "rules": some}]),
        "goals": st.just(
            [{"id": "g", "by": "revenue", "period": "total", "target": 9000, "bonus_amount": 77}
             | {"on_reversal": "take_back"}]
        ),
    }  # fmt: skip
    return plan | {name: draw(some) for name, some in maybe.items() if draw(st.booleans())}


_sales = st.lists(
    st.tuples(
        st.integers(0, 30_000),  # amount
        st.booleans(),  # with boots
        st.sampled_from(["c1", "c2", ""]),  # customer
        st.sampled_from([None, 0, 1, 999]),  # given back, where it is not None; 0: all of it
        st.sampled_from(["", "", "hold", "reject"]),
    ),
    min_size=1,
    max_size=6,
)


def played(plan: dict[str, Any], sales: list[tuple[int, bool, str, int | None, str]]) -> MemoryView:
    """A world in which that happened."""
    view = planned(plan.pop("rules"), OTHERS, **plan)
    view.when(RecordRate(base="GBP", quote="EUR", rate="1.1547", as_of=T0 - timedelta(days=1), source="ECB"))
    view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="bob"))
    view.given("affiliate:cleo", AffiliateGrouped(affiliate_id="cleo", group="gold", effective_from=BEGINNING))
    touched(view, "ada", "cleo", "ada", "dora")
    touched(view, "cleo", customer_id="c2")
    for number, (amount, boots, customer_id, back, decision) in enumerate(sales):
        items = [Item(sku="b", quantity=3, amount=amount // 3, category="boots")] if boots else []
        who = {"customer_id": customer_id} if customer_id else {}
        sell(view, f"o{number}", amount, items=items, **who)
        if decision and view.conversion(f"o{number}").commissions:
            view.when(DecideConversion(order_id=f"o{number}", decision=decision))
        if back is not None and back <= amount:
            reverse(view, f"o{number}", back or None)
    return view


@settings(max_examples=120, deadline=None)
@given(plans(), _sales)
def test_every_commission_of_every_plan_adds_up(
    plan: dict[str, Any], sales: list[tuple[int, bool, str, int | None, str]]
) -> None:
    """explained() sees to it, for staff and for each affiliate; and every sentence says what was earned."""
    assert plan_check.mistakes({"plan": 1, **plan}) == []
    view = played(plan, sales)
    for order_id in orders(view):
        for one in explained(view, order_id).commissions:
            assert f"{one.accrued // 100}.{one.accrued % 100:02} {one.currency}" in one.sentence
            assert all(said[:1].isupper() or said[:1].isdigit() for said in one.sentence.split(". "))


def _first(change: Callable[[ExplainedCommission], ExplainedCommission]) -> Callable[[Explanation], Explanation]:
    return lambda found: replace(found, commissions=[change(found.commissions[0]), *found.commissions[1:]])


def _rounded_otherwise(one: ExplainedCommission) -> ExplainedCommission:
    assert one.rounding is not None
    return replace(one, accrued=one.accrued + 1, rounding=replace(one.rounding, rounded=one.rounding.rounded + 1))


def _of_another_share(one: ExplainedCommission) -> ExplainedCommission:
    assert one.credit is not None
    return replace(one, credit=replace(one.credit, share="1/4"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda one: replace(one, accrued=one.accrued + 1),
        lambda one: replace(one, outstanding=one.outstanding - 1),
        lambda one: replace(one, exact="1"),
        lambda one: replace(one, rules=[replace(one.rules[0], exact="1")]),
        lambda one: replace(one, rules=[replace(one.rules[0], rate_bps=1)]),
        lambda one: replace(one, caps=[replace(one.caps[0], given=1)]),
        lambda one: replace(one, changes=[replace(one.changes[0], amount=-1), *one.changes[1:]]),
        _rounded_otherwise,
        _of_another_share,
    ],
)
def test_a_figure_that_does_not_follow_is_found(wrong: Callable[[ExplainedCommission], ExplainedCommission]) -> None:
    """Each is told with whose it is."""
    cap = {"id": "c", "level": "offer", "by": "commission", "period": "day", "limit": 100_000}
    view = planned(ALL, OTHERS, attribution={"model": "linear"}, caps=[cap])
    touched(view, "ada", "cleo", "dora")
    sell(view, "A", 10_001, customer_id="c1")
    reverse(view, "A", 5000)
    found = explained(view, "A")
    assert adds_up(found)
    told = mistakes(_first(wrong)(found))
    assert told
    assert all(one.startswith("ada/1: ") or one.startswith("the sum ") for one in told)


def test_a_step_that_pays_without_being_reached_is_found() -> None:
    """Also one that a top-up names."""
    view = planned(tiered(retroactive=True))
    sell(view, "A", 15_000)
    sell(view, "B", 10_000)
    found = explained(view, "A")
    ada = found.commissions[0]
    assert ada.rules[0].tier is not None
    table = replace(ada.rules[0], tier=replace(ada.rules[0].tier, step=2))
    assert "the step reached" in str(mistakes(replace(found, commissions=[replace(ada, rules=[table])])))
    topped_up = replace(ada.changes[0], step=2)
    assert "what rule 'all' earns then" in str(
        mistakes(replace(found, commissions=[replace(ada, changes=[topped_up])]))
    )
