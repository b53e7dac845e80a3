"""POST /clicks: one or many, each line for itself, recorded once, with nothing personal in the clear."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from flask import Flask
from http_support import Shop, ledger_of_module, serving
from support import T0, by, sale

from ledger.store.embedded import EmbeddedServer

AT = "2026-01-01T12:00:00Z"


class World(Shop):
    """A shop and an ingest key."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self.key = self.bearer()

    def one(self, **fields: Any) -> Any:
        click = {"affiliate_id": "ada", "offer_id": "shoes", "occurred_at": AT, **fields}
        return self.client.post(f"{self.prefix}/clicks", json=click, headers=self.key)

    def many(self, body: bytes) -> Any:
        return self.client.post(
            f"{self.prefix}/clicks", data=body, headers=self.key, content_type="application/x-ndjson"
        )

    def results(self, body: bytes) -> list[dict[str, Any]]:
        said = self.many(body)
        assert said.status_code == 200, said.text
        assert said.mimetype == "application/x-ndjson"
        return [msgspec.json.decode(line) for line in said.data.splitlines()]


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with ledger_of_module(server, template) as ledger, serving(ledger) as app:
        yield app


@pytest.fixture
def world(app: Flask) -> World:
    return World(app)


def line(**fields: Any) -> bytes:
    return msgspec.json.encode({"affiliate_id": "ada", "offer_id": "shoes", "occurred_at": AT, **fields})


def test_a_click_is_recorded_and_a_retry_gets_the_same_answer(world: World) -> None:
    """201 with its position, then 200 with the same; another content under the same id is a conflict."""
    first = world.one(click_id="net-1", customer_id="c9", channel="blog")
    assert first.status_code == 201
    assert first.json == {"click_id": "net-1", "position": 1}
    again = world.one(click_id="net-1", customer_id="c9", channel="blog")
    assert (again.status_code, again.json) == (200, first.json)
    other = world.one(click_id="net-1", customer_id="c8", channel="blog")
    assert other.status_code == 409
    assert other.json["errors"][0]["pointer"] == "/customer_id"
    assert len(world.log()) == 1


def test_a_click_without_an_id_gets_a_signed_one(world: World) -> None:
    """Ours says who, what and when, and a sale can name it."""
    click_id = world.one().json["click_id"]
    token = world.ledger.secrets.read_click(world.program_id, click_id)
    assert token is not None
    assert (token.affiliate_id, token.offer_id) == ("ada", "shoes")


def test_personal_fields_are_kept_but_readable_in_no_row(world: World) -> None:
    """sub1-sub5, referrer and user agent are ciphertext; the address is only a hash."""
    canary = "Canary-Jane-Doe"
    said = world.one(
        click_id="p1", sub1=canary, sub5=canary, referrer=f"https://x.example/{canary}", user_agent=canary,
        ip="203.0.113.77",
    )  # fmt: skip
    assert said.status_code == 201
    (state,) = world.log()
    assert canary not in str(state)
    assert "203.0.113.77" not in str(state)
    assert state["personal"]
    assert state["ip_hash"]
    # what is kept counts as content: another sub1 is another click
    assert world.one(click_id="p1", sub1="another", ip="203.0.113.77").status_code == 409


BAD_LINES: list[tuple[bytes, int, str]] = [
    (b"nonsense", 400, ""),
    (b'{"affiliate_id": "ada"', 400, ""),
    (b"[]", 422, ""),
    (line()[:-1] + b',"offer_id":"hats"}', 400, ""),
    (line()[:-1] + b' , "offer_id" : "hats" }', 400, ""),
    (line()[:-1] + b',"\\u006fffer_id":"hats"}', 400, ""),
    (line()[:-1] + b',"sub1":NaN}', 400, ""),
    (b'{"sub1":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, ""),
    (line(affiliate_id=7), 422, "/affiliate_id"),
    (line(affiliate_id="ada/../bob"), 422, "/affiliate_id"),
    (line(affiliate_id=None), 422, "/affiliate_id"),
    (b'{"affiliate_id":"ada","offer_id":"shoes"}', 422, "/occurred_at"),
    (line(occurred_at="2026-01-01T12:00:00"), 422, "/occurred_at"),
    (line(occurred_at="yesterday"), 422, "/occurred_at"),
    (line(occurred_at=1767225600), 422, "/occurred_at"),
    (line(click_id=""), 422, "/click_id"),
    (line(click_id="x" * 257), 422, "/click_id"),
    (line(click_id="a\x00b"), 422, "/click_id"),
    (line(customer_id="jane@example.com"), 422, "/customer_id"),
    (line(visitor_id="jane@example.com"), 422, "/visitor_id"),
    (line(duplicate="yes"), 422, "/duplicate"),
    (line(sub1="x" * 2001), 422, "/sub1"),
    (line(sub6="x"), 422, "/sub6"),
    (line(personal="x"), 422, "/personal"),
    (line(sub1="x" * 66_000), 413, ""),
    (b'{"affiliate_id":"\xff","offer_id":"shoes","occurred_at":"2026-01-01T12:00:00Z"}', 400, ""),
]


def test_one_bad_line_spoils_nothing_else(world: World) -> None:
    """Every bad line gets its own 4xx with a pointer, every good one around it is recorded."""
    lines: list[bytes] = []
    for number, (bad, _, _) in enumerate(BAD_LINES):
        lines += [line(click_id=f"good-{number}"), bad]
    results = world.results(b"\n".join(lines) + b"\n")
    assert [one["line"] for one in results] == list(range(1, 2 * len(BAD_LINES) + 1))
    for number, (bad, status, pointer) in enumerate(BAD_LINES):
        good, refused = results[2 * number], results[2 * number + 1]
        assert (good["status"], good["result"]["click_id"]) == (201, f"good-{number}")
        assert refused["status"] == status, (bad[:100], refused)
        if pointer:
            assert refused["problem"]["errors"][0]["pointer"] == pointer, refused
    assert [one["click_id"] for one in world.log()] == [f"good-{n}" for n in range(len(BAD_LINES))]


def test_the_same_is_refused_when_it_comes_alone(world: World) -> None:
    """A single bad click answers a problem with a pointer, and nothing is stored."""
    for bad, status, pointer in BAD_LINES:
        said: Any = world.client.post(
            f"{world.prefix}/clicks", data=bad, headers=world.key, content_type="application/json"
        )
        assert (said.status_code, said.mimetype) == (status, "application/problem+json"), bad[:100]
        if pointer:
            assert said.json["errors"][0]["pointer"] == pointer, bad[:100]
    assert world.log() == []


def test_ten_thousand_lines_in_one_request(world: World) -> None:
    """As many as are allowed, with duplicates among them, in more than one commit; one more is too many."""
    lines = [line(click_id=f"k{number % 9_990}") for number in range(10_000)]
    results = world.results(b"\n".join(lines))
    assert [one["status"] for one in results] == [201] * 9_990 + [200] * 10
    assert results[9_995]["result"] == results[5]["result"]
    assert len(world.log()) == 9_990
    assert world.many(b"\n".join([*lines, lines[0]])).status_code == 413
    assert world.many(b" " * (16 * 1024 * 1024 + 1)).status_code == 413


def test_empty_lines_are_counted_and_skipped(world: World) -> None:
    """Line numbers are those of the body."""
    results = world.results(b"\n\r\n" + line(click_id="a") + b"\r\n\n" + line(click_id="b"))
    assert [(one["line"], one["status"]) for one in results] == [(3, 201), (5, 201)]
    assert world.results(b"") == []


def test_other_bodies_and_other_keys_are_refused(world: World) -> None:
    """415 for what is neither JSON nor NDJSON; only those who may ingest."""
    wrong = world.client.post(f"{world.prefix}/clicks", data=line(), headers=world.key, content_type="text/plain")
    assert wrong.status_code == 415
    for role in ("auditor", "affiliate", "finance_maker", "finance_checker"):
        said: Any = world.client.post(
            f"{world.prefix}/clicks", data=line(), headers=world.bearer(role), content_type="application/json"
        )
        assert said.status_code == 403, role
    assert world.client.post(f"{world.prefix}/clicks", data=line(), content_type="application/json").status_code == 401
    assert world.log() == []


@pytest.mark.impatient
def test_while_somebody_else_holds_the_log_every_sender_hears_503_in_time(world: World) -> None:
    """Those who queue up behind a sender that waits in vain do not wait in vain after it: two seconds, for each."""
    waits: list[tuple[int, str, float]] = []
    serves = world.client.application

    def send(number: int) -> None:
        time.sleep(0.3 * number)
        began = time.monotonic()
        said = serves.test_client().post(
            f"{world.prefix}/clicks", data=line(), headers=world.key, content_type="application/json"
        )
        waits.append((said.status_code, said.headers["Retry-After"], time.monotonic() - began))

    with world.ledger.reading(world.program) as (cur, id_):
        cur.execute("SELECT 1 FROM log_heads WHERE program_id = %s FOR UPDATE", (id_,))
        threads = [threading.Thread(target=send, args=(number,)) for number in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [status for status, _, _ in waits] == [503] * 7
    assert max(seconds for _, _, seconds in waits) < 2.0
    assert world.one().status_code == 201, "and then it goes on"


def test_a_sale_finds_a_click_of_the_same_customer(world: World) -> None:
    """What POST /clicks records is what attribution reads."""
    world.one(click_id="k1", customer_id="c1")
    command = sale("o1", affiliate_id=None, customer_id="c1", occurred_at=T0 + timedelta(days=9))
    assert world.ledger.execute(world.program, command, by()).body["affiliate_id"] == "ada"
