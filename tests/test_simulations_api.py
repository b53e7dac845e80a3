"""Simulations over HTTP: asked for, run by the worker's job, proposed, approved by a second person, applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_world import World, make_world, open_service

from ledger import simulation_job
from ledger.desk import Meta
from ledger.store.database import Database

TERMS = {"hold_days": 30, "window_days": 30, "rate_bps": 1500}
KEY = {"Idempotency-Key": "sim-1"}


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with open_service(database) as app:
        yield make_world(app)


def _ask(world: World, body: dict[str, Any], headers: dict[str, str] = KEY) -> Any:
    return world.call("finance_maker", "POST", "/simulations", body, headers=headers)


def test_from_the_question_to_the_books(world: World) -> None:
    """One request each: 202, a report once the worker has run it, two people, and the balance says so."""
    for n in range(3):
        assert world.sell(f"A-{n}", 1000).status_code == 201
    answer = _ask(world, {"offer_id": "spring", "terms": TERMS})
    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    assert _ask(world, {"offer_id": "spring", "terms": TERMS}).status_code == 200
    assert _ask(world, {"offer_id": "spring", "terms": TERMS, "model": "linear"}).status_code == 422, "reused"
    assert world.call("finance_maker", "POST", "/simulations/sim-1/propose").status_code == 409, "it has not run yet"
    assert world.call("finance_checker", "POST", "/simulations/sim-1/approve").status_code == 409, "nor was it proposed"
    assert world.call("finance_checker", "POST", "/simulations/sim-1/reject").status_code == 409
    assert world.call("finance_checker", "POST", "/simulations/none/reject").status_code == 404
    assert world.call("auditor", "GET", "/simulations/sim-1").json["report"] is None

    assert simulation_job.work(world.ledger, world.program, world.now, Meta("job")) == {"run": 1, "applied": 0}
    shown = world.call("auditor", "GET", "/simulations/sim-1").json
    assert shown["status"] == "done"
    assert shown["report"]["totals"][0]["difference"] == 150
    assert shown["report"]["affiliates"][0]["reasons"] == {"rule_or_rate": {"count": 3, "amount": 150}}

    assert world.call("finance_maker", "POST", "/simulations/sim-1/propose", {"over_earlier": 1}).status_code == 422
    assert world.call("finance_maker", "POST", "/simulations/sim-1/propose").json["status"] == "proposed"
    assert world.call("finance_maker", "POST", "/simulations/sim-1/apply").status_code == 409
    assert world.call("finance_maker", "POST", "/simulations/sim-1/approve").status_code == 403
    other = world.call("finance_checker", "POST", "/simulations/sim-1/approve", {"lines_hash": "0" * 64})
    assert other.status_code == 409
    seen = {"lines_hash": shown["lines_hash"]}
    assert world.call("finance_checker", "POST", "/simulations/sim-1/approve", seen).json["status"] == "approved"
    applied = world.call("finance_maker", "POST", "/simulations/sim-1/apply").json
    assert (applied["status"], applied["application"]["applied"]) == ("applied", 3)
    balance = world.call("auditor", "GET", "/affiliates/uk/balance").json
    assert balance["balances"][0]["pending"] == 450
    (listed,) = world.call("admin", "GET", "/simulations").json["items"]
    assert (listed["simulation_id"], listed["status"], listed["line_count"]) == ("sim-1", "applied", 3)
    decided = world.call("auditor", "GET", "/decisions").json["items"]
    assert [(one["kind"], one["decided_by"]) for one in decided] == [("simulation", "finance_checker-holder")]


def test_a_mistake_is_told_with_its_place(world: World) -> None:
    """The pointer leads into the terms, or to the member beside them."""
    for body, pointer in (
        ({"offer_id": "spring"}, "/terms"),
        ({"offer_id": "spring", "terms": {**TERMS, "hold_days": -1}}, "/terms/hold_days"),
        ({"offer_id": "spring", "terms": {**TERMS, "plan": {}}}, "/terms/rate_bps"),
        ({"offer_id": "spring", "terms": TERMS, "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "/to"),
    ):
        answer = _ask(world, body)
        assert answer.status_code == 422, answer.json
        assert answer.json["errors"][0]["pointer"] == pointer
    wrong = {"hold_days": 5, "rate": 1, "plan": {"plan": 1, "rules": [{"id": "a"}]}}
    answer = _ask(world, {"offer_id": "spring", "terms": wrong})
    assert answer.status_code == 422
    pointers = [one["pointer"] for one in answer.json["errors"]]
    assert pointers == ["/terms/rate", "/terms/window_days", "/terms/plan/rules/0/pay"], answer.json
    assert _ask(world, {"offer_id": "nothing", "terms": TERMS}).status_code == 404
    assert _ask(world, {"offer_id": "spring", "terms": TERMS}, {}).status_code == 400
    assert world.call("auditor", "GET", "/simulations/none").status_code == 404
