"""Commission plans over HTTP: the schema, looking for mistakes, publishing, and what an offer shows of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from api_world import World, make_world, open_service
from conftest import fresh_database
from flask import Flask

from ledger import plan_words
from ledger.domain.plans import plan
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer

CPS = json.loads((Path(__file__).parent.parent / "examples" / "plans" / "cps-tiers.json").read_text())
WRONG: dict[str, Any] = {"plan": 1, "rules": [{"id": "all", "pay": {}}], "mach": "best"}
MISTAKES = ["/mach", "/rules/0/pay"]


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


def publish(world: World, document: Any, role: str = "admin", **more: Any) -> Any:
    body = {"hold_days": 30, "window_days": 30, "plan": document} | more
    return world.call(role, "POST", "/offers/spring/terms", body)


def test_the_schema_is_there_for_everybody(app: Flask) -> None:
    """Without a key, as a JSON Schema that takes a plan and refuses another document."""
    answer = app.test_client().get("/plan-schema")
    assert (answer.status_code, answer.content_type) == (200, "application/schema+json")
    schema: Any = json.loads(answer.data)
    assert jsonschema.Draft202012Validator(schema).is_valid(CPS)
    assert not jsonschema.Draft202012Validator(schema).is_valid(WRONG)
    document: Any = app.test_client().get("/openapi.json").json
    assert document["paths"]["/plan-schema"]["get"]["security"] == []
    sent = document["components"]["schemas"]["TermsBody"]["properties"]["plan"]
    assert sent["externalDocs"]["url"] == "/plan-schema"
    assert jsonschema.Draft202012Validator(schema).is_valid(sent["examples"][0])


def test_a_check_says_every_mistake_and_records_nothing(world: World) -> None:
    """A good plan answers with its hash, a wrong one with a pointer for each mistake, both with 200."""
    before = world.books_position()
    good = world.call("auditor", "POST", "/plans/check", CPS)
    assert (good.status_code, good.json) == (
        200, {"valid": True, "plan_hash": plan.hash_of(CPS), "mistakes": [],
              "words": plan_words.sentences(plan.read(CPS).plan)},
    )  # fmt: skip
    wrong = world.call("finance_maker", "POST", "/plans/check", WRONG)
    assert (wrong.status_code, wrong.json["valid"], wrong.json["plan_hash"]) == (200, False, None)
    assert wrong.json["words"] == []
    assert [one["pointer"] for one in wrong.json["mistakes"]] == MISTAKES
    assert wrong.json["mistakes"][0]["detail"] == 'is not known here; did you mean "match"?'
    no_object = world.call("admin", "POST", "/plans/check", [])
    assert no_object.json["mistakes"] == [{"pointer": "", "detail": "must be an object, not a list"}]
    assert world.books_position() == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"plan": 1, "plan": 1}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * 524_289, "application/json", 413),
    ],
)
def test_a_check_takes_json_and_nothing_else(world: World, body: bytes, kind: str, status: int) -> None:
    """What is no JSON document of bearable size is a problem, not a mistake of a plan."""
    answer = world.call("admin", "POST", "/plans/check", data=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


def test_terms_with_a_plan_are_shown_as_published(world: World) -> None:
    """The offer shows plan and hash of each version, the list of offers only the hash; again changes nothing."""
    answer = publish(world, CPS)
    assert (answer.status_code, answer.json["terms_version"], answer.json["status"]) == (201, 2, "in_force")
    again = publish(world, json.loads(json.dumps(CPS, sort_keys=True)))
    assert (again.status_code, again.json) == (200, answer.json)
    first, second = world.call("auditor", "GET", "/offers/spring").json["terms"]
    assert (first["rate_bps"], first["plan"], first["plan_hash"]) == (1000, None, None)
    assert (second["rate_bps"], second["plan"], second["plan_hash"]) == (None, CPS, plan.hash_of(CPS))
    (listed,) = world.call("auditor", "GET", "/offers").json["items"]
    assert [one["plan_hash"] for one in listed["terms"]] == [None, plan.hash_of(CPS)]
    assert all("plan" not in one for one in listed["terms"])


def test_a_plan_that_reaches_back_is_shown_to_whoever_decides(world: World) -> None:
    """Proposed with its document, then in force by another person's word."""
    assert publish(world, CPS, effective_from="2026-05-01T00:00:00Z").json["status"] == "waiting"
    waiting = world.call("finance_checker", "GET", "/offers/spring").json["terms"][1]
    assert (waiting["status"], waiting["plan"], waiting["plan_hash"]) == ("waiting", CPS, plan.hash_of(CPS))
    assert world.call("finance_checker", "POST", "/offers/spring/terms/2/approve").json["status"] == "in_force"
    decided = world.call("auditor", "GET", "/offers/spring").json["terms"][1]
    assert (decided["plan"], decided["decided_by"]) == (CPS, "finance_checker-holder")
    assert (decided["published_by"], decided["published_at"]) == (decided["decided_by"], decided["decided_at"])
    assert (waiting["published_by"], waiting["published_at"], waiting["effective_until"]) == (None, None, None)


def test_each_version_says_who_published_it_and_until_when_it_prices(world: World) -> None:
    """One person's word, too; what is to come does not yet take the place of what is in force."""
    publish(world, CPS)
    publish(world, CPS, effective_from="2999-01-01T00:00:00Z", hold_days=5)
    terms = world.call("auditor", "GET", "/offers/spring").json["terms"]
    assert [one["status"] for one in terms] == ["superseded", "in_force", "to_come"]
    assert [one["effective_until"] for one in terms] == [*(one["effective_from"] for one in terms[1:]), None]
    assert [one["published_by"] for one in terms] == ["operator", "admin-holder", "admin-holder"]
    assert all(one["published_at"] for one in terms)
    (listed,) = world.call("auditor", "GET", "/offers").json["items"]
    assert [one | {"plan": None} for one in listed["terms"]] == [one | {"plan": None} for one in terms]


def test_a_wrong_plan_is_refused_with_a_pointer_for_each_mistake(world: World) -> None:
    """Pointers lead into the body that was sent; nothing is recorded."""
    before = world.books_position()
    refused = publish(world, WRONG)
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_input")
    assert [one["pointer"] for one in refused.json["errors"]] == [f"/plan{one}" for one in MISTAKES]
    assert "exactly one of" in refused.json["errors"][1]["detail"]
    assert publish(world, CPS, rate_bps=5).json["errors"][0]["pointer"] == "/rate_bps"
    assert publish(world, [1]).json["errors"][0]["pointer"] == "/plan"
    assert publish(world, CPS, role="finance_maker").status_code == 403
    assert world.books_position() == before


def test_a_large_plan_is_taken(world: World) -> None:
    """Up to 256 KiB, though other bodies end at 64."""
    rules = [{"id": f"r{n}", "when": {"sku": ["x" * 120]}, "pay": {"rate_bps": 1}} for n in range(1000)]
    assert publish(world, {"plan": 1, "rules": rules}).status_code == 201
    assert len(world.call("auditor", "GET", "/offers/spring").json["terms"][1]["plan"]["rules"]) == 1000
    too_large = {"plan": 1, "rules": [one | {"when": {"sku": ["x" * 120] * 2}} for one in rules]}
    assert "262,144 bytes" in publish(world, too_large).json["errors"][0]["detail"]
