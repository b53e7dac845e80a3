"""Breaks and disputes over HTTP: found, assigned, settled; disputed, answered, accepted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import jsonschema  # type: ignore[import-untyped]
import pytest
from api_world import OPERATOR, World, make_world, open_service
from conftest import fresh_database
from flask import Flask

from ledger.closing import close_period
from ledger.domain.breaks import OpenBreak
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


def check(world: World, name: str, value: Any) -> None:
    """The answer is as the document says."""
    document: Any = world.client.get("/openapi.json").json
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


def test_a_break_from_its_opening_to_its_resolution(world: World) -> None:
    """Listed oldest first with age and owner, page by page; settled with a reason that staff can read."""
    for n, (type_, amount) in enumerate([("missing", 500), ("extra", 700), ("missing", 900)]):
        command = OpenBreak(
            break_id=f"orders:{type_}:A/{n}", source="orders", type=type_, detail="it differs", reference=f"A/{n}",
            expected_amount=amount if type_ == "extra" else None, currency="GBP", text="as the file says",
            found_amount=amount if type_ == "missing" else None,
        )  # fmt: skip
        world.ledger.execute(world.program, command, OPERATOR)
        world.now += timedelta(days=20)
    listed = world.call("auditor", "GET", "/breaks?status=open&limit=2").json
    check(world, "Breaks", listed)
    assert [(b["break_id"], b["age_days"]) for b in listed["items"]] == [
        ("orders:missing:A/0", 60),
        ("orders:extra:A/1", 40),
    ]
    rest = world.call("auditor", "GET", f"/breaks?limit=2&after={listed['next']}").json
    assert [b["break_id"] for b in rest["items"]] == ["orders:missing:A/2"]
    assert rest["next"] is None
    assert {(a["type"], a["age"]): (a["count"], a["amount"]) for a in rest["ageing"]} == {
        ("missing", "31-90"): (1, 500), ("extra", "31-90"): (1, 700), ("missing", "8-30"): (1, 900),
    }  # fmt: skip

    path = f"/breaks/{quote('orders:missing:A/0', safe='')}"
    assigned = world.call("finance_checker", "POST", f"{path}/assign", {"owner": "ben"})
    assert (assigned.status_code, assigned.json["owner"]) == (200, "ben")
    body = {"resolution": "corrected", "cause": "merchant", "reason": "Jane sent it again"}
    refused = world.call("finance_maker", "POST", f"{path}/resolve", body | {"resolution": "vanished"})
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "/resolution")
    settled = world.call("finance_maker", "POST", f"{path}/resolve", body)
    check(world, "BreakAnswer", settled.json)
    assert world.call("finance_maker", "POST", f"{path}/resolve", body).json == settled.json
    world.now += timedelta(days=20)
    seen = world.call("auditor", "GET", path).json
    check(world, "BreakDocument", seen)
    assert (seen["status"], seen["owner"], seen["age_days"]) == ("resolved", "ben", 60)
    assert (seen["text"], seen["reason"], seen["cause"]) == ("as the file says", "Jane sent it again", "merchant")
    assert [b["break_id"] for b in world.call("auditor", "GET", "/breaks?status=open&type=missing").json["items"]] == [
        "orders:missing:A/2"
    ]
    assert world.call("auditor", "GET", "/breaks/none").status_code == 404


def test_a_dispute_from_the_statement_to_the_adjustment(world: World) -> None:
    """The affiliate disputes a line of its own statement, reads the answer, and is paid once two people agreed."""
    accrued = world.sell("A-1").json["position"]
    world.sell("F-1", affiliate_id="fr")
    for _ in close_period(world.ledger, world.program, "2026-01", OPERATOR):
        pass
    late = world.sell("A-2").json["position"]
    body = {"period": "2026-01", "position": accrued, "line_no": 1, "text": "I sold two, says Jane"}
    for wrong in ({"position": late}, {"line_no": 2}, {"period": "2026-02"}, {"position": accrued + 2}):
        no_line = world.call("affiliate", "POST", "/affiliates/uk/disputes", body | wrong)
        assert (no_line.status_code, no_line.json["errors"][0]["pointer"]) == (422, "/position"), wrong
    opened = world.call("affiliate", "POST", "/affiliates/uk/disputes", body)
    assert (opened.status_code, opened.json["status"]) == (201, "open")
    assert world.call("affiliate", "POST", "/affiliates/uk/disputes", body).status_code == 200
    id_ = opened.json["dispute_id"]
    assert id_ == f"2026-01/uk/{accrued}.1"

    path = f"/disputes/{quote(id_, safe='')}"
    assert world.call("finance_maker", "POST", f"{path}/answer", {"text": "which ones?"}).json["status"] == "answered"
    assert world.call("finance_maker", "POST", f"{path}/accept", {"text": "yes"}).status_code == 422
    accepted = world.call("finance_maker", "POST", f"{path}/accept", {"text": "you are right", "amount": 197})
    assert (accepted.status_code, accepted.json["adjustment_id"]) == (200, f"dispute:{id_}")
    assert world.call("finance_maker", "POST", f"{path}/reject", {"text": "no"}).status_code == 409
    adjustment = f"/adjustments/{quote(f'dispute:{id_}', safe='')}"
    assert world.call("finance_checker", "POST", f"{adjustment}/approve").json["status"] == "posted"
    assert world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]["payable"] == 197

    own = world.call("affiliate", "GET", "/affiliates/uk/disputes?period=2026-01").json
    check(world, "Disputes", own)
    (seen,) = world.call("auditor", "GET", "/disputes?status=accepted").json["items"]
    assert world.call("auditor", "GET", path).json == seen
    people = {name: seen.pop(name) for name in ("opened_by", "answered_by", "decided_by")}
    assert people == {
        "opened_by": "affiliate-holder", "answered_by": "finance_maker-holder", "decided_by": "finance_maker-holder",
    }  # fmt: skip
    assert seen.pop("answered_at") <= seen.pop("decided_at")
    assert own["items"] == [seen], "an affiliate is not told staff's names"
    (seen,) = own["items"]
    assert (seen["text"], seen["answers"], seen["decision"]) == (body["text"], ["which ones?"], "you are right")
    assert "Jane" not in world.call("auditor", "GET", "/events").text


def test_a_dispute_is_withdrawn_by_its_own_affiliate_and_rejected_with_words(world: World) -> None:
    """Under its own path only; a second dispute of the line is another one."""
    accrued = world.sell("A-1").json["position"]
    for _ in close_period(world.ledger, world.program, "2026-01", OPERATOR):
        pass
    assert world.now > datetime(2026, 2, 1, tzinfo=UTC)
    body = {"period": "2026-01", "position": accrued, "line_no": 1, "text": "too little"}
    id_ = world.call("affiliate", "POST", "/affiliates/uk/disputes", body).json["dispute_id"]
    withdrawn = world.call("affiliate", "POST", f"/affiliates/uk/disputes/{quote(id_, safe='')}/withdraw")
    assert (withdrawn.status_code, withdrawn.json["status"]) == (200, "withdrawn")
    again = world.call("affiliate", "POST", "/affiliates/uk/disputes", body | {"text": "far too little"}).json
    assert again["dispute_id"] == f"{id_}#2"
    path = f"/disputes/{quote(f'{id_}#2', safe='')}"
    rejected = world.call("finance_maker", "POST", f"{path}/reject", {"text": "the rate is 10 %"})
    assert (rejected.status_code, rejected.json["status"]) == (200, "rejected")
    other = world.call("affiliate", "POST", f"/affiliates/fr/disputes/{quote(id_, safe='')}/withdraw")
    assert other.status_code == 404
