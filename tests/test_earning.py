"""What is earned beside sales, from outside: what nobody may say of bundles and bonuses; goals; the verbs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from api_world import World, make_world, open_service
from api_world import sale as api_sale
from click.testing import CliRunner
from support import MASTER_KEY, PROGRAM, T0, by, read_log
from test_paying_clicks import DAY, PLAN, clicked, ledger  # noqa: F401 - fixtures

from ledger.application import CommissionLedger
from ledger.cli import cli
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.offer import DecideTerms, PublishTerms
from ledger.store.database import Database

# --- outside --------------------------------------------------------------------------------------------------


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with open_service(database) as app:
        yield make_world(app)


def test_nobody_outside_sends_bundles(world: World) -> None:
    """The API knows no members of bundles and takes no id of the ledger's own; visitor and product it takes."""
    for member in ("click_count", "clicks_after", "clicks_until"):
        refused = world.sell(order_id="~clicks-1", **{member: 3})
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, f"/{member}")
    assert world.sell(order_id="~clicks-1").status_code == 422
    lines = json.dumps(api_sale("~goal-1")) + "\n" + json.dumps(api_sale("o2") | {"click_count": 1})
    answers = world.call("ingest", "POST", "/conversions", data=lines, content_type="application/x-ndjson")
    assert [json.loads(line)["status"] for line in answers.text.splitlines()] == [422, 422]
    item = {"sku": "s", "amount": 1970, "product": "boots"}
    assert world.sell(order_id="o3", visitor_id="v1", items=[item]).status_code == 201
    told = next(one.state for one in read_log(world.ledger, world.program) if one.topic == "ConversionRecorded")
    assert (told["visitor_id"], told["items"][0]["product"]) == ("v1", "boots")


@pytest.mark.parametrize("event", ["click", "goal"])
def test_the_events_of_bundles_and_bonuses_are_the_ledgers_own(world: World, event: str) -> None:
    """A sale that calls itself so is refused, alone and among others; any other event is the merchant's."""
    refused = world.sell(event_id=event)
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "/event_id")
    lines = json.dumps(api_sale("o1") | {"event_id": event}) + "\n" + json.dumps(api_sale("o2") | {"event_id": "lead"})
    answers = world.call("ingest", "POST", "/conversions", data=lines, content_type="application/x-ndjson")
    assert [json.loads(line)["status"] for line in answers.text.splitlines()] == [422, 201]


def test_nothing_happens_in_the_future(world: World) -> None:
    """A day ahead is taken, a second more is refused, be it a sale, a click or an impression; a retry is not judged."""
    near, far = ((world.now + DAY + timedelta(seconds=n)).isoformat() for n in (0, 1))
    touch = {"affiliate_id": "uk", "offer_id": "spring"}
    for path, body, id_ in (
        ("/conversions", api_sale("o"), "order_id"), ("/clicks", touch, "click_id"),
        ("/impressions", touch, "impression_id"),
    ):  # fmt: skip
        assert world.call("ingest", "POST", path, body | {id_: "near", "occurred_at": near}).status_code == 201
        refused = world.call("ingest", "POST", path, body | {id_: "far", "occurred_at": far})
        assert refused.status_code == 422
        (error,) = refused.json["errors"]
        assert error["pointer"] == "/occurred_at"
        assert "must not be more than a day in the future" in error["detail"]
        world.now -= DAY
        assert world.call("ingest", "POST", path, body | {id_: "near", "occurred_at": near}).status_code == 200
        world.now += DAY


# --- goals ----------------------------------------------------------------------------------------------------


def test_an_affiliate_sees_how_far_it_has_come(world: World) -> None:
    """By its own override and in the period that is going on: counted, target, percent rounded down, and the bonus."""
    sales = {"id": "three", "by": "conversions", "period": "month", "target": 3, "bonus_amount": 900}
    plan = {"plan": 1, "currency": "GBP", "rules": [{"id": "all", "pay": {"rate_bps": 1000}}], "goals": [sales]}
    own = [sales | {"target": 2}, {"id": "turnover", "by": "revenue", "period": "year", "target": 7000}]
    plan["overrides"] = [{"id": "uk", "affiliates": ["uk"], "goals": own}]
    terms = PublishTerms(offer_id="spring", hold_days=30, window_days=30, plan=plan, effective_from=world.now - DAY)
    world.ledger.execute(world.program, terms, by())
    world.ledger.execute(world.program, DecideTerms(offer_id="spring", terms_version=2, approve=True), by("ben"))
    world.sell("old", occurred_at="2026-05-31T12:00:00Z")
    world.sell("one", occurred_at="2026-06-01T12:00:00Z")

    def progress() -> list[tuple[Any, ...]]:
        items = world.call("affiliate", "GET", "/affiliates/uk/goals").json["items"]
        return [
            (i["goal"], i["period"], i["counted"], i["target"], i["percent"], i["reached"], i["bonus"]) for i in items
        ]

    assert progress() == [
        ("three", "2026-06", 1, 2, 50, False, None),
        ("turnover", "2026", 3940, 7000, 56, False, None),
    ]
    world.sell("two", occurred_at="2026-06-01T13:00:00Z")
    (_, _, counted, _, percent, reached, bonus), _ = progress()
    assert (counted, percent, reached, bonus["status"]) == (2, 100, True, "pending")
    assert bonus["order_id"].startswith("~goal-three-2026-06-")
    told = world.call("auditor", "GET", f"/conversions/{bonus['order_id']}").json
    assert bonus["position"] == told["events"][1]["position"]
    told = world.call("auditor", "GET", "/affiliates/uk/goals?at=2026-05-31T20:00:00Z").json
    assert [(i["period"], i["counted"]) for i in told["items"]] == [("2026-05", 1), ("2026", 3 * 1970)]
    everybody = world.call("finance_maker", "GET", "/goals?limit=1").json
    assert [(i["affiliate_id"], i["goal"], i["bonus"]["status"]) for i in everybody["items"]] == [
        ("uk", "three", "pending")
    ]
    rest = world.call("auditor", "GET", f"/goals?after={everybody['next']}").json
    assert ([(i["goal"], i["percent"]) for i in rest["items"]], rest["next"]) == ([("turnover", 84)], None)
    assert world.call("affiliate", "GET", "/goals").status_code == 403
    later = PublishTerms(offer_id="spring", hold_days=30, window_days=30, rate_bps=500, effective_from=world.now + DAY)
    world.ledger.execute(world.program, later, by())
    world.now += 2 * DAY
    world.call("finance_maker", "POST", f"/conversions/{bonus['order_id']}/reject", {"reason": "wrong"})
    told = world.call("affiliate", "GET", "/affiliates/uk/goals").json
    (earned,) = told["earned"]
    assert (told["items"], earned["goal"], earned["period"]) == ([], "three", "2026-06")
    assert (earned["amount"], earned["status"], earned["order_id"]) == (900, "rejected", bonus["order_id"])
    assert world.call("affiliate", "GET", "/affiliates/other/goals").status_code in (403, 404)
    assert world.call("auditor", "GET", "/affiliates/nobody/goals").status_code == 404


def test_the_verbs_pay_clicks_show_goals_and_report_channels(
    ledger: CommissionLedger,  # noqa: F811 - the fixture
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a person on the server sees; the second payment finds nothing more."""
    goal = {"id": "hundred", "by": "revenue", "period": "month", "target": 10_000, "bonus_amount": 500}
    later = {"hold_days": 30, "window_days": 30, "effective_from": T0 + 11 * DAY}
    ledger.execute(PROGRAM, PublishTerms(offer_id="shoes", plan=PLAN | {"goals": [goal]}, **later), by())
    ledger.record_clicks(PROGRAM, [clicked(n, 1.5, channel="search") for n in range(3)], by())
    monkeypatch.setenv("DATABASE_URL", database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())

    def run(*args: str) -> str:
        result = CliRunner().invoke(cli, [*args, "--program", PROGRAM], catch_exceptions=False, standalone_mode=False)
        return f"{result.output}{result.return_value or ''}"

    assert [run("clicks", "pay", "--by", "ana") for _ in range(2)] == ["3 clicks paid\n", "0 clicks paid\n"]
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="bob", decision="close"), by())
    ledger.record_clicks(PROGRAM, [clicked(7, 1.6), *(clicked(n, 1.7, "bob") for n in (8, 9))], by())
    said = "1 click paid, 2 kept as exceptions (ledger exceptions)\n1"
    assert run("clicks", "pay", "--by", "ana") == said
    assert run("goals", "--at", "2026-01-04") == "none\n"
    (row,) = [line.split() for line in run("goals", "ada").splitlines() if "hundred" in line]
    assert row[0] == "shoes"
    assert row[3:10] == ["revenue", "0.00", "GBP", "100.00", "GBP", "0", "5.00"]
    report = run("report", "channels", "--to", "2026-02-01").splitlines()
    (line, *_, total) = [line.split() for line in report if "search" in line]
    assert (line[:4], line[-3:]) == (["search", "ada", "GBP", "0.00"], ["0", "0.00", "%"])
    assert total[:3] == ["search", "(all)", "GBP"]
    assert ["total:", "cost", "GBP", "0.26"] in [line.split() for line in report]
    assert max(n for n, line in enumerate(report) if "search" in line) < next(
        n for n, line in enumerate(report) if line.startswith("rule")
    )
