"""What holds for every plan and every history: shares and reversals return the original, the order of arrival does not
matter where the plan says so, caps are never overshot."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from plan_world import NOON, Document, PlanShop, plan, tiered

from ledger.domain.affiliate import AffiliateRecruited
from ledger.domain.plans import models
from ledger.domain.plans.journey import Touch
from ledger.domain.plans.plan import AttributionRules

WHO = ("ada", "bob", "cy")
FEW, SOME = settings(max_examples=25, deadline=None), settings(max_examples=60, deadline=None)
JOURNEYS = ("first_click", "last_click", "last_non_direct", "linear", "position_based", "time_decay")

amounts = st.integers(0, 60_000)
whose = st.sampled_from(WHO)
rates = st.sampled_from([0, 1, 333, 1_000, 2_999, 10_000])


@st.composite
def attributions(draw: st.DrawFn) -> Document:
    """Any model that looks at a journey."""
    model = draw(st.sampled_from(JOURNEYS))
    if model == "position_based":
        weights = draw(st.tuples(*[st.integers(0, 100)] * 3).filter(any))
        return {"model": model, "weights": list(weights), "spread": draw(st.sampled_from(["middle", "all"]))}
    return {"model": model} | ({"half_life_days": draw(st.integers(1, 30))} if model == "time_decay" else {})


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A plan of one rule with tiers or a rate, bounds, overrides and a second level, for credit that is shared."""
    table = tiered(
        method=draw(st.sampled_from(["whole", "marginal"])), level=draw(st.sampled_from(["affiliate", "offer"]))
    )
    more: Document = {"attribution": draw(attributions())}
    if draw(st.booleans()):
        more["second_level"] = {"rate_bps": draw(rates), "of": draw(st.sampled_from(["commission", "sale"]))}
    if draw(st.booleans()):
        more |= {"min_amount": draw(st.integers(0, 300)), "max_amount": draw(st.integers(300, 3_000))}
    if draw(st.booleans()):
        rules = [{"id": "all", "pay": {"rate_bps": draw(rates)}}]
        more["overrides"] = [{"id": "bob", "affiliates": ["bob"], "rules": rules}]
    return plan(draw(st.sampled_from([table, {"rate_bps": draw(rates)}, {"amount": 197}])), **more)


def came_by(shop: PlanShop, clicks: list[tuple[str, int]]) -> None:
    """Carl's clicks, and who recruited ada."""
    shop.view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="dot"))
    for who, hours in clicks:
        shop.touch(who, -hours / 24, "direct" if hours % 3 == 0 else "blog")


clicks = st.lists(st.tuples(whose, st.integers(0, 700)), max_size=6)


@SOME
@given(documents(), clicks, amounts, amounts)
def test_shares_sum_exactly(document: Document, came: list[tuple[str, int]], first: int, amount: int) -> None:
    """The credited amounts to the sale; the commissions to the exact sum of what each would earn by its part, rounded
    half up once; and no commission is negative."""
    shop = PlanShop(document)
    came_by(shop, came)
    shop.sell(first)
    shop.sell(amount, customer_id="carl", order_id="o")
    parts = [one for one in shop.view.conversion("o").commissions.values() if one.level == 1]
    assert sum(one.credited_amount for one in parts) == amount
    exact = Fraction(0)
    for one in parts:
        own, whole = one.accrued.pricing.weight or (1, 1)
        exact += Fraction(one.accrued.pricing.exact) * own / whole
    assert sum(one.commission for one in parts) == int(exact + Fraction(1, 2))
    assert all(one.commission >= 0 for one in parts)


@SOME
@given(documents(), clicks, st.integers(1, 60_000), st.data())
def test_reversals_in_any_parts_return_the_original(
    document: Document, came: list[tuple[str, int]], amount: int, data: st.DataObject
) -> None:
    """Nothing is left of the books but for what others earned; and a top-up on the way is returned with the rest."""
    for rule in document["rules"]:
        if rule["pay"].get("tiers", {}).get("method") == "whole":
            rule["pay"]["tiers"] |= {
                "retroactive": True,
                "on_reversal": data.draw(st.sampled_from(["keep", "take_back"])),
            }
    shop = PlanShop(document)
    came_by(shop, came)
    shop.sell(amount, customer_id="carl", order_id="o")
    left = amount
    while left:
        part = data.draw(st.integers(1, left))
        shop.refund("o", part)
        left -= part
        if data.draw(st.booleans()):
            shop.sell(data.draw(amounts), data.draw(whose))
    assert set(shop.shares("o", left=True).values()) == {0}
    assert all(held >= 0 for held in shop.owed().values())


# --- the order of arrival ------------------------------------------------------------------------------------------

Sale = tuple[int, str, int, int]  # amount, whose, day, what is taken back of it
sales = st.lists(st.tuples(st.integers(1, 30_000), whose, st.integers(0, 40), st.integers(0, 30_000)), max_size=6)
INDIFFERENT: tuple[Document, ...] = (
    plan({"amount": 250}, min_amount=10),
    plan({"rate_bps": 1_234}, max_amount=2_000, second_level={"rate_bps": 777}),
    plan(tiered(retroactive=True, on_reversal="take_back")),
    plan(tiered(retroactive=True, on_reversal="take_back", level="offer", period="total"), min_amount=150),
    plan(
        tiered(
            [{"from": 0, "amount": 100}, {"from": 2, "amount": 150}, {"from": 4, "amount": 175}],
            by="conversions", period="week", retroactive=True, on_reversal="take_back",
        )
    ),
)  # fmt: skip


def facts_of(some: list[Sale]) -> list[tuple[Any, ...]]:
    """Sales and reversals, each able to arrive at any time."""
    found: list[tuple[Any, ...]] = []
    for number, (amount, who, day, back) in enumerate(some):
        found.append(("sale", f"s{number}", amount, who, day))
        if back:
            found.append(("refund", f"s{number}", min(back, amount)))
    return found


def outcome(document: Document, facts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """What everybody is owed, and for which order."""
    shop = PlanShop(document)
    shop.view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="dot"))
    for kind, order_id, *rest in facts:
        if kind == "sale":
            shop.sell(rest[0], rest[1], rest[2], order_id=order_id)
        else:
            shop.refund(order_id, rest[0])
    left = {fact[1]: shop.shares(fact[1], left=True) for fact in facts if fact[0] == "sale"}
    return shop.owed(), left


@SOME
@given(st.sampled_from(INDIFFERENT), sales, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(document: Document, some: list[Sale], random: Any) -> None:
    """Flat, by percent, or by a retroactive tier that is taken back: sales and reversals, reversals first too, come to
    the same for everybody and every order."""
    facts = facts_of(some)
    shuffled = list(facts)
    random.shuffle(shuffled)
    assert outcome(document, facts) == outcome(document, shuffled)


# --- caps and counters -----------------------------------------------------------------------------------------------


@st.composite
def caps(draw: st.DrawFn) -> Document:
    """Any cap by conversions or commission."""
    by = draw(st.sampled_from(["conversions", "commission"]))
    return {
        "id": f"c{draw(st.integers(0, 10**9))}",
        "level": draw(st.sampled_from(["affiliate", "offer"])),
        "by": by,
        "period": draw(st.sampled_from(["day", "week", "month", "total"])),
        "limit": draw(st.integers(0, 3 if by == "conversions" else 4_000)),
        "over": draw(st.sampled_from(["unpaid", "clamp"] if by == "commission" else ["unpaid"])),
        "reversals_free_room": draw(st.booleans()),
    }


@FEW
@given(
    st.lists(caps(), min_size=1, max_size=3, unique_by=lambda cap: cap["id"]),
    st.lists(st.tuples(st.integers(0, 30_000), st.none() | whose, st.integers(0, 9), st.booleans()), max_size=7),
    clicks, st.booleans(),
)  # fmt: skip
def test_caps_are_never_overshot(
    some: list[Document], sold: list[tuple[int, str | None, int, bool]], came: list[tuple[str, int]], retroactive: bool
) -> None:
    """After each sale and reversal no counter that a cap limits stands above it, with top-ups, a recruiter and shared
    credit; and what is owed is never below zero."""
    table = tiered(period="week", **({"retroactive": True, "on_reversal": "take_back"} if retroactive else {}))
    shop = PlanShop(plan(table, caps=some, second_level={"rate_bps": 500}, attribution={"model": "linear"}))
    came_by(shop, came)
    for number, (amount, who, day, back) in enumerate(sold):
        shop.sell(amount, who, day, order_id=f"s{number}", customer_id=None if who else "carl")
        if back:
            shop.refund(f"s{number}", amount // 2)
        for cap in some:
            for key, counter in shop.counters().items():
                if (
                    cap["level"] == ("affiliate" if key.affiliate_id else "offer")
                    and kind_of(key.period) == cap["period"]
                ):
                    used = counter.used(cap["by"], cap["reversals_free_room"])
                    assert used <= cap["limit"], (cap, key, counter)
        assert all(held >= 0 for held in shop.owed().values())


def kind_of(period: str) -> str:
    """What kind of period a counter's is."""
    return {"total": "total", "2026-11": "month"}.get(period, "week" if "W" in period else "day")


@FEW
@given(documents(), st.lists(st.tuples(amounts, whose, st.booleans()), min_size=1, max_size=5))
def test_a_counter_is_what_is_left_of_what_it_counts(document: Document, sold: list[tuple[int, str, bool]]) -> None:
    """Recomputed from the orders as they stand: conversions not taken back, their values, their commissions."""
    shop = PlanShop(document | {"goals": [{"id": "g", "by": "revenue", "period": "total", "target": 20_000}]})
    for amount, who, back in sold:
        shop.sell(amount, who)
        if back:
            shop.refund(f"o{len([k for k, e, _ in shop.view.log if type(e).__name__ == 'ConversionRecorded'])}")
    for who in WHO:
        mine = [n for n, (_, whose_, back) in enumerate(sold, 1) if whose_ == who and not back]
        found = [counter for key, counter in shop.counters().items() if key[1:3] == (who, "total")]
        assert sum(one.standing("conversions") for one in found) == len(mine)
        assert sum(one.standing("revenue") for one in found) == sum(sold[n - 1][0] for n in mine)
        assert sum(one.standing("commission") for one in found) == sum(shop.shares(f"o{n}")[who] for n in mine)


# --- models ----------------------------------------------------------------------------------------------------------


@SOME
@given(
    st.sampled_from(JOURNEYS),
    st.tuples(*[st.integers(0, 100)] * 3),
    st.sampled_from(["middle", "all"]),
    st.lists(
        st.tuples(whose, st.integers(0, 10**9), st.sampled_from([None, "direct", "blog"])), min_size=1, max_size=20
    ),
)
def test_a_model_gives_every_journey_to_somebody(
    model: Any, weights: tuple[int, int, int], spread: Any, touched: list[tuple[str, int, str | None]]
) -> None:
    """No weight is negative, and some weight is more: credit can always be split."""
    ordered = sorted(touched, key=lambda one: -one[1])
    touches = [
        Touch(n, who, NOON - timedelta(seconds=s), channel=channel) for n, (who, s, channel) in enumerate(ordered)
    ]
    found = models.weights(AttributionRules(weights=weights, spread=spread), model, touches, NOON)
    assert len(found) == len(touches)
    assert min(found) >= 0
    assert sum(weight for _, weight in models.credits(touches, found)) == sum(found) > 0
