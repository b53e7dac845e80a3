"""POST /impressions: one or many, each recorded once, and accepted by everything that reads the traffic log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from flask import Flask
from http_support import Shop, ledger_of_module, serving

from ledger.checking import check_program
from ledger.store.embedded import EmbeddedServer

AT = "2026-01-01T12:00:00Z"
WHAT = {"affiliate_id": "ada", "offer_id": "shoes", "occurred_at": AT}


class World(Shop):
    """A shop and an ingest key."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self.key = self.bearer()

    def one(self, **fields: Any) -> Any:
        return self.client.post(f"{self.prefix}/impressions", json={**WHAT, **fields}, headers=self.key)

    def many(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        said: Any = self.client.post(
            f"{self.prefix}/impressions", data=b"\n".join(map(msgspec.json.encode, lines)), headers=self.key,
            content_type="application/x-ndjson",
        )  # fmt: skip
        assert said.status_code == 200, said.text
        return [msgspec.json.decode(line) for line in said.data.splitlines()]


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with ledger_of_module(server, template) as ledger, serving(ledger) as app:
        yield app


@pytest.fixture
def world(app: Flask) -> World:
    return World(app)


def test_an_impression_is_recorded_once(world: World) -> None:
    """201, then 200 with the same answer; other content is a conflict that names the fields."""
    who = {"customer_id": "c9", "visitor_id": "v9", "channel": "blog"}
    first = world.one(impression_id="i-1", **who)
    assert (first.status_code, first.json) == (201, {"impression_id": "i-1", "position": 1})
    again = world.one(impression_id="i-1", **who)
    assert (again.status_code, again.json) == (200, first.json)
    other = world.one(impression_id="i-1", **{**who, "visitor_id": "v8", "channel": "mail"})
    assert other.status_code == 409
    assert [one["pointer"] for one in other.json["errors"]] == ["/visitor_id", "/channel"]
    assert world.log() == [{"impression_id": "i-1", **WHAT, **who}]


def test_an_id_of_ours_is_another_each_time(world: World) -> None:
    """Without an impression_id one is made; a click of the same id is something else."""
    ids = {world.one().json["impression_id"] for _ in range(3)}
    assert len(ids) == 3
    click = {**WHAT, "click_id": min(ids)}
    assert world.client.post(f"{world.prefix}/clicks", json=click, headers=world.key).status_code == 201
    assert len(world.log()) == 4


BAD: list[tuple[dict[str, Any], str]] = [
    ({"affiliate_id": "a/b"}, "/affiliate_id"),
    ({"occurred_at": "yesterday"}, "/occurred_at"),
    ({"impression_id": "x" * 129}, "/impression_id"),
    ({"customer_id": "jane@example.com"}, "/customer_id"),
    ({"visitor_id": "jane@example.com"}, "/visitor_id"),
    ({"channel": ""}, "/channel"),
    ({"ip": "203.0.113.7"}, "/ip"),
    ({"click_id": "k"}, "/click_id"),
]


def test_a_bad_impression_spoils_no_other(world: World) -> None:
    """Each bad line is refused with its pointer; what is around it is recorded, twins once."""
    lines = [{**WHAT, "impression_id": f"i{n // 2}"} for n in range(40)]
    results = world.many(lines + [{**WHAT, **fields} for fields, _ in BAD])
    assert [one["status"] for one in results] == [201, 200] * 20 + [422] * len(BAD)
    assert [one["problem"]["errors"][0]["pointer"] for one in results[40:]] == [pointer for _, pointer in BAD]
    assert [one["impression_id"] for one in world.log()] == [f"i{n}" for n in range(20)]


def test_only_who_may_ingest_records_impressions(world: World) -> None:
    """Nobody else's key, and none at all, is let through."""
    for role in ("auditor", "affiliate", "admin"):
        said: Any = world.client.post(f"{world.prefix}/impressions", json=WHAT, headers=world.bearer(role))
        assert said.status_code == 403, role
    assert world.client.post(f"{world.prefix}/impressions", json=WHAT).status_code == 401
    assert world.log() == []


def test_the_check_knows_impressions(world: World) -> None:
    """Log, leaves and touches agree; and a row that says something else is found."""
    world.many([{**WHAT, "visitor_id": f"v{n}", "customer_id": "c1", "duplicate": n == 3} for n in range(8)])
    report = check_program(world.ledger.pool, world.program)
    assert report.findings == []
    assert (report.checked["traffic events"], report.checked["touches"]) == (8, 16)
