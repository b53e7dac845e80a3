"""The auditor's own model of plans and attribution against published figures, each on one sale by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.audit import naive_attribution as attribution
from ledger.audit import naive_counters as counters
from ledger.audit import naive_plans as plans
from ledger.audit.naive_plans import Asked, Priced

NOON = "2026-11-22T12:00:00+00:00"
WHEN = datetime.fromisoformat(NOON)


def sale(amount: int, **more: Any) -> dict[str, Any]:
    return {
        "order_id": "o",
        "offer_id": "sale",
        "amount": amount,
        "currency": "EUR",
        "occurred_at": NOON,
        **more,
    }


def percent(bps: int, **more: Any) -> dict[str, Any]:
    return {"plan": 1, "rules": [{"id": "all", "pay": {"rate_bps": bps}}], **more}


def tiered(**more: Any) -> dict[str, Any]:
    """4 % from 0, 6 % from 200.00, 8 % from 400.00."""
    steps = [{"from": 0, "rate_bps": 400}, {"from": 20_000, "rate_bps": 600}, {"from": 40_000, "rate_bps": 800}]
    tiers = {"by": "revenue", "period": "month", "level": "affiliate", "steps": steps, **more}
    return {"plan": 1, "currency": "EUR", "rules": [{"id": "all", "pay": {"tiers": tiers}}]}


def priced(plan: dict[str, Any], fact: dict[str, Any], before: int = 0, **asked: Any) -> Priced:
    return plans.price(plan, fact, Asked(stands=lambda _: (before, before + fact["amount"]), **asked))


@pytest.mark.parametrize(
    ("amount", "bps", "commission"),
    [(3, 2_000, 1), (15, 1_000, 2), (1, 5_000, 1), (500, 290, 15), (7, 2_000, 1), (2, 2_000, 0)],
)
def test_a_percentage_is_rounded_half_up(amount: int, bps: int, commission: int) -> None:
    """The rounding table that others publish."""
    assert priced(percent(bps), sale(amount)).amount == commission


def test_500_dollars_at_4_6_and_8_percent_earn_28_marginal_and_40_whole() -> None:
    """The published figure, and where the parts of the sale lie."""
    marginal = priced(tiered(method="marginal"), sale(50_000))
    assert marginal.amount == 2_800
    assert marginal.rules[0].steps == ((0, 20_000), (1, 20_000), (2, 10_000))
    assert priced(tiered(method="whole"), sale(50_000)).amount == 4_000
    assert priced(tiered(), sale(50_000)).amount == 4_000, "whole is the default"


def test_a_tier_is_reached_at_its_very_start() -> None:
    """One cent below is the tier below."""
    assert priced(tiered(), sale(19_999)).exact == Fraction(19_999 * 4, 100)
    assert priced(tiered(), sale(20_000)).amount == 1_200
    assert priced(tiered(), sale(1), before=39_999).exact == Fraction(8, 100)
    assert priced(tiered(method="marginal"), sale(2), before=19_999).exact == Fraction(10, 100)


def test_a_split_of_25_25_50_over_five_gives_30_5_5_5_55() -> None:
    """The published split: the middle weight is shared by all, so the ends have their part of it, too."""
    model = {"model": "position_based", "weights": [25, 25, 50], "spread": "all"}
    assert shares(model, 5, 10_000) == [3_000, 500, 500, 500, 5_500]


@pytest.mark.parametrize(
    ("touches", "expected"),
    [(1, [100]), (2, [50, 50]), (3, [40, 20, 40]), (4, [40, 10, 10, 40]), (6, [40, 5, 5, 5, 5, 40])],
)
def test_40_20_40_of_any_number_of_touches(touches: int, expected: list[int]) -> None:
    """One has all, two share all, more share the middle."""
    assert shares({"model": "position_based"}, touches, 100) == expected


def test_two_touches_share_by_the_outer_weights() -> None:
    """Without a touch between, the middle weight is nobody's."""
    assert shares({"model": "position_based", "weights": [10, 60, 30]}, 2, 100) == [25, 75]


def test_what_does_not_divide_goes_to_whoever_lost_most() -> None:
    """A cent is neither lost nor made, and of equals the first gets it."""
    assert shares({"model": "linear"}, 3, 1_000) == [334, 333, 333]
    assert plans.largest_remainder(10, [Fraction(1), Fraction(1), Fraction(4)]) == [2, 2, 6]
    assert plans.largest_remainder(7, [Fraction(0), Fraction(0)]) == [0, 0]


def test_a_half_life_halves() -> None:
    """By time decay, in whole units of 10⁻¹²."""
    week = timedelta(days=7)
    assert [attribution.decayed(n * week, 7) for n in (0, 1, 2)] == [10**12, 5 * 10**11, 25 * 10**10]
    assert attribution.decayed(week / 2, 7) == 707_106_781_186
    assert attribution.decayed(45 * week, 7) == 0


def test_the_last_touch_that_was_not_direct() -> None:
    """And the last one, where all were."""
    model = {"model": "last_non_direct"}
    journey = touches(3, ["email", None, "direct"])
    assert attribution.weights(model, journey, WHEN) == [0, 1, 0]
    assert attribution.weights(model | {"direct_channels": ["direct", "email"]}, journey, WHEN) == [0, 1, 0]
    assert attribution.weights(model, touches(2, ["direct", "direct"]), WHEN) == [0, 1]


def test_credit_is_added_up_by_affiliate() -> None:
    """Who has two of three touches has two thirds; the order is that of first touches."""
    journey = [{"affiliate_id": who} for who in ("bo", "al", "bo")]
    assert attribution.credits(journey, [1, 1, 1]) == {"bo": Fraction(2, 3), "al": Fraction(1, 3)}
    assert list(attribution.credits(journey, [1, 1, 1])) == ["bo", "al"]


def test_a_journey_is_what_lies_in_the_window() -> None:
    """Duplicates and what is too old are no part of it, the sale's own click is; impressions only without clicks."""
    days = [touch(f"c{n}", WHEN - timedelta(days=n)) for n in (31, 30, 2, 0)]
    twice = touch("c1", WHEN - timedelta(days=1), duplicate=True)
    seen = touch("v1", WHEN - timedelta(days=1), kind="impression")
    own = touch("own", WHEN - timedelta(days=3))
    found = attribution.journey([*days, twice, seen], WHEN, 30, 7, own)
    assert [one["click_id"] for one in found] == ["c30", "own", "c2", "c0"]
    assert attribution.journey([seen], WHEN, 30) == []
    assert attribution.journey([seen], WHEN, 30, 1) == [seen]
    assert len(attribution.journey([touch(f"n{n}", WHEN) for n in range(150)], WHEN, 1)) == 100


@pytest.mark.parametrize(
    ("instant", "zone", "day", "week", "month", "quarter"),
    [
        ("2026-10-24T22:00:00+00:00", "Europe/Berlin", "2026-10-25", "2026-W43", "2026-10", "2026-Q4"),
        # that night has 25 hours
        ("2026-10-25T22:59:59+00:00", "Europe/Berlin", "2026-10-25", "2026-W43", "2026-10", "2026-Q4"),
        ("2026-10-25T23:00:00+00:00", "Europe/Berlin", "2026-10-26", "2026-W44", "2026-10", "2026-Q4"),
        ("2026-03-31T21:59:59+00:00", "Europe/Berlin", "2026-03-31", "2026-W14", "2026-03", "2026-Q1"),
        ("2026-03-31T22:00:00+00:00", "Europe/Berlin", "2026-04-01", "2026-W14", "2026-04", "2026-Q2"),
        ("2027-01-01T04:59:59+00:00", "America/New_York", "2026-12-31", "2026-W53", "2026-12", "2026-Q4"),
        ("2027-01-01T05:00:00+00:00", "America/New_York", "2027-01-01", "2026-W53", "2027-01", "2027-Q1"),
    ],
)
def test_a_period_is_of_the_programs_calendar(
    instant: str, zone: str, day: str, week: str, month: str, quarter: str
) -> None:
    """Its days begin at midnight there, whether the clock was changed or not; its weeks on Monday."""
    found = [
        counters.label("offer", period, datetime.fromisoformat(instant), ZoneInfo(zone))
        for period in ("day", "week", "month", "quarter", "year", "total")
    ]
    year = month[:4]
    assert found == [f"offer/{one}" for one in (day, week, month, quarter, year, "total")]


def test_a_sale_counts_in_what_its_plan_uses() -> None:
    """Tiers of every rule, caps and goals."""
    plan = tiered() | {
        "caps": [{"id": "c", "level": "offer", "by": "clicks", "period": "day", "limit": 1}],
        "goals": [{"id": "g", "by": "revenue", "period": "total", "target": 1}],
    }
    used = counters.labels(plan, WHEN, ZoneInfo("UTC"))
    assert used == ["affiliate/2026-11", "affiliate/total", "offer/2026-11-22"]
    assert counters.counter_of("sale", "ana", used[2], "EUR").affiliate_id == ""


def test_a_discount_is_taken_off_all_lines() -> None:
    """By largest remainder; and what the lines lack is a line of its own that is no item."""
    items = [{"sku": "a", "amount": 1_000, "quantity": 2}, {"sku": "b", "amount": 2_000}, {"sku": "c", "amount": 333}]
    less = plans.lines_of(sale(3_000, items=items))
    assert [line.amount for line in less] == [900, 1_800, 300]
    more = plans.lines_of(sale(3_999, items=items))
    assert [(line.amount, line.quantity, line.sku) for line in more][-1] == (666, 0, None)
    assert plans.lines_of(sale(9)) == [plans.Line(9, 0)]


def test_each_line_earns_by_its_rule_and_the_sum_is_rounded_once() -> None:
    """First match takes the first that fits, best match the one that pays most."""
    rules = [
        {"id": "shoes", "when": {"category": ["shoes"]}, "pay": {"rate_bps": 500}},
        {"id": "item", "when": {"sku": ["a", "b"]}, "pay": {"amount_per_item": 7}},
        {"id": "all", "pay": {"rate_bps": 1_000}},
    ]
    items = [{"sku": "a", "amount": 15, "quantity": 3, "category": "shoes"}, {"sku": "b", "amount": 15}]
    fact = sale(35, items=items)
    first = priced({"currency": "EUR", "rules": rules}, fact)
    assert [(one.rule, one.amount, one.exact) for one in first.rules] == [
        ("shoes", 15, Fraction(3, 4)), ("item", 15, Fraction(7)), ("all", 5, Fraction(1, 2)),
    ]  # fmt: skip
    assert (first.exact, first.amount) == (Fraction(33, 4), 8)
    best = priced({"currency": "EUR", "match": "best", "rules": rules}, fact)
    assert [(one.rule, one.exact) for one in best.rules] == [("item", Fraction(28)), ("all", Fraction(1, 2))]


def test_yen_are_paid_in_euros_by_the_exact_rate() -> None:
    """A yen is no hundredth: 1,000 yen at 0.0061 are 6.10, and 10 % of them 61 cents."""
    factor = plans.rate_factor("JPY", "EUR", "0.0061")
    assert factor == Fraction(61, 100)
    yen = sale(1_005) | {"currency": "JPY"}
    found = plans.price(percent(1_000, currency="EUR"), yen, Asked(factor=factor))
    assert (found.exact, found.amount) == (Fraction(61_305, 1_000), 61)
    assert plans.rate_factor("KWD", "USD", "3.25") == Fraction(325, 1_000)


def test_minimum_maximum_and_nothing() -> None:
    """The minimum holds only where something is earned."""
    plan = percent(1_000, currency="EUR", min_amount=50, max_amount=70)
    assert [priced(plan, sale(amount)).amount for amount in (0, 1, 600, 9_999)] == [0, 50, 60, 70]
    assert [priced(plan, sale(amount)).bound for amount in (0, 1, 600, 9_999)] == ["", "min_amount", "", "max_amount"]
    only = {"rules": [{"id": "x", "when": {"country": ["DE"]}, "pay": {"rate_bps": 1}}]}
    assert priced(only, sale(100)).unpaid == "no_rule"
    assert priced(only, sale(100, country="DE")).unpaid == ""


@pytest.mark.parametrize(
    ("when", "sold", "asked", "fits"),
    [
        ({"coupon": []}, {"coupon": "TEN"}, {}, True),
        ({"coupon": []}, {}, {}, False),
        ({"coupon": ["TEN"]}, {"coupon": "TEN"}, {}, True),
        ({"coupon": ["TEN"]}, {"coupon": "X"}, {}, False),
        ({"channel": ["mail"]}, {}, {"channel": "mail"}, True),
        ({"channel": ["mail"]}, {"channel": "ads"}, {"channel": "mail"}, False),
        ({"customer": "returning"}, {}, {"customer": "returning"}, True),
        ({"customer": "new"}, {}, {"customer": "returning"}, False),
        ({"event": ["lead"], "currency": ["EUR"]}, {"event_id": "lead"}, {}, True),
        ({"event": ["lead"], "currency": ["USD"]}, {"event_id": "lead"}, {}, False),
        ({"event": ["lead"]}, {}, {}, False),
    ],
)
def test_conditions_of_a_sale(when: dict[str, Any], sold: dict[str, Any], asked: dict[str, Any], fits: bool) -> None:
    """An empty list of coupons is any; a channel is the sale's own before that of its click; all must hold."""
    plan = {"rules": [{"id": "x", "when": when, "pay": {"rate_bps": 1}}]}
    assert (priced(plan, sale(1, **sold), **asked).unpaid == "") is fits


def test_an_override_names_the_affiliate_before_its_group() -> None:
    """What it does not give is as in the plan."""
    plan = percent(
        500,
        currency="EUR",
        min_amount=10,
        overrides=[
            {"id": "gold", "groups": ["gold"], "rules": [{"id": "all", "pay": {"rate_bps": 1_000}}]},
            {"id": "ana", "affiliates": ["ana"], "min_amount": 20},
        ],
    )

    def earns(who: str, group: str) -> tuple[int, str]:
        found = plans.price(plan, sale(100), Asked(), who, group)
        return found.amount, found.override

    assert (earns("bo", ""), earns("bo", "gold"), earns("ana", "gold")) == ((10, ""), (10, "gold"), (20, "ana"))


def test_recurring_sales_end_with_the_months() -> None:
    """A month after the 31st of January is over with the last of February, by the program's clock."""
    first = datetime(2027, 1, 31, 12, tzinfo=UTC)
    plan = percent(1_000, recurring={"months": 1})

    def unpaid(occurred_at: str) -> str:
        fact = sale(100) | {"occurred_at": occurred_at}
        return priced(plan, fact, customer="returning", first_sale_at=first).unpaid

    assert unpaid("2027-02-28T11:59:59+00:00") == ""
    assert unpaid("2027-02-28T12:00:00+00:00") == "recurring"
    once = percent(1_000, recurring={"sales": "first"})
    assert [priced(once, sale(100), customer=one).unpaid for one in ("new", "returning")] == ["", "recurring"]


def test_clicks_are_paid_by_the_click() -> None:
    """A bundle's count times the price."""
    plan = {"currency": "EUR", "rules": [{"id": "cpc", "pay": {"amount_per_click": 12}}]}
    assert priced(plan, sale(0, click_count=31)).amount == 372


def touch(click_id: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"click_id": click_id, "affiliate_id": "ana", "occurred_at": at.isoformat(), "position": 1, **more}


def touches(count: int, channels: list[str | None]) -> list[dict[str, Any]]:
    return [touch(str(n), WHEN, channel=channels[n]) | {"affiliate_id": f"a{n}"} for n in range(count)]


def shares(model: dict[str, Any], count: int, total: int) -> list[int]:
    journey = touches(count, [None] * count)
    found = attribution.credits(journey, attribution.weights(model, journey, WHEN))
    return plans.largest_remainder(total, list(found.values()))
