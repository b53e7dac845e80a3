"""The auditor's own model of a whole program, on small histories whose figures can be worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.audit.naive_program import NaiveProgram

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
TIERS = {
    "by": "revenue",
    "period": "month",
    "level": "affiliate",
    "steps": [{"from": 0, "rate_bps": 400}, {"from": 20_000, "rate_bps": 600}, {"from": 40_000, "rate_bps": 800}],
}


class Shop:
    """A log made of facts alone."""

    def __init__(self, plan: dict[str, Any] | None = None, *affiliates: str) -> None:
        self.model = NaiveProgram(at_once=True)
        self.position = {"books": 0, "traffic": 0}
        self.on("ProgramOpened", program="shop", currency="EUR", zone="Europe/Berlin")
        for who in affiliates or ("ana", "bo"):
            self.on("AffiliateEnrolled", affiliate_id=who)
            self.on("AffiliateApproved", affiliate_id=who)
        if plan is not None:
            self.terms(plan=plan)

    def on(self, topic: str, log: str = "books", **state: Any) -> None:
        self.position[log] += 1
        self.model.feed(log, self.position[log], topic, state)

    def terms(self, effective_from: str = "2026-01-01T00:00:00+00:00", **said: Any) -> None:
        common = {"offer_id": "sale", "terms_version": 1, "hold_days": 30, "window_days": 30}
        self.on("TermsPublished", effective_from=effective_from, **common, **said)

    def sell(self, order_id: str, amount: int, day: float = 0, who: str | None = "ana", **more: Any) -> dict[Any, int]:
        occurred = (START + timedelta(days=day)).isoformat()
        fact = {"order_id": order_id, "offer_id": "sale", "amount": amount, "currency": "EUR", "occurred_at": occurred}
        named = {} if who is None else {"affiliate_id": who}
        self.on("ConversionRecorded", **{**fact, **named, **more})
        return self.model.commissions(order_id)

    def click(self, who: str, day: float, channel: str = "blog", topic: str = "ClickRecorded", **more: Any) -> None:
        state = {"click_id": f"{who}{day}", "affiliate_id": who, "offer_id": "sale", "channel": channel}
        at = (START + timedelta(days=day)).isoformat()
        self.on(topic, "traffic", occurred_at=at, customer_id="carl", **state, **more)

    def refund(self, order_id: str, amount: int) -> int:
        """What is left of the commission of the one who is credited."""
        self.on("ConversionReversed", order_id=order_id, reversal_id=f"r{self.position}", sale_amount=amount)
        return sum(self.model.outstanding(order_id).values())

    def earned(self, *order_ids: str) -> list[int]:
        return [sum(self.model.commissions(one).values()) for one in order_ids]


def plan(**more: Any) -> dict[str, Any]:
    return {"plan": 1, "currency": "EUR", "rules": [{"id": "all", "pay": {"rate_bps": 1_000}}], **more}


def tiered(**more: Any) -> dict[str, Any]:
    return plan(rules=[{"id": "all", "pay": {"tiers": {**TIERS, **more}}}])


def test_a_refund_is_priced_as_its_sale_was_not_blended() -> None:
    """10 % before a change, 15 % after it: refunding the first half takes back 10 % of it."""
    shop = Shop()
    shop.terms(rate_bps=1_000)
    shop.terms("2026-11-03T12:00:00+00:00", rate_bps=1_500)
    shop.sell("first", 10_000)
    shop.sell("second", 10_000, day=1)
    assert shop.earned("first", "second") == [1_000, 1_500]
    assert [shop.refund("first", 10_000), sum(shop.model.outstanding("second").values())] == [0, 1_500]


def test_half_of_197_leaves_98() -> None:
    """And the other half takes back just that."""
    shop = Shop()
    shop.terms(amount=197, currency="EUR")
    shop.sell("o", 1_000)
    assert [shop.refund("o", 500), shop.refund("o", 500)] == [98, 0]


def test_a_tier_reached_pays_from_there_on_or_tops_up_all_of_the_month() -> None:
    """Forward it pays the sale that reaches it; retroactive those before it, too, but none of another month."""
    for retroactive, first in ((False, 400), (True, 600)):
        shop = Shop(tiered(retroactive=retroactive))
        shop.sell("a", 10_000)
        shop.sell("next month", 10_000, day=29)
        shop.sell("b", 20_000)
        assert shop.earned("a", "b", "next month") == [first, 1_200, 400]


@pytest.mark.parametrize(("on_reversal", "left"), [("keep", 800), ("take_back", 600)])
def test_a_tier_that_reversals_lose_is_kept_or_taken_back(on_reversal: str, left: int) -> None:
    """30,000 and 10,000 reach 8 %; without 5,000 it is 6 %."""
    shop = Shop(tiered(retroactive=True, on_reversal=on_reversal))
    shop.sell("a", 30_000)
    shop.sell("b", 10_000)
    assert shop.earned("a", "b") == [2_400, 800]
    shop.refund("a", 5_000)
    assert shop.earned("b") == [left]


def test_a_retroactive_tier_with_take_back_is_the_same_in_any_order() -> None:
    """Whichever comes first."""
    found = []
    for order in ((5_000, 20_000, 16_000), (16_000, 5_000, 20_000)):
        shop = Shop(tiered(retroactive=True, on_reversal="take_back"))
        for amount in order:
            shop.sell(str(amount), amount)
        found.append(shop.earned("5000", "16000", "20000"))
    assert found[0] == found[1] == [400, 1_280, 1_600]


def test_an_offers_tier_counts_all_affiliates() -> None:
    """Bo's sale reaches it, and Ana's is topped up."""
    shop = Shop(tiered(level="offer", retroactive=True))
    shop.sell("a", 15_000)
    shop.sell("b", 15_000, who="bo")
    assert shop.earned("a", "b") == [900, 900]


@pytest.mark.parametrize(
    ("cap", "earned"),
    [
        ({"by": "commission", "limit": 1_500}, [1_000, 0, 1_000]),
        ({"by": "commission", "limit": 1_500, "over": "clamp"}, [1_000, 500, 1_000]),
        ({"by": "conversions", "limit": 1}, [1_000, 0, 1_000]),
        ({"by": "commission", "limit": 1_500, "period": "total"}, [1_000, 0, 0]),
    ],
)
def test_a_cap_holds_for_its_period(cap: dict[str, Any], earned: list[int]) -> None:
    """What does not fit earns nothing, or what fits; the next day begins anew."""
    shop = Shop(plan(caps=[{"id": "c", "level": "offer", "period": "day", **cap}]))
    shop.sell("a", 10_000)
    shop.sell("b", 10_000, who="bo")
    shop.sell("c", 10_000, day=1)
    assert shop.earned("a", "b", "c") == earned


@pytest.mark.parametrize(("frees", "earned"), [(True, 1_000), (False, 0)])
def test_what_is_reversed_gives_its_room_back_only_if_the_cap_says_so(frees: bool, earned: int) -> None:
    """By default it is used up."""
    cap = {"id": "c", "level": "affiliate", "by": "commission", "period": "total", "limit": 1_000}
    shop = Shop(plan(caps=[cap | {"reversals_free_room": frees}]))
    shop.sell("a", 10_000)
    shop.refund("a", 10_000)
    shop.sell("b", 10_000)
    assert shop.earned("b") == [earned]


def test_clicks_over_a_cap_are_paid_as_far_as_they_fit() -> None:
    """30 of 40."""
    cap = {"id": "c", "level": "affiliate", "by": "clicks", "period": "day", "limit": 50, "over": "clamp"}
    shop = Shop(plan(rules=[{"id": "cpc", "pay": {"amount_per_click": 5}}], caps=[cap]))
    shop.sell("~clicks-1", 0, click_count=20)
    shop.sell("~clicks-2", 0, click_count=40)
    assert shop.earned("~clicks-1", "~clicks-2") == [100, 150]


def test_credit_is_shared_and_each_part_is_priced_by_its_own_override() -> None:
    """Ana would earn 10 % of 100.01, Bo 20 %: half of each, rounded once."""
    override = {"id": "bo", "affiliates": ["bo"], "rules": [{"id": "all", "pay": {"rate_bps": 2_000}}]}
    shop = Shop(plan(attribution={"model": "linear"}, overrides=[override]))
    shop.click("ana", -2)
    shop.click("bo", -1)
    shop.click("bo", -1, topic="ImpressionRecorded")
    found = shop.sell("o", 10_001, customer_id="carl", who=None)
    assert found == {("ana", 1): 500, ("bo", 1): 1_000}
    assert [part.credited for part in shop.model.orders["o"].parts] == [5_001, 5_000]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"model": "last_click"}, "bo"),
        ({"model": "first_click"}, "ana"),
        ({"model": "last_non_direct", "direct_channels": ["shop"]}, "ana"),
        ({"model": "coupon_wins"}, "cat"),
        ({"model": "lifetime"}, "cat"),
        ({"model": "lifetime", "otherwise": "first_click"}, "ana"),
    ],
)
def test_a_model_credits_one(model: dict[str, Any], expected: str) -> None:
    """Ana's blog, then Bo's shop; Cat's coupon only where it wins, or where nobody clicked."""
    shop = Shop(plan(attribution=model), "ana", "bo", "cat")
    shop.on("CouponAssigned", coupon="TEN", affiliate_id="cat", offer_id="sale")
    shop.click("ana", -2)
    shop.click("bo", -1, channel="shop")
    coupon = {"coupon": "TEN"} if expected == "cat" else {}
    assert shop.sell("o", 1_000, customer_id="carl", who=None, **coupon) == {(expected, 1): 100}


def test_the_first_referrer_keeps_the_customer() -> None:
    """Until it is closed."""
    shop = Shop(plan(attribution={"model": "lifetime"}))
    shop.click("ana", -1)
    shop.sell("first", 1_000, customer_id="carl", who=None)
    shop.click("bo", 1)
    assert shop.sell("second", 1_000, day=2, customer_id="carl", who=None) == {("ana", 1): 100}
    shop.on("AffiliateClosed", affiliate_id="ana")
    assert shop.sell("third", 1_000, day=3, customer_id="carl", who=None) == {("bo", 1): 100}


def test_who_recruited_earns_a_part_and_uses_up_the_offers_cap() -> None:
    """10 % of 1,000, but no more than the cap leaves."""
    cap = {"id": "c", "level": "offer", "by": "commission", "period": "total", "limit": 1_060, "over": "clamp"}
    shop = Shop(plan(second_level={"of": "commission", "rate_bps": 1_000}))
    shop.on("AffiliateRecruited", affiliate_id="ana", recruiter_id="bo")
    assert shop.sell("o", 10_000) == {("ana", 1): 1_000, ("bo", 2): 100}
    shop.terms(plan=plan(second_level={"of": "sale", "rate_bps": 100}, caps=[cap]))
    assert shop.sell("p", 10_000) == {("ana", 1): 1_000, ("bo", 2): 60}


@pytest.mark.parametrize(("on_reversal", "left"), [("keep", 500), ("take_back", 0)])
def test_a_goal_pays_once_in_its_period(on_reversal: str, left: int) -> None:
    """The second sale reaches it; the third earns none; losing it may take it back."""
    goal = {"id": "two", "by": "conversions", "period": "month", "target": 2, "bonus_amount": 500}
    shop = Shop(plan(goals=[goal | {"on_reversal": on_reversal}]))
    shop.sell("a", 100)
    assert shop.model.bonuses() == {}
    shop.sell("b", 100)
    shop.sell("c", 100)
    assert list(shop.model.bonuses().values()) == [500]
    shop.on("ConversionRejected", order_id="a", affiliate_id="ana")
    shop.refund("b", 100)
    assert list(shop.model.bonuses().values()) == [left]


def test_a_customers_first_sale_is_the_one_that_happened_first() -> None:
    """Of those that are known; a sale without a customer is always a new customer's."""
    shop = Shop(plan(recurring={"sales": "first"}))
    shop.sell("b", 1_000, day=2, customer_id="carl")
    shop.sell("a", 1_000, day=1, customer_id="carl")
    shop.sell("c", 1_000, day=3, customer_id="carl")
    shop.sell("d", 1_000, day=3)
    assert shop.earned("a", "b", "c", "d") == [100, 100, 0, 100]


def test_a_rate_is_good_for_a_week() -> None:
    """In force at the sale's instant; without one nothing is priced."""
    shop = Shop(plan())
    shop.on("RateRecorded", base="JPY", quote="EUR", rate="0.0061", as_of=START.isoformat(), source="ECB")
    found = [shop.sell(str(day), 1_000, day=day, currency="JPY") for day in (-1, 0, 7, 7.1)]
    assert found == [{}, {("ana", 1): 61}, {("ana", 1): 61}, {}]
