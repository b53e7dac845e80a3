"""Payees of an API's program, earnings of theirs, and what a bank says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from api_world import OPERATOR, World, make_world, open_service
from conftest import fresh_database
from flask import Flask

from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer

IBANS = {
    "uk": "GB29NWBK60161331926819", "fr": "FR1420041010050500013M02606", "de": "DE89370400440532013000",
    "nl": "NL91ABNA0417164300",
}  # fmt: skip
OURS = {"name": "Shop GmbH", "iban": "DE02120300000000202051", "bic": "BYLADEM1001"}


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


def sepa(affiliate_id: str, minimum_amount: int = 100) -> dict[str, Any]:
    """A payout method's body."""
    details = {"name": f"{affiliate_id.title()} Lovelace", "iban": IBANS[affiliate_id]}
    return {"method": "sepa", "minimum_amount": minimum_amount, "details": details}


def method_path(affiliate_id: str, rest: str = "", currency: str = "EUR") -> str:
    return f"/affiliates/{affiliate_id}/payout-methods/{currency}{rest}"


def pay_to(world: World, affiliate_id: str, body: dict[str, Any], currency: str = "EUR") -> None:
    """Have a payout method proposed and approved."""
    proposed = world.call("finance_maker", "PUT", method_path(affiliate_id, currency=currency), body)
    assert proposed.status_code == 201, proposed.text
    approve = method_path(affiliate_id, f"/{proposed.json['method_version']}/approve", currency)
    seen = {"fingerprint": proposed.json["fingerprint"]}
    assert world.call("finance_checker", "POST", approve, seen).status_code == 200


def earn(world: World, currency: str, amounts: dict[str, int]) -> None:
    """Have affiliates, enrolled if need be, earn commissions that are payable now."""
    for affiliate_id, amount in amounts.items():
        if affiliate_id not in ("uk", "fr"):
            assert world.call("admin", "POST", "/affiliates", {"affiliate_id": affiliate_id}).status_code == 201
            assert world.call("admin", "POST", f"/affiliates/{affiliate_id}/approve").status_code == 200
        order = f"{affiliate_id}-{currency}"
        sold = world.sell(order, amount * 10, affiliate_id=affiliate_id, currency=currency)
        assert sold.json["commission"] == amount
    list(world.ledger.approve_due(world.program, world.now, OPERATOR))


def same_person(world: World, role: str, as_role: str) -> str:
    """A key of another role for the person who has the key of a role."""
    return world.issue(as_role, f"{role}-holder")


def payouts_of(world: World, run_id: str) -> dict[str, dict[str, Any]]:
    """A run's payouts by affiliate."""
    found = world.call("auditor", "GET", f"/payout-runs/{run_id}/payouts").json["items"]
    return {one["affiliate_id"]: one for one in found}


def run_by_hand(world: World) -> dict[str, dict[str, Any]]:
    """A run in GBP that a person pays, rendered. Returns its payouts by affiliate."""
    for affiliate_id in ("uk", "fr"):
        details = {"instructions": f"Cash for {affiliate_id}"}
        pay_to(world, affiliate_id, {"method": "manual", "minimum_amount": 1, "details": details}, "GBP")
    world.now += timedelta(hours=72)
    proposed = world.call(
        "finance_maker", "POST", "/payout-runs", {"period": "2026-05", "currency": "GBP", "method": "manual"}
    ).json
    path = f"/payout-runs/{proposed['run_id']}"
    assert world.call("finance_checker", "POST", f"{path}/approve", {"hash": proposed["hash"]}).status_code == 200
    assert world.call("finance_checker", "POST", f"{path}/initiate").status_code == 200
    assert world.call("finance_checker", "POST", f"{path}/render").status_code == 200
    return payouts_of(world, proposed["run_id"])
