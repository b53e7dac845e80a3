"""A program under a plan, forged: each lie is consistent with everything that the event says of itself, and the model
that plays the program again names the event."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from functools import cache
from typing import Any

import msgspec
import pytest
from plan_world import PlanShop, instant, plan, tiered

from ledger.audit.verifying_program import play_again
from ledger.domain.affiliate import AffiliateRecruited
from ledger.domain.coupon import CouponAssigned
from ledger.domain.rates import RateRecorded
from ledger.domain.topics import TOPIC_OF

Line = dict[str, Any]
PLAN = plan(
    attribution={"model": "coupon_wins", "otherwise": "linear"},
    caps=[{"id": "day", "level": "offer", "by": "commission", "period": "day", "limit": 3_000, "over": "clamp"}],
    goals=[{"id": "three", "by": "conversions", "period": "month", "target": 3, "bonus_amount": 500,
            "on_reversal": "take_back"}],
    second_level={"of": "commission", "rate_bps": 1_000},
) | {
    "rules": [
        {"id": "new", "when": {"customer": "new", "country": ["US"]}, "pay": {"rate_bps": 2_000}},
        {"id": "all", "pay": tiered(retroactive=True, on_reversal="take_back")},
    ]
}  # fmt: skip


@cache
def program() -> tuple[list[Line], list[Line]]:
    """The lines of the books and of the traffic log: shared and capped sales, top-ups, a bonus that is lost again."""
    shop = PlanShop(PLAN, "ada", "bob", "cy", "dot")
    shop.view.traffic_position = 9
    recruited = AffiliateRecruited(affiliate_id="ada", recruiter_id="dot", effective_from=instant(-99))
    shop.view.given("affiliate:ada", recruited)
    shop.view.given("coupon:TEN", CouponAssigned(coupon="TEN", affiliate_id="cy", offer_id="shoes"))
    rate = RateRecorded(base="JPY", quote="GBP", rate="0.0052", as_of=instant(0), source="ECB")
    shop.view.given("rate:JPY/GBP", rate)
    shop.touch("ada", -2, "blog")
    shop.touch("bob", -1)
    shop.sell(10_000, None, customer_id="carl")
    shop.sell(11_000, None, day=1, customer_id="carl")
    shop.sell(12_000, None, day=1, coupon="TEN")
    shop.sell(20_000, day=2)  # ada's third, and the second step
    shop.sell(60_000, "bob", day=2)  # more than the day's cap leaves
    shop.sell(7_000, "bob", day=3, currency="JPY")
    shop.sell(5_000, "cy", day=3, customer_id="mia", country="US")
    shop.refund("o4", day=4)
    books = [
        {
            "v": 1, "program_id": "p", "log": "books", "position": position, "originator_id": stream,
            "originator_version": 1, "topic": TOPIC_OF[type(event)], "recorded_at": "", "actor": "", "key_id": "",
            "request_id": str(number), "cause": "", "state": msgspec.json.decode(msgspec.json.encode(event)),
        }
        for position, (stream, event, number) in enumerate(shop.view.log, 1)
    ]  # fmt: skip
    traffic = []
    for _, _, _, touch in shop.view.touches:
        said = msgspec.json.decode(msgspec.json.encode(touch))
        state = {"click_id": f"k{touch.position}", "offer_id": "shoes", "customer_id": "carl", **said}
        traffic.append(
            books[0] | {"log": "traffic", "position": touch.position, "topic": "ClickRecorded", "state": state}
        )
    return books, traffic


def found(books: list[Line], traffic: list[Line]) -> list[tuple[str, int]]:
    """(kind, position) of each difference, in order."""
    lines = [[(None, [msgspec.json.encode(line) for line in log])] for log in (books, traffic)]
    folded = play_again(lines[0], lines[1], frozenset({"shoes"}), 9, whole_ends=True)
    return [(one.kind, one.position) for one in folded.findings.in_order()]


def the(books: list[Line], topic: str, number: int = 0, **said: Any) -> Line:
    """The line of a topic that says so."""
    return [one for one in books if one["topic"] == topic and said.items() <= one["state"].items()][number]


def changed(topic: str, change: Callable[[Line], Any], number: int = 0, **said: Any) -> Callable[[list[Line]], int]:
    """One event says something else. Returns its position."""

    def forge(books: list[Line]) -> int:
        line = the(books, topic, number, **said)
        change(line["state"])
        return int(line["position"])

    return forge


def removed(topic: str, at: tuple[str, dict[str, Any]], **said: Any) -> Callable[[list[Line]], int]:
    """One event never was. at: what is named instead of it."""

    def forge(books: list[Line]) -> int:
        line = the(books, topic, **said)
        books.remove(line)
        return int(the(books, at[0], **at[1])["position"])

    return forge


def without_bonus(books: list[Line]) -> int:
    """All of a bonus."""
    bonus = the(books, "CommissionAccrued", sale_amount=0)["state"]["order_id"]
    books[:] = [line for line in books if line["state"].get("order_id") != bonus]
    return int(the(books, "CommissionAccrued", order_id="o4")["position"])


def given_to(who: str, order_id: str, **more: Any) -> Callable[[list[Line]], int]:
    """All of an order's first commission is another's."""

    def forge(books: list[Line]) -> int:
        line = the(books, "CommissionAccrued", order_id=order_id)
        was = line["state"]["affiliate_id"]
        for one in books:
            if one["state"].get("order_id") == order_id and one["topic"] != "ConversionRecorded":
                one["state"] |= {"affiliate_id": who} if one["state"].get("affiliate_id") == was else {}
        line["state"]["steps"][-1]["affiliate_id"] = who
        line["state"].update(more)
        return int(line["position"])

    return forge


def twice(books: list[Line]) -> int:
    """The goal is paid a second time, at the next sale."""
    lines = [deepcopy(line) for line in books if line["state"].get("affiliate_id") == "ada" and "~goal" in str(line)][
        :2
    ]
    last = the(books, "CommissionAccrued", order_id="o7")
    where = books.index(last) + 1
    for number, line in enumerate(lines):
        line["state"]["order_id"] += "-2"
        line |= {"position": last["position"] + 0.25 * (number + 1), "request_id": last["request_id"]}
    books[where:where] = lines
    for number, line in enumerate(books, 1):
        line["position"] = number
    return where + 1


def uncapped(e: Line) -> None:
    """Paid in full, as if there were no cap."""
    del e["pricing"]["caps"]
    e["amount"] = int(e["pricing"]["exact"])


def topped(amount: int) -> Callable[[Line], None]:
    """A top-up by more."""
    return lambda e: e.update(amount=e["amount"] + amount, commission=e["commission"] + amount)


def tier(name: str) -> Callable[[Line], None]:
    """A counter stood one higher."""

    def change(e: Line) -> None:
        read = e["pricing"]["rules"][0]["tier"]
        read[name] = read[name] + 1 if isinstance(read[name], int) else "affiliate/2026-10"

    return change


REACHED, LOST = {"cause": "tier_reached"}, {"cause": "tier_lost"}
GOAL = {"sale_amount": 0}
FORGERIES: dict[str, Callable[[list[Line]], int]] = {
    "a shared sale's top-up": changed("CommissionRepriced", topped(1), order_id="o1", **REACHED),
    "what is taken back of it": changed("CommissionRepriced", topped(-1), order_id="o1", **LOST),
    "a removed top-up": removed(
        "CommissionRepriced", ("CommissionAccrued", {"order_id": "o4"}), order_id="o2", **REACHED
    ),
    "a tier that was never lost": removed("CommissionRepriced", ("ConversionReversed", {}), order_id="o2", **LOST),
    "a removed bonus": without_bonus,
    "a bonus for another": changed("CommissionAccrued", lambda e: e.update(affiliate_id="bob"), **GOAL),
    "a higher bonus": changed("CommissionAccrued", lambda e: e.update(amount=600), **GOAL),
    "a goal's counter before": changed("CommissionAccrued", tier("before"), **GOAL),
    "a goal's counter after": changed("CommissionAccrued", tier("after"), **GOAL),
    "a goal's period": changed("CommissionAccrued", tier("counter"), **GOAL),
    "a bonus paid twice": twice,
    "a removed second level": removed("CommissionAccrued", ("ConversionAttributed", {}), order_id="o1", level=2),
    "a cap that nobody asked": changed("CommissionAccrued", uncapped, order_id="o5"),
    "a coupon's sale for another": given_to("bob", "o3"),
    "a named affiliate's sale for another": given_to("bob", "o4"),
    "a repricing's counter": changed("CommissionRepriced", lambda e: e.update(counted=e["counted"] + 1)),
    "a repricing's period": changed("CommissionRepriced", lambda e: e.update(counter="affiliate/2026-10")),
    "a repricing's cause": changed("CommissionRepriced", lambda e: e.update(cause="tier_lost")),
    "a repricing's cap": changed("CommissionRepriced", lambda e: e.update(cap="day")),
    "who was touched": changed("ConversionAttributed", lambda e: e["touches"][0]["touch"].update(affiliate_id="cy")),
    "a touch's channel": changed("ConversionAttributed", lambda e: e["touches"][0]["touch"].update(channel="mail")),
    "a touch's instant": changed(
        "ConversionAttributed",
        lambda e: e["touches"][0]["touch"].update(occurred_at=(instant(-2) + timedelta(seconds=1)).isoformat()),
    ),
    "a touch left out": changed("ConversionAttributed", lambda e: e["touches"].pop()),
    "how far the traffic was seen": changed("ConversionAttributed", lambda e: e.update(traffic_position=8)),
    "a customer": changed("CommissionAccrued", lambda e: e["pricing"].update(customer="returning"), order_id="o7"),
    "the first order": changed("CommissionAccrued", lambda e: e["pricing"].update(first_order_id="o9"), order_id="o2"),
    "a rate": changed("CommissionAccrued", lambda e: e["pricing"]["rate"].update(rate="0.0051"), order_id="o6"),
    "a rate's source": changed("CommissionAccrued", lambda e: e["pricing"]["rate"].update(source="X"), order_id="o6"),
    "a rate's instant": changed(
        "CommissionAccrued", lambda e: e["pricing"]["rate"].update(as_of="2026-11-01T00:00:00Z"), order_id="o6"
    ),
    "a rate left out": changed("CommissionAccrued", lambda e: e["pricing"].pop("rate"), order_id="o6"),
    "the model": changed("CommissionAccrued", lambda e: e["pricing"].update(model="lifetime"), order_id="o3"),
    "the second level's part": changed("CommissionAccrued", lambda e: e["pricing"].update(rate_bps=999), level=2),
    "a room": changed("CommissionAccrued", lambda e: e["pricing"]["caps"][0].update(room=2_999), order_id="o3"),
}  # fmt: skip


def test_an_honest_program_is_played_again_without_a_difference() -> None:
    """And has all that the forgeries below are about."""
    books, traffic = program()
    assert found(books, traffic) == []
    assert {"CommissionRepriced", "ConversionAttributed", "ConversionReversed"} <= {line["topic"] for line in books}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_found_where_it_stands(forgery: str) -> None:
    """The first difference is the event itself, or the one that should have led to it."""
    books, traffic = deepcopy(program())
    position = FORGERIES[forgery](books)
    differences = found(books, traffic)
    assert [where for _, where in differences][:1] == [position], differences


def test_a_click_of_another_customer_is_no_touch() -> None:
    """Whoever changes the traffic log is found where a sale was credited by it."""
    books, traffic = deepcopy(program())
    traffic[0]["state"]["affiliate_id"] = "cy"
    assert found(books, traffic)[0] == ("price_differs", the(books, "ConversionAttributed")["position"])


def test_a_simulation_that_nobody_approved_is_found() -> None:
    """What it changed is taken as a fact only where a second person approved it."""
    books, traffic = deepcopy(program())
    line = the(books, "CommissionRepriced", **REACHED)
    changed_by = {"cause": "simulation", "simulation_id": "s", "counter": "", "counted": 0, "rule": "", "step": None}
    line["state"] |= changed_by
    assert ("price_differs", line["position"]) in found(books, traffic)
