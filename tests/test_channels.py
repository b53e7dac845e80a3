"""The channel report: against a count by hand, and against the books."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from conftest import fresh_database
from support import PROGRAM, T0, Clock, by, open_ledger, open_shop, read_log, refund, sale, trial

from ledger import paying_clicks
from ledger.application import CommissionLedger
from ledger.audit.naive_plans import half_up, largest_remainder
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate, RecruitAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.event import Command
from ledger.domain.impression import RecordImpression
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.jobplan import JobPlan
from ledger.reports import catalogue, channels
from ledger.reports.report import Asked, Document, make
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer

DAY = timedelta(days=1)
CHANNELS = ("search", "mail", None)
PLAN: dict[str, Any] = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "linear"},
    "rules": [
        {"id": "click", "when": {"event": ["click"]}, "pay": {"amount_per_click": 3}},
        {"id": "all", "pay": {"rate_bps": 777}},
    ],
    "goals": [{"id": "g", "by": "conversions", "period": "total", "target": 5, "bonus_amount": 400}],
    "second_level": {"rate_bps": 1000},
}


def publish(ledger: CommissionLedger) -> None:
    commands: list[Command] = [
        EnrolAffiliate(affiliate_id="cyd"),
        DecideAffiliate(affiliate_id="cyd", decision="approve"),
        RecruitAffiliate(affiliate_id="ada", recruiter_id="cyd"),
        PublishOffer(offer_id="boots"),
        PublishTerms(offer_id="boots", hold_days=30, window_days=30, plan=PLAN),
    ]
    for command in commands:
        ledger.execute(PROGRAM, command, by())


def trade(ledger: CommissionLedger) -> None:
    """A journey of up to five touches before each of 60 sales, some of which name a channel or nobody at all."""
    dice = random.Random(7)
    who = ("ada", "bob", "cyd")
    clicks = [
        RecordClick(
            click_id=f"k{n}", affiliate_id=dice.choice(who), offer_id=dice.choice(("boots", "boots", "shoes")),
            occurred_at=T0 + timedelta(hours=n), customer_id=f"c{dice.randrange(30)}", channel=dice.choice(CHANNELS),
            duplicate=n % 11 == 0,
        )
        for n in range(90)
    ]  # fmt: skip
    ledger.record_clicks(PROGRAM, [*clicks, RecordClick(affiliate_id="bob", offer_id="boots", occurred_at=T0)], by())
    shown = RecordImpression(affiliate_id="bob", offer_id="boots", occurred_at=T0 + DAY, visitor_id="v", channel="tv")
    ledger.record_impressions(PROGRAM, [shown], by())
    sold: list[Command] = []
    for n in range(60):
        more: dict[str, Any] = {"customer_id": f"c{n % 40}", "occurred_at": T0 + 5 * DAY + timedelta(hours=n)}
        more["offer_id"] = ("boots", "boots", "shoes")[n % 3]
        more["channel"] = "till" if n % 13 == 0 else None
        more["click_id"] = f"k{n}" if n % 7 == 0 and clicks[n].offer_id == more["offer_id"] else None
        currency = "USD" if n % 9 == 2 else "GBP"  # of shoes, whose terms pay in the sale's own
        more["currency"] = currency if more["offer_id"] == "shoes" else "GBP"
        sold.append(sale(f"o{n}", 1000 + 37 * n, "bob" if n % 5 == 0 else None, **more))
    ledger.execute_many(PROGRAM, sold, by())
    changes: list[Command] = [refund(f"r{n}", f"o{n}", 333, occurred_at=T0 + 9 * DAY) for n in range(0, 60, 4)]
    changes += [refund(f"s{n}", f"o{n}", occurred_at=T0 + 9 * DAY) for n in (2, 12, 24)]
    changes += [DecideConversion(order_id=f"o{n}", decision="reject", reason="fraud") for n in (15, 16, 30)]
    ledger.execute_many(PROGRAM, changes, by())
    for _ in paying_clicks.pay_clicks(ledger, PROGRAM, ledger.clock(), by()):
        pass


@pytest.fixture(scope="module")
def ledger(server: EmbeddedServer, template: str) -> Iterator[CommissionLedger]:
    with fresh_database(server, template) as name, open_ledger(urls(server, name), Clock(T0 + 10 * DAY)) as one:
        open_shop(one)
        publish(one)
        trade(one)
        yield one


def report(ledger: CommissionLedger, **asked: Any) -> Document:
    return make(ledger, PROGRAM, catalogue.find("channels"), Asked(**asked), JobPlan())


# --- by hand -------------------------------------------------------------------------------------------------


class Counted(NamedTuple):
    """By (channel, affiliate, currency), and (channel, currency) with conversions."""

    clicks: dict[tuple[str, str], int]
    orders: dict[tuple[str, str, str], set[str]]
    parts: dict[tuple[str, str, str], Fraction]
    revenue: dict[tuple[str, str, str], int]
    cost: dict[tuple[str, str, str], int]


def count(ledger: CommissionLedger, since: datetime, until: datetime) -> Counted:
    """What the logs say, order by order."""
    found = Counted(*(defaultdict(kind) for kind in (int, set, Fraction, int, int)))  # type: ignore[arg-type]
    channel_of: dict[str, str] = {}
    for one in read_log(ledger, name="traffic"):
        e = one.state
        if one.topic == "ClickRecorded":
            channel_of[e["click_id"]] = e.get("channel", "")
            if not e.get("duplicate") and since <= datetime.fromisoformat(e["occurred_at"]) < until:
                found.clicks[e.get("channel", ""), e["affiliate_id"]] += 1
    events: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for one in read_log(ledger):
        if "order_id" in one.state and not one.topic.startswith("Reversal"):
            events[one.state["order_id"]].append((one.topic, one.state))
    for order_id, some in events.items():
        fact = next(e for topic, e in some if topic == "ConversionRecorded")
        if since <= datetime.fromisoformat(fact["occurred_at"]) < until:
            count_order(found, order_id, fact, some, channel_of)
    return found


def count_order(
    found: Counted, order_id: str, fact: dict[str, Any], some: list[tuple[str, Any]], channel_of: dict[str, str]
) -> None:
    accrued = [e for topic, e in some if topic == "CommissionAccrued"]
    touches = next((e["touches"] for topic, e in some if topic == "ConversionAttributed"), [])
    lead = [e for e in accrued if e.get("level", 1) == 1]
    taken = {e["reversal_id"]: e["sale_amount"] for topic, e in some if topic == "ConversionReversed"}
    sold = [e.get("credited_amount", e["sale_amount"]) for e in lead]
    back = largest_remainder(sum(taken.values()), [Fraction(one) for one in sold])
    clicked = [channel_of[e["click_id"]] for e in lead if e.get("click_id") in channel_of]
    whole = sum(touch["weight"] for touch in touches) or 1
    for e in accrued:
        who, level = e["affiliate_id"], e.get("level", 1)
        weights: dict[str, Fraction] = defaultdict(Fraction)
        for one in touches:
            if level == 2 or one["touch"]["affiliate_id"] == who:
                weights[one["touch"].get("channel", "")] += one["weight"]
        if not weights:
            weights[fact.get("channel") or next(iter(clicked), "")] = Fraction(1)
        gone = [
            other["amount"]
            for topic, other in some
            if topic in ("ConversionReversed", "ConversionRejected")
            and (other["affiliate_id"], other.get("level", 1)) == (who, level)
        ]
        revenues = largest_remainder(
            sold[lead.index(e)] - back[lead.index(e)] if level == 1 else 0, [*weights.values()]
        )
        costs = largest_remainder(e["amount"] - sum(gone), [*weights.values()])
        for (channel, weight), revenue, cost in zip(weights.items(), revenues, costs, strict=True):
            place = channel, who, e["currency"]
            found.revenue[place] += revenue
            found.cost[place] += cost
            if level == 1 and not order_id.startswith("~"):
                found.orders[place].add(order_id)
                found.parts[place] += weight / whole


def text(exact: Fraction, places: int) -> str:
    scaled = half_up(abs(exact) * 10**places)
    return f"{Decimal(scaled if exact >= 0 else -scaled).scaleb(-places):.{places}f}"


def leading(expected: Counted, places: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """The line that has the clicks of its channel and affiliate, and the orders of all its lines."""
    lines: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for place in places:
        lines[place[:2]].append(place)
    found: dict[tuple[str, str, str], int] = {}
    for some in lines.values():
        orders = {place: len(expected.orders.get(place, ())) for place in some}
        first = min(some, key=lambda place: (-orders[place], -expected.revenue.get(place, 0), place[2]))
        found[first] = sum(orders.values())
    return found


@pytest.mark.parametrize(("first", "last"), [(0, 99), (5, 6)])
def test_the_report_is_what_a_count_by_hand_comes_to(
    ledger: CommissionLedger, monkeypatch: pytest.MonkeyPatch, first: int, last: int
) -> None:
    """Every line and every channel's sum, of all the time and of a day, however few orders are read at once."""
    monkeypatch.setattr(channels, "ORDERS_AT_ONCE", 7)
    since, until = T0 + first * DAY, T0 + last * DAY
    document, expected = report(ledger, since=since, until=until), count(ledger, since, until)
    lines = [row for row in document.rows if not row["total"]]
    places = {(row["channel"], row["affiliate_id"], row["currency"]): row for row in lines}
    assert len(lines) == len(places) > 5
    assert {place[:2] for place in places} >= set(expected.clicks)
    leads = leading(expected, places)
    for place in places.keys() | expected.revenue.keys() | expected.cost.keys():
        row, clicks = places[place], expected.clicks.get(place[:2], 0) if place in leads else None
        revenue, cost = expected.revenue.get(place, 0), expected.cost.get(place, 0)
        orders = len(expected.orders.get(place, ()))
        found = tuple(row[name] for name in ("clicks", "conversions", "revenue", "cost", "roi", "conversion_rate"))
        roi = text(Fraction(revenue - cost, cost), 2) if cost else ""
        rate = text(Fraction(leads[place], clicks), 4) if clicks else ""
        assert found == (clicks, orders, revenue, cost, roi, rate), place
        assert abs(Fraction(row["credited_conversions"]) - expected.parts.get(place, 0)) < Fraction(1, 10_000)
    for total in (row for row in document.rows if row["total"]):
        some = [place for place in places if (place[0], place[2]) == (total["channel"], total["currency"])]
        assert total["conversions"] == len(set().union(*(expected.orders.get(place, set()) for place in some)))
        for name in ("revenue", "cost"):
            assert total[name] == sum(places[place][name] for place in some)
    for is_total in (False, True):
        rows = [row for row in document.rows if row["total"] == is_total]
        assert sum(row["clicks"] or 0 for row in rows) == document.head.control_totals["clicks"]
        in_order = [(row["currency"], -row["revenue"]) for row in rows]
        assert in_order == sorted(in_order) or not is_total
    for currency, orders in document.head.control_totals["conversions"].items():
        assert orders == len(set().union(*(some for place, some in expected.orders.items() if place[2] == currency)))
        for is_total in (False, True):
            rows = [row for row in document.rows if (row["currency"], row["total"]) == (currency, is_total)]
            assert sum(Fraction(row["credited_conversions"]) for row in rows) == orders


def test_its_totals_are_those_of_the_books(ledger: CommissionLedger) -> None:
    """Cost is what affiliates are owed; all revenue is every sale less what was reversed; touches stand in the log."""
    document = report(ledger)
    totals = document.head.control_totals
    owed: dict[str, int] = defaultdict(int)
    for (account, currency), amount in trial(ledger).items():
        owed[currency] -= amount if account.startswith("liability:") else 0
    assert totals["cost"] == owed
    events = read_log(ledger)
    sold = sum(one.state["amount"] for one in events if one.topic == "ConversionRecorded")
    taken = {one.state["reversal_id"]: one.state["sale_amount"] for one in events if one.topic == "ConversionReversed"}
    assert sum(totals["all_revenue"].values()) == sold - sum(taken.values())
    assert (totals["clicks"], totals["impressions"]) == (90 - 9 + 1, 1)
    assert sum(totals["conversions"].values()) + sum(totals["uncredited"].values()) == 60
    assert min(sum(totals["uncredited"].values()), len(totals["cost"])) > 1


def test_an_offer_can_be_asked_for_and_the_table_says_the_same(ledger: CommissionLedger) -> None:
    """Both offers together are all of it; CSV has the rows of the document; other reports take no offer."""
    whole, parts = report(ledger), [report(ledger, offer=offer) for offer in ("boots", "shoes")]
    for name in ("cost", "revenue"):
        together = sum(sum(part.head.control_totals[name].values()) for part in parts)
        assert together == sum(whole.head.control_totals[name].values())
    assert parts[0].head.parameters == {"offer": "boots"}
    table = list(csv.reader(io.StringIO("".join(catalogue.csv_pieces(whole)))))
    assert table[table.index([]) + 1] == whole.columns
    assert [row[8] for row in table[table.index([]) + 2 :]] == [str(row["revenue"]) for row in whole.rows]


@pytest.mark.parametrize(
    ("numerator", "denominator", "places", "said"),
    [(1, 3, 4, "0.3333"), (2, 3, 4, "0.6667"), (-5, 1000, 2, "-0.01"), (-50, 100, 2, "-0.50"), (-1, 1000, 2, "0.00"),
     (5, 0, 2, "")],
)  # fmt: skip
def test_quotients_are_decimal_text(numerator: int, denominator: int, places: int, said: str) -> None:
    """Halves away from zero; no minus before nothing."""
    assert channels.decimal(numerator, denominator, places) == said
