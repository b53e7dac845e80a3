"""Explanations where people ask for them: over HTTP, for staff and for one affiliate, and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from api_world import World, make_world, open_service
from conftest import fresh_database
from flask import Flask
from support import Clock, by, open_ledger, sale
from test_cli import Ledger, ledger, ok, shop  # noqa: F401 - fixtures

from ledger.domain.affiliate import RecruitAffiliate
from ledger.domain.offer import PublishTerms
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

PLAN = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "linear"},
    "rules": [{"id": "all", "pay": {"rate_bps": 1000}}],
}


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    """A sale that uk and fr share, by a click of each and one more of fr's; and one of fr's alone."""
    made = make_world(app)
    body: dict[str, Any] = {"hold_days": 30, "window_days": 30, "plan": PLAN, "effective_from": "2025-12-31T00:00:00Z"}
    proposed = made.call("admin", "POST", "/offers/spring/terms", body)
    approved = made.call("finance_checker", "POST", f"/offers/spring/terms/{proposed.json['terms_version']}/approve")
    assert approved.status_code == 200, approved.text
    for hour, affiliate_id in enumerate(("fr", "uk", "fr")):
        click = {"affiliate_id": affiliate_id, "offer_id": "spring", "customer_id": "c-1"}
        click |= {"occurred_at": f"2026-01-01T0{hour}:00:00Z"}
        assert made.call("ingest", "POST", "/clicks", click).status_code == 201
    assert made.sell("shared", 999, affiliate_id=None, customer_id="c-1").status_code == 201
    assert made.sell("theirs", affiliate_id="fr").status_code == 201
    return made


def test_staff_and_an_affiliate_are_told_why_each_in_its_own_way(world: World) -> None:
    """Staff reads the whole journey; the affiliate its own commission, from the line on its account to here."""
    told = world.call("ingest", "GET", "/conversions/shared/explanation")
    assert told.status_code == 200
    assert [(one["affiliate_id"], one["credit"]["share"]) for one in told.json["commissions"]] == [
        ("fr", "2/3"), ("uk", "1/3"),
    ]  # fmt: skip
    assert [touch["affiliate_id"] for touch in told.json["journey"]["touches"]] == ["fr", "uk", "fr"]
    assert (
        "Affiliate uk is credited with 1/3 (about 33.33 %) of the sale of 9.99 GBP (linear: second of 3 touches)"
        in told.text
    )
    assert world.call("auditor", "GET", "/conversions/shared").json["explanation"] == told.json

    (entry,) = world.call("affiliate", "GET", "/affiliates/uk/entries").json["items"]
    assert (entry["order_id"], entry["amount"]) == ("shared", 33)
    own = world.call("affiliate", "GET", f"/affiliates/uk/conversions/{entry['order_id']}/explanation")
    assert (own.status_code, "journey" in own.json, '"fr"' in own.text) == (200, False, False)
    (one,) = own.json["commissions"]
    assert (one["affiliate_id"], one["accrued"], one["rounding"]["exact"]) == ("uk", 33, "333/10")
    assert "(linear: by a touch of its own)" in one["sentence"]
    assert world.call("affiliate", "GET", "/affiliates/uk/conversions/shared").json["explanation"] == own.json


def test_nothing_is_told_of_an_order_that_is_not_ones_own(world: World) -> None:
    """As if there were none; and a line of no order's leads to none."""
    for path in ("uk/conversions/theirs", "uk/conversions/nobodys", "fr/conversions/theirs"):
        assert world.call("affiliate", "GET", f"/affiliates/{path}/explanation").status_code == 404
    assert world.call("affiliate", "GET", "/conversions/shared/explanation").status_code == 403
    assert world.call("auditor", "GET", "/conversions/nobodys/explanation").status_code == 404
    bonus = {"affiliate_id": "uk", "kind": "bonus", "amount": 100, "reason": "well done"}
    headers = {"Idempotency-Key": "b-1"}
    assert world.call("finance_maker", "POST", "/adjustments", bonus, headers=headers).status_code == 201
    assert world.call("finance_checker", "POST", "/adjustments/b-1/approve").status_code == 200
    items = world.call("auditor", "GET", "/affiliates/uk/entries").json["items"]
    assert [(item["reference"], item["order_id"]) for item in items] == [("shared", "shared"), ("b-1", None)]


def test_the_verb_says_why_and_what_stands(shop: Ledger, database: Database) -> None:  # noqa: F811
    """In words, with a table of the figures; who is not credited is told so."""

    with open_ledger(database) as core:
        core.execute("shop", sale("o1", 12345), by())
    told = ok(shop("explain", "o1", "-p", "shop"))
    assert told.startswith("Affiliate ada is credited with the sale of 123.45 GBP as the affiliate that the sale names")
    assert told.splitlines()[-1].split() == ["ada", "1", "pending", "GBP", "12.35", "0.00", "0.00", "12.35"]
    assert '"order_id":"o1"' in ok(shop("explain", "o1", "-p", "shop", "--affiliate", "ada", "--json"))
    for args, why in ((("o2",), "order o2 does not exist"), (("o1", "--affiliate", "bob"), "affiliate bob is not")):
        refused = shop("explain", *args, "-p", "shop")
        assert (refused.code, why in refused.err) == (1, True)


def test_the_verb_names_whom_a_recruiter_earns_by(shop: Ledger, database: Database) -> None:  # noqa: F811
    """Read from the affiliates' own records; the recruiter itself is not told."""
    clock = Clock(datetime.now(UTC))
    with open_ledger(database, clock) as core:
        clock.advance(minutes=1)
        plan = PLAN | {"second_level": {"rate_bps": 1000}}
        core.execute("shop", PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=plan), by())
        core.execute("shop", RecruitAffiliate(affiliate_id="ada", recruiter_id="bob"), by())
        clock.advance(minutes=1)
        core.execute("shop", sale("o1", 12345, occurred_at=clock()), by())
    assert "Affiliate bob recruited ada, who is credited with this sale, and earns 1.24 GBP" in (
        " ".join(ok(shop("explain", "o1", "-p", "shop")).split())
    )
    told = ok(shop("explain", "o1", "-p", "shop", "--affiliate", "bob"))
    assert told.startswith("Affiliate bob recruited an affiliate that is credited with this sale")
    assert "ada" not in told
