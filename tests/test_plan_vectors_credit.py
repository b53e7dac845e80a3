"""The vectors of docs/plans.md, through the engine: who is credited, what caps let through, what goals earn."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from memory_view import seen
from plan_world import NOON, Document, PlanShop, instant, plan, tiered, top_ups

from ledger.domain.affiliate import AffiliateRecruited
from ledger.domain.conversion import AttributionDeferred
from ledger.domain.coupon import CouponAssigned
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.recording import AttributeWaiting

FIVE = ("ada", "bob", "cy", "dot", "eve")


def journey(document: Document, *touches: tuple[str, float]) -> PlanShop:
    """A shop to which carl came by some clicks."""
    shop = PlanShop(document)
    for who, day in touches:
        shop.touch(who, day)
    return shop


def credited(shop: PlanShop, amount: int = 100, **more: Any) -> dict[str, int]:
    """Whom a sale to carl is credited to, and what each earns, at 100 %."""
    shop.sell(amount, **{"who": None, "customer_id": "carl", **more})
    return shop.shares("o1")


def everything(**attribution: Any) -> Document:
    """A plan that pays all of the sale."""
    return plan({"rate_bps": 10_000}, attribution=attribution)


# --- who is credited ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribution", "whose", "expected"),
    [
        ({"model": "position_based", "weights": [25, 25, 50], "spread": "all"}, FIVE, [30, 5, 5, 5, 55]),
        ({"model": "position_based"}, FIVE, [40, 7, 7, 6, 40]),
        ({"model": "position_based"}, FIVE[:3], [40, 20, 40]),
        ({"model": "position_based"}, FIVE[:2], [50, 50]),
        ({"model": "position_based"}, FIVE[:1], [100]),
        ({"model": "position_based", "weights": [0, 100, 0]}, FIVE[:2], [50, 50]),
        ({"model": "linear"}, FIVE[:3], [34, 33, 33]),
        ({"model": "linear"}, ("ada", "bob", "ada"), [67, 33]),
        ({"model": "first_click"}, FIVE, [100]),
        # a half-life apart: 1 to 2 to 4
        ({"model": "time_decay", "half_life_days": 1}, FIVE[:3], [14, 29, 57]),
    ],
)
def test_a_hundred_is_split_exactly(attribution: Document, whose: tuple[str, ...], expected: list[int]) -> None:
    """By largest remainder, ties to the first; the sale's amount is split alike."""
    shop = journey(everything(**attribution), *((who, n - len(whose)) for n, who in enumerate(whose)))
    found = credited(shop)
    assert list(found) == list(dict.fromkeys(whose))[: len(found)]
    assert list(found.values()) == expected
    assert [one.credited_amount for one in shop.view.conversion("o1").commissions.values()] == expected


def test_last_click_and_last_non_direct() -> None:
    """The last click is the conversion's own, the last indirect one is before it; if all are direct, it is the last."""
    for channels, expected in ((("blog", "blog", "direct"), "bob"), (("direct", "direct", "direct"), "cy")):
        shop = PlanShop(everything(model="last_non_direct"))
        for n, (who, channel) in enumerate(zip(("ada", "bob", "cy"), channels, strict=True)):
            shop.touch(who, n - 3, channel)
        assert credited(shop) == {expected: 100}
    shop = PlanShop(everything(model="last_click"))
    shop.view.clicks["k1"] = seen("k1", "bob", at=instant(-1))
    assert credited(shop, click_id="k1", who="ada") == {"bob": 100}


def test_a_coupon_wins_over_the_clicks() -> None:
    """Without it the other model decides."""
    for coupon, expected in (("TEN", {"eve": 100}), (None, {"ada": 50, "bob": 50})):
        shop = journey(everything(model="coupon_wins", otherwise="linear"), ("ada", -2), ("bob", -1))
        shop.view.given("coupon:TEN", CouponAssigned(coupon="TEN", affiliate_id="eve", offer_id="shoes"))
        assert credited(shop, coupon=coupon) == expected


def test_the_first_referrer_keeps_the_customer_while_it_can_earn() -> None:
    """A later sale goes to the first one's affiliate, whoever was clicked; once that is closed, to who was."""
    shop = journey(everything(model="lifetime", otherwise="first_click"), ("ada", -2))
    assert credited(shop) == {"ada": 100}
    shop.touch("bob", 10)
    shop.sell(100, None, customer_id="carl", day=35)
    shop.close("ada")
    shop.sell(100, None, customer_id="carl", day=36)
    assert (shop.shares("o2"), shop.shares("o3")) == ({"ada": 100}, {"bob": 100})


def test_touches_of_whoever_cannot_earn_are_left_out_and_suspended_ones_are_held() -> None:
    """Closed: as if never clicked. Suspended: its share is held."""
    shop = journey(everything(model="linear"), ("ada", -3), ("bob", -2), ("cy", -1))
    shop.close("ada")
    shop.suspend("bob")
    assert credited(shop) == {"bob": 50, "cy": 50}
    assert [one.status for one in shop.view.conversion("o1").commissions.values()] == ["held", "pending"]


def test_impressions_count_only_within_their_own_window_and_without_clicks() -> None:
    """One day for views: the older one is none of the journey, a click makes both none."""
    for clicks, expected in ((0, {"bob": 100}), (1, {"cy": 100})):
        shop = PlanShop(everything(model="linear", view_window_days=1))
        shop.touch("ada", -2, kind="impression")
        shop.touch("bob", -1, kind="impression")
        for _ in range(clicks):
            shop.touch("cy", -3)
        assert credited(shop) == expected
    shop = PlanShop(everything(view_window_days=1))
    shop.touch("bob", -1, kind="impression")
    assert credited(shop) == {"bob": 100}


def test_a_window_holds_to_the_instant() -> None:
    """30 days: a click of that very instant counts, one before does not."""
    shop = journey(everything(model="linear"), ("ada", -30), ("bob", -30.00001), ("cy", 0), ("dot", 0.00001))
    assert credited(shop) == {"ada": 50, "cy": 50}


def test_a_click_that_is_not_seen_yet_is_waited_for_under_every_model() -> None:
    """Then priced by the plan, with the counters of when it came."""
    shop = journey(plan(tiered(), attribution={"model": "linear"}), ("ada", -2))
    shop.view.traffic_position = 1
    (_, deferred) = shop.sell(15_000, None, customer_id="carl", click_id="late", order_id="waits")
    assert isinstance(deferred, AttributionDeferred)
    shop.sell(10_000, "bob")
    shop.view.clicks["late"] = seen("late", "bob", at=instant(-1))
    shop.view.when(AttributeWaiting(order_id="waits", at=shop.view.now))
    # bob's half of 150 pounds lies behind the 100 that he has already
    assert shop.shares("waits") == {"ada": 300, "bob": 300}
    parts = shop.view.conversion("waits").commissions.values()
    assert [one.accrued.pricing.rules[0].tier.before for one in parts] == [0, 10_000]


def test_each_part_is_priced_by_its_own_override_and_rounded_once() -> None:
    """Half of 10 % and half of 20 % of 100.01: 5.0005 and 10.001 are 15.00 together."""
    override = {"id": "bob", "affiliates": ["bob"], "rules": [{"id": "all", "pay": {"rate_bps": 2_000}}]}
    document = plan(attribution={"model": "linear"}, overrides=[override])
    assert credited(journey(document, ("ada", -2), ("bob", -1)), 10_001) == {"ada": 500, "bob": 1_000}


# --- caps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "earned"),
    [
        ({"by": "commission", "limit": 250}, [100, 100, 0, 100]),
        ({"by": "commission", "limit": 250, "over": "clamp"}, [100, 100, 50, 100]),
        ({"by": "conversions", "limit": 2}, [100, 100, 0, 100]),
        ({"by": "conversions", "limit": 2, "period": "week"}, [100, 100, 0, 0]),
        ({"by": "conversions", "limit": 3, "period": "month"}, [100, 100, 100, 0]),
        ({"by": "conversions", "limit": 0, "period": "total"}, [0, 0, 0, 0]),
        ({"by": "conversions", "limit": 1, "level": "affiliate"}, [100, 0, 100, 100]),
    ],
)
def test_a_cap_lets_through_what_it_says(cap: Document, earned: list[int]) -> None:
    """Ada, ada and bob on Monday, ada on Tuesday; over it a sale is kept, unpaid, with the cap as its reason."""
    shop = PlanShop(plan(caps=[{"id": "c", "level": "offer", "period": "day", **cap}]))
    for who, day in (("ada", 0), ("ada", 0), ("bob", 0), ("ada", 1)):
        shop.sell(1_000, who, day=day)
    assert shop.earned("o1", "o2", "o3", "o4") == earned
    for order_id, amount in zip(("o1", "o2", "o3", "o4"), earned, strict=True):
        assert shop.pricing(order_id).unpaid == ("" if amount else "cap:c")


def test_clicks_over_a_cap_are_paid_as_far_as_they_fit() -> None:
    """20 of 20, 30 of 40, none of 5."""
    cap = {"id": "c", "level": "affiliate", "by": "clicks", "period": "day", "limit": 50, "over": "clamp"}
    shop = PlanShop(plan({"amount_per_click": 5}, caps=[cap]))
    for number, clicks in enumerate((20, 40, 5)):
        shop.sell(0, order_id=f"~clicks-{number}", event_id="click", click_count=clicks)
    assert shop.earned("~clicks-0", "~clicks-1", "~clicks-2") == [100, 150, 0]
    assert [shop.pricing(f"~clicks-{n}").paid_clicks for n in range(3)] == [20, 30, 0]


def test_a_conversion_counts_in_a_cap_by_conversions_though_its_first_share_earns_nothing() -> None:
    """Ada's override pays nothing, so bob's share asks; and a cap of nothing stops it."""
    override = {"id": "ada", "affiliates": ["ada"], "rules": [{"id": "all", "pay": {"amount": 0}}]}
    cap = {"id": "c", "level": "offer", "by": "conversions", "period": "total", "limit": 1}
    document = plan(attribution={"model": "linear"}, overrides=[override], caps=[cap])
    shop = journey(document, ("ada", -2), ("bob", -1))
    for _ in range(2):
        shop.sell(1_000, None, customer_id="carl")
    assert (shop.shares("o1"), shop.shares("o2")) == ({"ada": 0, "bob": 50}, {"ada": 0, "bob": 0})


@pytest.mark.parametrize(("frees", "earned"), [(True, 100), (False, 0)])
@pytest.mark.parametrize("by", ["conversions", "commission"])
def test_what_was_reversed_gives_room_back_only_if_the_cap_says_so(frees: bool, earned: int, by: str) -> None:
    """Reversed or rejected."""
    limit = 2 if by == "conversions" else 200
    cap = {"id": "c", "level": "affiliate", "by": by, "period": "total", "limit": limit, "reversals_free_room": frees}
    shop = PlanShop(plan(caps=[cap]))
    shop.sell(1_000)
    shop.sell(1_000)
    shop.refund("o1")
    shop.view.when(DecideConversion(order_id="o2", decision="reject"))
    shop.sell(1_000)
    shop.sell(1_000)
    assert shop.earned("o3", "o4") == [earned, earned]


def test_top_ups_and_recruiters_use_up_a_cap_by_commission() -> None:
    """600 in all: 400, 40 to the recruiter, and 160 of the 200 by which a tier tops it up."""
    cap = {"id": "c", "level": "offer", "by": "commission", "period": "total", "limit": 600, "over": "clamp"}
    shop = PlanShop(plan(tiered(retroactive=True), caps=[cap], second_level={"rate_bps": 1_000}))
    shop.view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="bob"))
    shop.sell(10_000)
    assert top_ups(shop.sell(10_000)) == [("o1", 0)]  # nothing is left for it, and that is told
    assert (shop.shares("o1"), shop.shares("o2")) == ({"ada": 400, "bob/2": 40}, {"ada": 160, "bob/2": 0})
    assert sum(shop.owed().values()) == 600


# --- goals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_reversal", "owed"), [("keep", [700, 600, 700]), ("take_back", [700, 100, 700])])
def test_a_goal_earns_its_bonus_once_and_keeps_it_or_not(on_reversal: str, owed: list[int]) -> None:
    """Two sales in the month reach it; one is taken back; a third reaches it again."""
    goal = {"id": "two", "by": "conversions", "period": "month", "target": 2, "bonus_amount": 500}
    shop = PlanShop(plan(goals=[goal | {"on_reversal": on_reversal}]))
    found = []
    for step in (lambda: shop.sell(1_000), lambda: shop.refund("o1"), lambda: shop.sell(1_000)):
        if not found:
            shop.sell(1_000)
        step()
        found.append(shop.owed()["ada"])
    assert found == owed


def test_a_goals_bonus_is_a_conversion_of_its_own() -> None:
    """It matures with the sale that reached it, and no counter counts it; another month has another one."""
    goal = {"id": "rich", "by": "revenue", "period": "month", "target": 1_000, "bonus_amount": 500}
    shop = PlanShop(plan(goals=[goal]))
    events = shop.sell(1_000) + shop.sell(1_000, day=40)
    bonuses = [event for event in events if getattr(event, "order_id", "").startswith("~goal-rich-")]
    assert [type(event).__name__ for event in bonuses] == ["ConversionRecorded", "CommissionAccrued"] * 2
    assert [event.matures_at for event in bonuses[1::2]] == [NOON + timedelta(days=30), NOON + timedelta(days=70)]  # type: ignore[attr-defined]
    assert shop.owed() == {"ada": 1_200}
    assert sorted(one.conversions for one in shop.counters().values()) == [1, 1]


def test_a_goal_by_commission_is_reached_by_a_top_up() -> None:
    """40 + 60 and the 20 that the first is topped up by: 120."""
    goal = {"id": "g", "by": "commission", "period": "month", "target": 1_200, "bonus_amount": 1}
    shop = PlanShop(plan(tiered(retroactive=True), goals=[goal]))
    shop.sell(10_000)
    shop.sell(10_000)
    assert shop.owed() == {"ada": 1_201}


def test_a_bonus_is_taken_back_whichever_version_lost_it() -> None:
    """Reached under the first version, lost by a sale of the second one, which has no goals."""
    goal = {
        "id": "g",
        "by": "conversions",
        "period": "month",
        "target": 2,
        "bonus_amount": 500,
        "on_reversal": "take_back",
    }
    shop = PlanShop(plan(goals=[goal]))
    shop.publish(plan(tiered()), instant(1))
    shop.sell(1_000)
    shop.sell(1_000)
    assert shop.owed() == {"ada": 700}
    shop.publish(plan(tiered(), goals=[goal | {"id": "other", "target": 9}]), instant(2))
    shop.sell(1_000, day=1)
    shop.refund("o3")
    shop.refund("o2")
    assert shop.owed() == {"ada": 100}
    shop = PlanShop(plan(goals=[goal]))
    shop.publish(plan(tiered()), instant(1))
    for day in (0, 1, 0):
        shop.sell(1_000, day=day)
    assert shop.owed() == {"ada": 740}
    for order_id, left in (("o1", 640), ("o2", 100)):
        shop.refund(order_id)
        assert shop.owed() == {"ada": left}
