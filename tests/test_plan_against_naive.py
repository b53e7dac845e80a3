"""The plan engine against the auditor's deliberately naive model of a whole program (naive_program.py), over random
plans and histories: what every order earns, what is left of it, and what goals earn."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_world import PlanShop, instant
from random_plans import WHO, Maker, Program

from ledger.audit.naive_program import NaiveProgram
from ledger.domain.affiliate import AffiliateGrouped, AffiliateRecruited
from ledger.domain.conversion import ConversionRecorded
from ledger.domain.coupon import CouponAssigned
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.rates import RateRecorded
from ledger.domain.topics import TOPIC_OF


def prepared(program: Program) -> PlanShop:
    """A shop with groups, a recruiter, a coupon, rates, and carl's clicks."""
    shop = PlanShop(program.plan, *WHO, "dot")
    shop.view.traffic_position = 1_000
    for who, day in (("ada", 0), ("bob", 2)):
        recruited = AffiliateRecruited(affiliate_id=who, recruiter_id="dot", effective_from=instant(day))
        shop.view.given(f"affiliate:{who}", recruited)
    shop.view.given("affiliate:cy", AffiliateGrouped(affiliate_id="cy", group="gold", effective_from=instant(2)))
    shop.view.given("coupon:TEN", CouponAssigned(coupon="TEN", affiliate_id="cy", offer_id="shoes"))
    for day in range(0, 50, 7):
        rate = RateRecorded(base="JPY", quote="GBP", rate=f"0.005{10 + day}1", as_of=instant(day), source="ECB")
        shop.view.given("rate:JPY/GBP", rate)
    for who, hours, channel in program.touches:
        shop.touch(who, hours / 24, channel)
    return shop


def played(program: Program) -> tuple[PlanShop, list[str]]:
    """The program's history, by the engine; and the orders that were recorded."""
    shop, sold = prepared(program), list[str]()
    for step in program.history:
        if isinstance(step, dict):
            sold += [event.order_id for event in shop.sell(**step)[:1] if isinstance(event, ConversionRecorded)]
        elif sold:
            later(shop, sold[step[1] % len(sold)], step[0], step[2])
    return shop, sold


def later(shop: PlanShop, order_id: str, what: str, percent: int) -> None:
    """A reversal of a part of what is left of a sale, or a decision about it."""
    state = shop.view.conversion(order_id)
    if what == "refund":
        left = state.recorded.amount - state.reversed_amount
        if left * percent // 100 or not left:
            shop.refund(order_id, left * percent // 100, day=90)
    elif any(one.status == "pending" for one in state.commissions.values()):
        shop.view.when(DecideConversion(order_id=order_id, decision=what, reason="because"))


def naive(shop: PlanShop) -> NaiveProgram:
    """The model, told what the log and the traffic say."""
    model = NaiveProgram()
    for _, _, _, touch in shop.view.touches:
        click = {"click_id": f"k{touch.position}", "offer_id": "shoes", "customer_id": "carl", **as_json(touch)}
        model.feed("traffic", touch.position, "ClickRecorded", click)
    for position, (_, event, _) in enumerate(shop.view.log, 1):
        model.feed("books", position, TOPIC_OF[type(event)], as_json(event))
    return model


def as_json(body: Any) -> dict[str, Any]:
    """As it stands in the log."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return found


def bonuses(shop: PlanShop) -> dict[tuple[str, str], int]:
    """What goals earned, by affiliate and period."""
    periods = sorted({key.period for key in shop.counters()}, key=len, reverse=True)
    found: dict[tuple[str, str], int] = {}
    for stream in dict.fromkeys(key for key, _, _ in shop.view.log if key.startswith("conversion:~goal-")):
        state = shop.view.state(stream)
        said = stream.removeprefix("conversion:~goal-g-")
        name = (state.affiliate_id, next(one for one in periods if said.startswith(one)))
        found[name] = found.get(name, 0) + state.outstanding
    return found


def disagreements(program: Program) -> list[tuple[str, Any, Any]]:
    """(about what, the engine's, the model's)."""
    shop, sold = played(program)
    model, found = naive(shop), list[tuple[str, Any, Any]]()
    for order_id in sold:
        state = shop.view.conversion(order_id)
        ours = {key: one.commission for key, one in state.commissions.items() if key[1] == 1 or one.commission}
        left = {who: one.outstanding for (who, level), one in state.commissions.items() if level == 1}
        found.append((order_id, ours, model.commissions(order_id)))
        found.append((f"what is left of {order_id}", left, model.outstanding(order_id)))
    theirs = {(one.affiliate_id, one.label.partition("/")[2]): amount for one, amount in model.bonuses().items()}
    found.append(("bonuses", bonuses(shop), theirs))
    return [one for one in found if one[1] != one[2]]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_engine_and_the_naive_model_agree(seed: int) -> None:
    """On every commission with its top-ups, on what reversals and rejections left of it, and on bonuses."""
    program = Maker(seed).program()
    assert disagreements(program) == [], program
