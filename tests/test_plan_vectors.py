"""The vectors of the field's systems (affiliate-systems.md, section 4) and of docs/plans.md, through the engine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from plan_world import Document, PlanShop, instant, plan, tiered, top_ups

from ledger.domain.affiliate import AffiliateGrouped, AffiliateRecruited
from ledger.domain.conversion import CommissionAccrued, Item
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.rates import RateRecorded
from ledger.domain.resolution import ResolveException

# --- tiers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "at_once", "in_three"), [("marginal", 2_800, [400, 1_000, 1_400]), ("whole", 4_000, [400, 1_200, 1_600])]
)
def test_500_dollars_at_4_6_8_percent_earn_28_or_40(method: str, at_once: int, in_three: list[int]) -> None:
    """As one sale; as several, marginal comes to the same, and whole pays each by where it leaves the counter."""
    shop = PlanShop(plan(tiered(method=method)))
    shop.sell(50_000)
    assert shop.earned("o1") == [at_once]
    shop = PlanShop(plan(tiered(method=method)))
    for amount in (10_000, 20_000, 20_000):
        shop.sell(amount)
    assert shop.earned("o1", "o2", "o3") == in_three
    tier = shop.pricing("o2").rules[0].tier
    assert (tier.counter, tier.before, tier.after) == ("affiliate/2026-11", 10_000, 30_000)
    assert (tier.step_before, tier.step) == (0, 1)


def test_a_retroactive_tier_pays_40_however_500_dollars_come_in() -> None:
    """What was paid by a lower step is topped up in the same commit, and taken back when reversals lose the tier."""
    shop = PlanShop(plan(tiered(retroactive=True, on_reversal="take_back")))
    assert [top_ups(shop.sell(amount)) for amount in (10_000, 20_000, 20_000)] == [
        [],
        [("o1", 200)],
        [("o1", 200), ("o2", 400)],
    ]
    assert shop.owed() == {"ada": 4_000}
    assert top_ups(shop.refund("o3", 15_000)) == [("o1", -200), ("o2", -400), ("o3", -100)]
    assert shop.owed() == {"ada": 35_000 * 600 // 10_000}


@pytest.mark.parametrize(("on_reversal", "left"), [("keep", 2_400), ("take_back", 1_800)])
def test_a_tier_that_is_lost_again_is_kept_unless_the_plan_says_otherwise(on_reversal: str, left: int) -> None:
    """300 and 150 pounds stand at 8 %; without the second one 300 are worth 6 %."""
    shop = PlanShop(plan(tiered(retroactive=True, on_reversal=on_reversal)))
    shop.sell(30_000)
    shop.sell(15_000)
    shop.refund("o2")
    assert shop.owed() == {"ada": left}


def test_a_reversal_that_came_before_its_sale_loses_the_tier_too() -> None:
    """Sold with 100 of 110 pounds taken back already: the tier that the whole sale would reach is not paid."""
    shop = PlanShop(plan(tiered(retroactive=True, on_reversal="take_back")))
    shop.sell(15_000)
    shop.refund("late", 10_000)
    shop.sell(11_000, order_id="late")
    assert shop.owed() == {"ada": 600 + 40}


def test_two_tables_of_one_counter_both_top_up_an_order() -> None:
    """Shoes and hats are priced by tables of their own; the month's revenue moves both."""
    hats = [{"from": 0, "rate_bps": 100}, {"from": 20_000, "rate_bps": 200}]
    rules = [
        {"id": "hats", "when": {"category": ["hats"]}, "pay": tiered(hats, retroactive=True)},
        {"id": "all", "pay": tiered(retroactive=True)},
    ]
    shop = PlanShop(plan(rules=rules))
    shop.sell(10_000, items=[Item("h", amount=4_000, category="hats"), Item("s", amount=6_000)])
    assert shop.earned("o1") == [40 + 240]
    shop.sell(10_000)
    assert shop.earned("o1") == [80 + 360]
    assert shop.view.conversion("o1").lead.steps == {"hats": 1, "all": 1}


def test_an_offers_tier_counts_a_shared_conversion_once() -> None:
    """By conversions: the third pays the higher step, though two affiliates share the first two."""
    steps = [{"from": 0, "amount": 100}, {"from": 3, "amount": 200}]
    pay = tiered(steps, by="conversions", level="offer", period="total")
    # ada's override has no table, yet the conversions that she has a part in count
    override = {"id": "ada", "affiliates": ["ada"], "rules": [{"id": "all", "pay": {"amount": 100}}]}
    shop = PlanShop(plan(pay, attribution={"model": "linear"}, overrides=[override]))
    shop.touch("ada", -2)
    shop.touch("bob", -1)
    for _ in range(2):
        shop.sell(1_000, None, customer_id="carl")
    shop.sell(1_000, "bob")
    assert shop.earned("o1", "o2", "o3") == [100, 100, 200]


def test_a_shared_conversion_is_taken_back_once() -> None:
    """Two sold, one of them reversed or rejected: the next one is the offer's second again."""
    steps = [{"from": 0, "amount": 100}, {"from": 2, "amount": 200}, {"from": 3, "amount": 300}]
    for take_back in (
        lambda shop: shop.refund("o1"),
        lambda shop: shop.view.when(DecideConversion(order_id="o1", decision="reject")),
    ):
        pay = tiered(steps, by="conversions", level="offer", period="total")
        shop = PlanShop(plan(pay, attribution={"model": "linear"}))
        shop.touch("ada", -2)
        shop.touch("bob", -1)
        for _ in range(2):
            shop.sell(1_000, None, customer_id="carl")
        take_back(shop)
        shop.sell(1_000, "cy")
        assert shop.earned("o1", "o2", "o3") == [100, 200, 200]


def test_a_period_is_the_programs_own() -> None:
    """Half past eleven at night UTC is December in Berlin already."""
    shop = PlanShop(plan(tiered()), zone="Europe/Berlin")
    shop.sell(30_000, day=0)
    shop.sell(1_000, occurred_at=datetime(2026, 11, 30, 22, 59, tzinfo=UTC))
    shop.sell(1_000, occurred_at=datetime(2026, 11, 30, 23, 30, tzinfo=UTC))
    assert shop.earned("o2", "o3") == [60, 40]
    assert shop.pricing("o3").rules[0].tier.counter == "affiliate/2026-12"


# --- rounding, refunds and later changes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "rate_bps", "cents"),
    [(3, 2_000, 1), (15, 1_000, 2), (1, 5_000, 1), (500, 290, 15), (7, 2_000, 1), (2, 2_000, 0)],
)
def test_half_a_cent_is_rounded_up_and_is_exact(amount: int, rate_bps: int, cents: int) -> None:
    """500 at 2.9 % are 14.5, which a float takes for less."""
    shop = PlanShop(plan({"rate_bps": rate_bps}))
    shop.sell(amount)
    assert shop.earned("o1") == [cents]


def test_half_of_197_is_99_and_the_other_half_98() -> None:
    """Rounded half up on what was taken back so far, so that both sum to the original."""
    shop = PlanShop(plan({"amount": 197}))
    shop.sell(1_000)
    shop.refund("o1", 500)
    assert shop.owed() == {"ada": 98}
    shop.refund("o1", 500)
    assert shop.owed() == {}


def test_the_first_half_is_refunded_at_its_own_rate_not_a_blended_one() -> None:
    """10 %, then 15 %: the first sale takes back 10 %, not 12.5 %."""
    shop = PlanShop(plan({"rate_bps": 1_000}))
    shop.publish(plan({"rate_bps": 1_500}), instant(1))
    shop.sell(10_000, day=0)
    shop.sell(10_000, day=1)
    assert shop.owed() == {"ada": 2_500}
    shop.refund("o1", 10_000, day=2)
    assert shop.owed() == {"ada": 1_500}


def test_later_terms_and_groups_do_not_move_what_was_priced() -> None:
    """The group at occurred_at decides, also of what is recorded late; a top-up is priced by the sale's own version."""
    gold = {"id": "gold", "groups": ["gold"], "rules": [{"id": "all", "pay": {"rate_bps": 2_000}}]}
    shop = PlanShop(plan(tiered(retroactive=True), overrides=[gold]))
    shop.sell(10_000)
    shop.view.given("affiliate:ada", AffiliateGrouped(affiliate_id="ada", group="gold", effective_from=instant(1)))
    shop.publish(plan({"rate_bps": 5_000}), instant(2))
    shop.sell(10_000, day=0)
    shop.sell(10_000, day=1)
    shop.sell(10_000, day=2)
    assert shop.earned("o1", "o2", "o3", "o4") == [600, 600, 2_000, 5_000]
    assert (shop.pricing("o1").override, shop.pricing("o3").override) == ("", "gold")


# --- which rule ------------------------------------------------------------------------------------------------

PICKY: list[Document] = [
    {"id": "sku", "when": {"sku": ["S1"]}, "pay": {"rate_bps": 100}},
    {"id": "product", "when": {"product": ["boot"]}, "pay": {"rate_bps": 200}},
    {"id": "category", "when": {"category": ["hats"]}, "pay": {"rate_bps": 300}},
    {"id": "country", "when": {"country": ["DE"]}, "pay": {"rate_bps": 400}},
    {"id": "channel", "when": {"channel": ["mail"]}, "pay": {"rate_bps": 500}},
    {"id": "coupon", "when": {"coupon": []}, "pay": {"rate_bps": 600}},
    {"id": "event", "when": {"event": ["lead"]}, "pay": {"amount": 7}},
    {"id": "returning", "when": {"customer": "returning"}, "pay": {"rate_bps": 800}},
]


@pytest.mark.parametrize(
    ("more", "rule", "earned"),
    [
        ({"items": [Item("S1", amount=10_000)]}, "sku", 100),
        ({"items": [Item("S2", amount=10_000, product="boot")]}, "product", 200),
        ({"items": [Item("S2", amount=10_000, category="hats")]}, "category", 300),
        ({"country": "DE"}, "country", 400),
        ({"channel": "mail"}, "channel", 500),
        ({"coupon": "TEN"}, "coupon", 600),
        ({"event_id": "lead"}, "event", 7),
        ({"customer_id": "known"}, "returning", 800),
    ],
)
def test_the_first_rule_that_fits_pays(more: dict[str, Any], rule: str, earned: int) -> None:
    """Each condition finds its sale; a sale that none fits is kept, unpaid, with the reason."""
    shop = PlanShop(plan(rules=PICKY))
    shop.sell(10_000, order_id="before", customer_id="known", day=-1)
    assert (shop.earned("before"), shop.pricing("before").unpaid) == ([0], "no_rule")
    shop.sell(10_000, **more)
    assert shop.earned("o1") == [earned]
    assert [one.rule for one in shop.pricing("o1").rules] == [rule]


def test_the_best_rule_pays_each_line() -> None:
    """Of equals the first one."""
    rules = [
        {"id": "flat", "pay": {"amount": 100}},
        {"id": "ten", "when": {"sku": ["S1"]}, "pay": {"rate_bps": 1_000}},
        {"id": "also", "when": {"sku": ["S1"]}, "pay": {"rate_bps": 1_000}},
    ]
    shop = PlanShop(plan(rules=rules, match="best"))
    shop.sell(5_500, items=[Item("S1", amount=5_000), Item("S2", amount=500)])
    assert [(one.rule, one.exact) for one in shop.pricing("o1").rules] == [("flat", "100"), ("ten", "500")]


def test_a_discount_is_shared_out_over_the_lines_and_shipping_is_a_line() -> None:
    """100 and 50 less 15: 90 and 45; and what items lack of the sale belongs to no product."""
    rules = [
        {"id": "hats", "when": {"category": ["hats"]}, "pay": {"rate_bps": 2_000}},
        {"id": "all", "pay": {"rate_bps": 1_000}},
    ]
    items = [Item("h", amount=10_000, category="hats"), Item("s", amount=5_000)]
    shop = PlanShop(plan(rules=rules))
    shop.sell(13_500, items=items)
    shop.sell(16_000, items=items)
    shop.sell(10_000, items=[Item("h", 3, 0, category="hats")])
    found = [[(one.rule, one.amount) for one in shop.pricing(order_id).rules] for order_id in ("o1", "o2", "o3")]
    assert found == [
        [("hats", 9_000), ("all", 4_500)],
        [("hats", 10_000), ("all", 6_000)],
        [("hats", 0), ("all", 10_000)],
    ]
    assert shop.earned("o1", "o2") == [1_800 + 450, 2_000 + 600]


def test_items_and_clicks_are_paid_by_the_piece() -> None:
    """Three pairs at 50; forty clicks at 2."""
    rules = [
        {"id": "clicks", "when": {"event": ["click"]}, "pay": {"amount_per_click": 2}},
        {"id": "pairs", "pay": {"amount_per_item": 50}},
    ]
    shop = PlanShop(plan(rules=rules))
    shop.sell(9_000, items=[Item("s", 2, 6_000), Item("t", 1, 3_000)])
    shop.sell(0, order_id="~clicks-1", event_id="click", click_count=40)
    assert shop.earned("o1", "~clicks-1") == [150, 80]


def test_minimum_and_maximum_hold_for_what_a_rule_pays() -> None:
    """Nothing stays nothing."""
    shop = PlanShop(plan(min_amount=50, max_amount=500))
    for amount in (0, 100, 3_000, 10_000):
        shop.sell(amount)
    assert shop.earned("o1", "o2", "o3", "o4") == [0, 50, 300, 500]
    assert [shop.pricing(order_id).bound for order_id in ("o1", "o2", "o4")] == ["", "min_amount", "max_amount"]


# --- recurring ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "first", "last_paid", "over"),
    [
        ("UTC", "2026-01-15T12:00:00", "2027-01-15T11:59:59", "2027-01-15T12:00:00"),
        ("UTC", "2024-02-29T00:00:00", "2025-02-27T23:59:59", "2025-02-28T00:00:00"),
        # the 31st of January in Auckland, where December's clock is an hour further on
        ("Pacific/Auckland", "2026-01-30T11:30:00", "2027-01-30T11:29:59", "2027-01-30T11:30:00"),
    ],
)
def test_twelve_months_end_on_the_same_day_or_the_months_last(zone: str, first: str, last_paid: str, over: str) -> None:
    """On the program's calendar; after that the sale is kept, unpaid, with the reason and the first sale."""
    shop = PlanShop(plan(recurring={"months": 12}), zone=zone)
    for at in (first, last_paid, over):
        shop.sell(1_000, customer_id="carl", occurred_at=datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert shop.earned("o1", "o2", "o3") == [100, 100, 0]
    assert (shop.pricing("o3").unpaid, shop.pricing("o3").first_order_id) == ("recurring", "o1")


def test_one_month_from_the_31st_ends_on_the_last_day_of_the_next() -> None:
    """31 January + 1 month is 28 February."""
    shop = PlanShop(plan(recurring={"months": 1}))
    for at in ((1, 31), (2, 27), (2, 28)):
        shop.sell(1_000, customer_id="carl", occurred_at=datetime(2026, *at, tzinfo=UTC))
    assert shop.earned("o1", "o2", "o3") == [100, 100, 0]


def test_the_first_sale_only() -> None:
    """A lead of nothing is no sale; who has no name is new each time."""
    shop = PlanShop(plan(recurring={"sales": "first"}))
    shop.sell(0, customer_id="carl", day=-1)
    for customer_id in ("carl", "carl", None, None):
        shop.sell(1_000, customer_id=customer_id)
    assert shop.earned("o2", "o3", "o4", "o5") == [100, 0, 100, 100]


# --- currencies and who is held ----------------------------------------------------------------------------------


def test_a_sale_in_another_currency_waits_for_its_rate_and_keeps_it() -> None:
    """An exception until a rate is recorded; then priced by it, exactly, and for good."""
    shop = PlanShop(plan(min_amount=1))
    assert [event.type for event in shop.sell(10_000, order_id="yen", currency="JPY")] == ["rate_missing"]  # type: ignore[attr-defined]
    assert shop.owed() == {}
    rate: dict[str, Any] = {"base": "JPY", "quote": "GBP", "source": "ECB"}
    shop.view.given("rate:JPY/GBP", RateRecorded(rate="0.00523", as_of=instant(-1), **rate))
    shop.view.when(ResolveException(exception_id="conversion:yen", action="retry"))
    # 10,000 yen are 52.30 pounds
    assert (shop.owed(), shop.pricing("yen").value) == ({"ada": 523}, 5_230)
    shop.view.given("rate:JPY/GBP", RateRecorded(rate="0.01", as_of=instant(-0.5), **rate))
    shop.refund("yen", 5_000)
    assert (shop.owed(), shop.pricing("yen").rate.rate) == ({"ada": 261}, "0.00523")
    assert [event.type for event in shop.sell(1, day=8, order_id="old", currency="JPY")] == ["rate_missing"]  # type: ignore[attr-defined]


def test_a_suspended_affiliate_earns_into_held() -> None:
    """And a closed one is an exception where the sale names it."""
    shop = PlanShop(plan())
    shop.suspend("ada")
    shop.close("bob")
    (accrued,) = [event for event in shop.sell(1_000) if isinstance(event, CommissionAccrued)]
    assert (accrued.held, accrued.amount) == (True, 100)
    assert [event.type for event in shop.sell(1_000, "bob")] == ["affiliate_closed"]  # type: ignore[attr-defined]


def test_whoever_recruited_earns_a_part_of_the_commission_or_the_sale() -> None:
    """Its own event at its own level, and taken back with the sale."""
    for second, earned in (({"rate_bps": 1_000}, 100), ({"rate_bps": 50, "of": "sale"}, 50)):
        shop = PlanShop(plan(second_level=second))
        shop.view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="bob"))
        shop.sell(10_000)
        assert shop.shares("o1") == {"ada": 1_000, "bob/2": earned}
        shop.refund("o1", 2_500)
        assert shop.owed() == {"ada": 750, "bob": earned - (earned + 2) // 4}
        shop.refund("o1")
        assert shop.owed() == {}


def test_a_top_up_goes_where_its_commission_is() -> None:
    """Approved: to payable; rejected: nowhere."""
    shop = PlanShop(plan(tiered(retroactive=True)))
    for _ in range(3):
        shop.sell(6_000)
    shop.view.when(DecideConversion(order_id="o1", decision="approve", reason="known"))
    shop.view.when(DecideConversion(order_id="o2", decision="reject"))
    shop.sell(8_000)
    assert top_ups([event for _, event, _ in shop.view.log]) == [("o1", 120), ("o3", 120)]
    assert shop.view.balances()["liability:ada:payable"] == -360
