"""Explanations: each feature of a plan as data and in words, and what an affiliate may read of a shared sale."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction as F
from typing import Any

import msgspec
import pytest
from explaining_world import STEPS, explained, only, orders, planned, reverse, sell, tiered, touched
from memory_view import shop
from support import T0

from ledger.domain.affiliate import AffiliateEnrolled, AffiliateGrouped, AffiliateRecruited
from ledger.domain.conversion import CommissionRepriced, Item
from ledger.domain.event import BEGINNING
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.rates import RecordRate
from ledger.domain.recording import RecordConversion
from ledger.explaining.explain import explain, for_affiliate
from ledger.explaining.phrases import exact_money, share_text

# --- what a rule paid --------------------------------------------------------------------------------------


def test_simple_terms_say_the_percentage_and_what_rounding_made_of_it() -> None:
    """Without a plan the terms themselves are the one rule."""
    view = shop()
    sell(view, "A", 1975)
    one = only(view, "A")
    assert one.sentence == (
        "Affiliate ada is credited with the sale of 19.75 GBP as the affiliate that the sale names and earns 1.98 GBP"
        " by version 1 of the terms of offer shoes. The terms pay 10 % of 19.75 GBP: 1.975 GBP. Rounded half up, that"
        " is 1.98 GBP. It matures on 2026-01-31 00:00 UTC."
    )
    assert one.rounding is not None
    assert (one.rounding.exact, one.rounding.rounded, one.rounding.added) == ("395/2", 198, "1/2")


def test_marginal_tiers_say_where_the_counter_stood_and_what_each_step_paid() -> None:
    """Of 500.07 behind 180.01 each part is paid by its own step."""
    view = planned(tiered(method="marginal"))
    sell(view, "A", 18001)
    sell(view, "B", 50007)
    one = only(view, "B")
    tier = one.rules[0].tier
    assert tier is not None
    assert (tier.counter, tier.before, tier.after) == ("affiliate/2026-01", 18001, 68008)
    assert (tier.step_before, tier.step, len(tier.steps)) == (0, 2, 3)
    assert [(part.counted, part.rate_bps) for part in tier.parts] == [(1999, 400), (20000, 600), (28008, 800)]
    assert (
        "Rule all pays marginal tiers on its own revenue in 2026-01, which stood at 180.01 GBP before and 680.08 GBP"
        " with this sale: 19.99 GBP at 4 %, 200.00 GBP at 6 % and 280.08 GBP at 8 %, which is 35.206 GBP. Rounded half"
        " up, that is 35.21 GBP."
    ) in one.sentence
    assert one.terms is not None
    assert (one.terms.terms_version, one.terms.plan_hash) == (2, view.offer("shoes").terms[-1].plan_hash)


_ITEMS_BY_TIER = {"by": "conversions", "period": "total", "level": "offer"} | {
    "steps": [{"from": 0, "amount_per_item": 50}, {"from": 1, "amount_per_item": 70}]
}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"pay": {"amount": 500}}, "Rule x pays a flat 5.00 GBP."),
        ({"pay": {"amount_per_item": 150}}, "Rule x pays 1.50 GBP an item for 3 items: 4.50 GBP."),
        (
            {"pay": {"rate_bps": 1000}, "when": {"category": ["boots"]}},
            "Rule x (where the category is boots) pays 10 % of 30.00 GBP: 3.00 GBP.",
        ),
        (
            {"pay": {"tiers": _ITEMS_BY_TIER}},
            "Rule x pays tiers on the offer's conversions since the beginning, which stood at 0 before and 1 with this"
            " sale: tier 2 (from 1) pays 0.70 GBP an item for 3, 2.10 GBP.",
        ),
        (
            {"pay": {"tiers": {"by": "commission", "period": "day", "steps": STEPS}}},
            "Rule x pays tiers on its own commission in 2026-01-01, which stood at 0.00 GBP before this sale: tier 1"
            " (from 0.00 GBP) pays 4 % of 35.00 GBP, 1.40 GBP.",
        ),
    ],
)
def test_each_kind_of_pay_is_said_in_words(rule: dict[str, Any], said: str) -> None:
    """Flat, by item, by what a line is, by a table that pays by item, and by a table of commission."""
    view = planned([{"id": "x", **rule}])
    sell(view, "A", 3500, items=[Item(sku="b", quantity=3, amount=3000, category="boots")])
    assert said in only(view, "A").sentence


def test_several_rules_a_minimum_and_an_override_are_each_named() -> None:
    """What the rules come to is summed up before the minimum that holds instead."""
    rules = [{"id": "boots", "when": {"sku": ["b"]}, "pay": {"rate_bps": 100}}, {"id": "rest", "pay": {"rate_bps": 50}}]
    gold = {"id": "best", "groups": ["gold"], "rules": rules, "min_amount": 60}
    view = planned(overrides=[gold])
    view.given("affiliate:ada", AffiliateGrouped(affiliate_id="ada", group="gold", effective_from=BEGINNING))
    sell(view, "A", 5000, items=[Item(sku="b", amount=1000)])
    one = only(view, "A")
    assert (one.bound, one.exact, [rule.exact for rule in one.rules]) == ("min_amount", "60", ["10", "20"])
    assert one.terms is not None
    assert (one.terms.override, one.terms.min_amount) == ("best", 60)
    assert "by version 2 of the terms of offer shoes (override best)." in one.sentence
    assert "Together that is 0.30 GBP. That is less than the minimum, so it is 0.60 GBP." in one.sentence


def test_an_exchange_rate_is_named_with_source_and_instant() -> None:
    """The rate that was frozen, and the commission in the plan's currency."""
    view = planned(currency="EUR")
    rate = {"base": "GBP", "quote": "EUR", "rate": "1.1547", "as_of": T0 - timedelta(hours=9), "source": "ECB"}
    view.when(RecordRate(**rate))
    sell(view, "A", 999)
    one = only(view, "A")
    assert one.rate is not None
    assert (one.rate.rate, one.currency, one.accrued) == ("1.1547", "EUR", 144)
    assert "1 GBP is 1.1547 EUR, as ECB said for 2025-12-31 15:00 UTC, the rate in force at the sale." in one.sentence
    assert "Rule all pays 12.5 % of 9.99 GBP: 1.44193163 EUR." not in one.sentence
    assert "Rule all pays 12.5 % of 9.99 GBP: about 1.4419 EUR. Rounded half up, that is 1.44 EUR." in one.sentence


# --- what was not paid -------------------------------------------------------------------------------------


def test_a_cap_says_its_room_and_what_it_left() -> None:
    """What fits, what is cut off, and what is not paid at all."""
    cap = {"id": "top", "level": "affiliate", "by": "commission", "period": "day", "limit": 2000}
    view = planned(caps=[cap | {"over": "clamp"}])
    for order_id in "ABC":
        sell(view, order_id, 10000)
    first, second, third = (only(view, order_id) for order_id in "ABC")
    assert "Cap top for the affiliate had room for 20.00 GBP in 2026-01-01: it fits." in first.sentence
    assert "had room for 7.50 GBP in 2026-01-01 of the 12.50 GBP asked for, so it is cut off there." in second.sentence
    assert (second.accrued, second.caps[0].limit, second.caps[0].room, second.caps[0].given) == (750, 2000, 750, 750)
    assert third.unpaid == "cap:top"
    assert "had room for 0.00 GBP in 2026-01-01, less than the 12.50 GBP asked for, so nothing is paid." in (
        third.sentence
    )


def test_an_unpaid_sale_says_why() -> None:
    """No rule, or a customer whose first sale was the one that paid; whose order that was is for staff to see."""
    view = planned(recurring={"sales": "first"})
    sell(view, "A", 1000, customer_id="c1", affiliate_id="ada")
    sell(view, "B", 1000, customer_id="c1", affiliate_id="ada")
    assert "The customer is new." in only(view, "A").sentence
    late = explained(view, "B")
    assert (late.commissions[0].unpaid, late.commissions[0].first_order_id) == ("recurring", "A")
    assert "The customer is a returning one (the first order was A)." in late.sentence
    assert "The plan pays no more for later sales of this customer, so nothing is paid." in late.sentence
    own = for_affiliate(late, "ada")
    assert own.commissions[0].first_order_id == ""
    assert "The customer is a returning one. The plan pays no more" in own.sentence
    view = planned([{"id": "x", "when": {"country": ["FR"]}, "pay": {"amount": 1}}])
    sell(view, "A", 1000)
    assert "earns 0.00 GBP" in only(view, "A").sentence
    assert "No rule of the plan fits, so nothing is paid." in only(view, "A").sentence


@pytest.mark.parametrize(
    ("sale", "status", "said"),
    [
        (
            {"click_id": "not-ours"}, "waiting",
            "Its click has not been seen yet; it is waited for until 2026-04-14 00:00 UTC.",
        ),
        ({"affiliate_id": "zoe"}, "unattributed", "Nobody is credited: named affiliate (zoe): unknown affiliate."),
        ({}, "unattributed", "Nobody is credited: it named no click, coupon, affiliate or customer."),
        ({"affiliate_id": "new"}, "none", "The sale is kept as an exception and earns nothing"),
    ],
)  # fmt: skip
def test_a_sale_without_a_commission_says_what_it_waits_for(sale: dict[str, Any], status: str, said: str) -> None:
    """Waiting, credited to nobody, or kept."""
    view = shop()
    view.given("affiliate:new", AffiliateEnrolled(affiliate_id="new"))
    view.when(RecordConversion(order_id="A", offer_id="shoes", amount=100, occurred_at=T0, **sale))
    found = explained(view, "A")
    assert (found.status, found.commissions) == (status, [])
    assert found.sentence.startswith(said)
    assert (found.waits_until is not None, found.exception is not None) == (status == "waiting", status == "none")


# --- several who are credited ------------------------------------------------------------------------------

FIVE = ("ada", "bob", "cleo", "ada", "dora")


def test_a_shared_sale_says_whose_touches_earned_which_part() -> None:
    """Position-based over five touches; the parts are rounded together."""
    model = {"model": "position_based", "weights": [25, 25, 50], "spread": "all"}
    view = planned(others=("cleo", "dora"), attribution=model)
    touched(view, *FIVE)
    sell(view, "A", 12345, customer_id="c1")
    found = explained(view, "A")
    assert found.journey is not None
    assert [(touch.affiliate_id, touch.weight) for touch in found.journey.touches] == list(
        zip(FIVE, [150, 25, 25, 25, 275], strict=True)
    )
    credits = [one.credit for one in found.commissions if one.credit is not None]
    assert [one.share for one in credits] == ["7/20", "1/20", "1/20", "11/20"]
    ada = found.commissions[0]
    assert ada.rounding is not None
    assert (ada.rounding.method, sum(one.accrued for one in found.commissions)) == ("largest_remainder", 1543)
    assert ada.sentence.startswith(
        "Affiliate ada is credited with 35 % of the sale of 123.45 GBP (position-based: first and fourth of 5 touches)"
        " and earns 5.40 GBP by version 2 of the terms of offer shoes. Rule all pays 12.5 % of 123.45 GBP: 15.43125 GBP"
        " for the whole sale. 35 % of that is 5.4009375 GBP. The shares are rounded together, once: they come to"
    )
    assert (
        "Affiliate bob is credited with 5 % of the sale of 123.45 GBP (position-based: second of 5 touches)"
        in found.sentence
    )


@pytest.mark.parametrize("model", ["linear", "position_based", "time_decay"])
def test_an_affiliate_reads_of_a_shared_sale_only_what_is_its_own(model: str) -> None:
    """Neither another's name nor how many touches there were, as data or in words."""
    view = planned(others=("cleo", "dora"), attribution={"model": model}, second_level={"rate_bps": 1000})
    view.given("affiliate:bob", AffiliateRecruited(affiliate_id="bob", recruiter_id="cleo"))
    touched(view, *FIVE)
    sell(view, "A", 12345, customer_id="c1")
    reverse(view, "A", 1000)
    whole = explained(view, "A")
    assert len(whole.commissions) == 5
    for who in ("ada", "bob", "cleo", "dora"):
        own = for_affiliate(whole, who)
        text = msgspec.json.encode(own).decode()
        assert not [other for other in FIVE if other != who and other in text]
        assert own.journey is None
        assert {one.affiliate_id for one in own.commissions} == {who}
        for one in own.commissions:
            assert one.credit is not None
            assert (one.credit.weight, one.credit.whole) == (None, None)
            assert all((touch.number, touch.weight) == (None, None) for touch in one.credit.touches)
        assert "of 5 touches" not in text
    ada = for_affiliate(whole, "ada").commissions[0]
    assert ada.credit is not None
    assert len(ada.credit.touches) == 2
    assert "by touches of its own" in ada.sentence


def test_a_recruiter_reads_what_its_part_is_of() -> None:
    """A commission of the second level, of the first one or of the sale."""
    for of, base, said in (("commission", 1250, "12.50 GBP of commission"), ("sale", 10000, "100.00 GBP of the sale")):
        view = planned(second_level={"of": of, "rate_bps": 300})
        view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="bob"))
        sell(view, "A", 10000)
        bob = explained(view, "A").commissions[1]
        assert bob.second_level is not None
        assert (bob.level, bob.second_level.of, bob.second_level.base) == (2, of, base)
        assert bob.sentence.startswith("Affiliate bob recruited ada, who is credited with this sale, and earns")
        assert f"The second level pays 3 % of {said}:" in bob.sentence


# --- what is no sale ---------------------------------------------------------------------------------------


def test_a_goals_bonus_says_which_goal_was_reached() -> None:
    """And, once it is lost again, that the bonus was taken back."""
    goal = {"id": "ten-k", "by": "revenue", "period": "month", "target": 10000, "bonus_amount": 500}
    view = planned(goals=[goal | {"on_reversal": "take_back"}])
    sell(view, "A", 9000)
    sell(view, "B", 2000)
    (bonus,) = [order_id for order_id in orders(view) if order_id.startswith("~goal-")]
    one = only(view, bonus)
    assert one.goal is not None
    assert (one.goal.goal, one.goal.period, one.goal.by, one.goal.target) == ("ten-k", "2026-01", "revenue", 10000)
    assert one.sentence.startswith("Affiliate ada reached the goal ten-k (100.00 GBP of revenue in 2026-01")
    assert "and earns 5.00 GBP by version 2 of the terms of offer shoes. It matures on" in one.sentence
    reverse(view, "B")
    assert "it was reversed: 5.00 GBP is taken back. 0.00 GBP stands." in only(view, bonus).sentence


def test_a_bundle_of_clicks_says_how_many_were_paid() -> None:
    """What a cap of clicks cut off is told; where the clicks stand in the log is for staff."""
    cap = {"id": "few", "level": "offer", "by": "clicks", "period": "total", "limit": 30, "over": "clamp"}
    view = planned([{"id": "cpc", "pay": {"amount_per_click": 5}}], caps=[cap])
    sell(view, "~clicks-x", 0, event_id="click", click_count=40, clicks_after=7, clicks_until=99)
    found = explained(view, "~clicks-x")
    one = found.commissions[0]
    assert one.clicks is not None
    assert (one.clicks.count, one.clicks.paid, one.clicks.after, one.clicks.until) == (40, 30, 7, 99)
    assert one.sentence.startswith("Affiliate ada is paid for 30 of 40 clicks of a bundle and earns 1.50 GBP")
    assert "Rule cpc pays 0.05 GBP a click for 40 clicks: 2.00 GBP." in one.sentence
    assert "Cap few for all had room for 30 clicks since the beginning of the 40 clicks asked for, so" in one.sentence
    assert "until" not in msgspec.to_builtins(for_affiliate(found, "ada").commissions[0].clicks)


# --- what became of it -------------------------------------------------------------------------------------


def test_a_top_up_says_which_tier_was_reached_by_what() -> None:
    """Both ways, with what stands in the end."""
    view = planned(tiered(retroactive=True, on_reversal="take_back"))
    sell(view, "A", 15000)
    sell(view, "B", 10000)
    reached = only(view, "A").changes
    assert [(one.what, one.cause, one.step, one.counted, one.amount) for one in reached] == [
        ("repriced", "tier_reached", 1, 25000, 300)
    ]
    assert (
        "tier 2 of rule all was reached, as revenue in 2026-01 stood at 250.00 GBP. It pays 6 % of 150.00 GBP: 9.00"
        " GBP. So the commission is 9.00 GBP from then on instead of 6.00 GBP: 3.00 GBP more. 9.00 GBP stands."
    ) in only(view, "A").sentence
    reverse(view, "B", 6000)
    lost = only(view, "A")
    assert lost.changes[-1].cause == "tier_lost"
    assert "tier 1 of rule all is what is left, as revenue in 2026-01 stood at 190.00 GBP" in lost.sentence
    assert (lost.accrued, lost.commission, lost.outstanding) == (600, 600, 600)
    tier = only(view, "B").rules[0].tier
    assert tier is not None
    assert (tier.step, tier.step_now) == (1, 0)


def test_a_lead_that_earns_a_flat_amount_is_topped_up_too() -> None:
    """A sale of nothing has nothing given back: its top-up is all of what the tier adds."""
    steps = [{"from": 0, "amount": 100}, {"from": 2, "amount": 250}]
    view = planned(tiered(by="conversions", retroactive=True, steps=steps))
    sell(view, "A", 0)
    sell(view, "B", 0)
    assert (only(view, "A").commission, only(view, "A").outstanding) == (250, 250)


def test_reversals_and_decisions_are_told_in_order_with_what_stands() -> None:
    """Each says what it took away; reversals are told with all that was given back so far."""
    view = planned()
    sell(view, "A", 10000)
    reverse(view, "A", 3333)
    for decision in ("hold", "release", "hold", "reject"):
        view.when(DecideConversion(order_id="A", decision=decision, reason="odd"))
    reverse(view, "A", 100)
    one = only(view, "A")
    assert [(change.what, change.amount, change.outstanding, change.reversed_amount) for change in one.changes] == [
        ("reversed", -417, 833, 3333), ("held", 0, 833, None), ("released", 0, 833, None), ("held", 0, 833, None),
        ("rejected", -833, 0, None), ("reversed", 0, 0, 3433),
    ]  # fmt: skip
    assert "33.33 GBP of the sale was given back: 4.17 GBP is taken back." in one.sentence
    assert "it was rejected: 8.33 GBP is not owed after all." in one.sentence
    assert one.sentence.endswith("0.00 GBP stands.")


def test_a_simulation_that_was_applied_is_named() -> None:
    """Also to one who was not credited before, and without events the sum alone is told."""
    view = planned()
    sell(view, "A", 10000)
    for who, amount, commission in (("ada", -250, 1000), ("bob", 700, 700)):
        repriced = CommissionRepriced(
            order_id="A", affiliate_id=who, amount=amount, commission=commission, currency="GBP", bucket="pending",
            effective_at=T0, cause="simulation", simulation_id="sim-7", credited_amount=10000, matures_at=T0,
        )  # fmt: skip
        view.given("conversion:A", repriced)
    ada, bob = explained(view, "A").commissions
    assert (
        "simulation sim-7 was applied. So the commission is 10.00 GBP from then on instead of 12.50 GBP: 2.50 GBP less."
    ) in ada.sentence
    assert bob.sentence.startswith("Affiliate bob was credited with nothing when the sale was recorded.")
    assert (bob.accrued, bob.outstanding) == (0, 700)
    bare = explain("A", view.conversion("A"), view.offer("shoes"))
    assert "It was repriced to 10.00 GBP since. 10.00 GBP stands." in bare.sentence


# --- small words -------------------------------------------------------------------------------------------


def test_exact_figures_are_told_exactly_where_they_can_be() -> None:
    """At least as many decimals as the currency has, at most eight; thirds are told roughly."""
    assert exact_money(F(2479, 2), "EUR") == "12.395 EUR"
    assert exact_money(F(500), "EUR") == "5.00 EUR"
    assert exact_money(F(500), "JPY") == "500 JPY"
    assert exact_money(F(1000, 3), "EUR") == "about 3.3333 EUR"
    assert exact_money(F(10**17 * 8 + 1, 8), "EUR") == "1000000000000000.00125 EUR"
    assert [share_text(F(*one)) for one in ((3, 10), (1, 8), (1, 3))] == [
        "30 %", "12.5 %", "1/3 (about 33.33 %)",
    ]  # fmt: skip
