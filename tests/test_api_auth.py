"""Access keys over HTTP: issued to others, expiring, rotated, revoked; and what requests leave in the log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from api_world import OPERATOR, World, make_world, open_service
from conftest import fresh_database
from flask import Flask
from psycopg_pool import PoolTimeout

from api import auth, create_app
from ledger import reads
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer

KEY = {"role": "auditor", "holder": "eve", "holder_kind": "person", "expires_at": "2027-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


def works(world: World, token: str) -> bool:
    """Whether a key opens the list of offers."""
    return bool(world.call("", "GET", "/offers", token=token).status_code == 200)


def test_an_issued_key_works_and_is_listed_without_its_secret(world: World) -> None:
    """The token is in the answer once; the list names holder, role and end, and never the secret."""
    issued = world.call("admin", "POST", "/keys", KEY)
    assert issued.status_code == 201
    assert issued.headers["Cache-Control"] == "no-store"
    token = issued.json["token"]
    assert works(world, token)
    listed = world.call("auditor", "GET", "/keys?limit=1000")
    mine = next(one for one in listed.json["items"] if one["key_id"] == issued.json["key_id"])
    assert (mine["holder"], mine["role"], mine["issued_by"]) == ("eve", "auditor", "admin-holder")
    assert token.rpartition("_")[2] not in listed.text


def test_nobody_issues_a_key_to_themselves(world: World) -> None:
    """The issuer's own name as holder is refused, and a key for an affiliate needs an affiliate."""
    refused = world.call("admin", "POST", "/keys", KEY | {"holder": "admin-holder"})
    assert (refused.status_code, refused.json["code"]) == (403, "same_person")
    for wrong in ({"role": "affiliate"}, {"affiliate_id": "uk"}):
        answer = world.call("admin", "POST", "/keys", KEY | wrong)
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/affiliate_id")
    past = world.call("admin", "POST", "/keys", KEY | {"expires_at": "2020-01-01T00:00:00Z"})
    assert (past.status_code, past.json["errors"][0]["pointer"]) == (422, "/expires_at")


def test_a_key_expires(world: World) -> None:
    """From its end on a key opens nothing, remembered or not."""
    token = world.issue("auditor", "short", days=1)
    assert works(world, token)
    world.now += timedelta(days=1)
    assert not works(world, token)


def test_a_revoked_key_stops_within_five_seconds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered key is believed for two seconds; after those a revocation is in force."""
    issued = world.call("admin", "POST", "/keys", KEY).json
    assert works(world, issued["token"])
    assert world.call("admin", "POST", f"/keys/{issued['key_id']}/revoke").json["status"] == "revoked"
    assert world.call("admin", "POST", f"/keys/{issued['key_id']}/revoke").status_code == 200
    assert world.call("admin", "POST", "/keys/0000/revoke").status_code == 404
    assert auth.REMEMBERED_SECONDS < 5
    now = time.monotonic() + auth.REMEMBERED_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert not works(world, issued["token"])


def test_rotation_changes_the_secret_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new key has the old one's role and holder; the old one ends, or stays when asked to."""
    old = world.call("admin", "POST", "/keys", KEY).json
    assert world.call("admin", "POST", f"/keys/{old['key_id']}/rotate").status_code == 403
    rotate = f"/keys/{old['key_id']}/rotate"
    kept = world.call("", "POST", rotate, {"revoke_old": False}, token=old["token"]).json
    assert works(world, old["token"])
    assert works(world, kept["token"])
    new = world.call("", "POST", rotate, token=old["token"]).json
    now = time.monotonic() + auth.REMEMBERED_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert works(world, new["token"])
    assert not works(world, old["token"])
    again = world.call("", "POST", rotate, token=new["token"])
    assert (again.status_code, again.json["code"]) == (409, "wrong_state")
    listed = {one["key_id"]: one for one in world.call("admin", "GET", "/keys").json["items"]}
    for field in ("role", "holder", "holder_kind", "expires_at"):
        assert listed[new["key_id"]][field] == listed[old["key_id"]][field]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer clk_", "Bearer clk__", "Bearer clk_a_", "Bearer clk_\x7f_x",
     "Bearer clk_a_ü", "Bearer xyz_a_b", "clk_a_b", "Bearer  clk_a_b", "Bearer clk_" + "a" * 5000 + "_b"],
)  # fmt: skip
def test_a_header_that_is_no_key_is_401(world: World, header: str) -> None:
    """Whatever stands in the header, the answer is the same 401."""
    answer = world.call("", "GET", "/offers", headers={"Authorization": header})
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")


def test_the_scheme_is_not_case_sensitive(world: World) -> None:
    """RFC 9110, section 11.1: `bearer` is `Bearer`."""
    assert (
        world.call("", "GET", "/offers", headers={"Authorization": f"bearer {world.tokens['auditor']}"}).status_code
        == 200
    )


def test_while_the_database_is_down_only_keys_seen_just_now_are_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in memory gets past the door (and then hears 503 from the books); another hears 503 at the door."""
    assert world.call("auditor", "GET", "/offers").status_code == 200

    def down(*_: object) -> None:
        raise PoolTimeout

    monkeypatch.setattr(reads, "fetch", down)
    for role, path in (("auditor", "/affiliates/uk/balance"), ("finance_maker", "/offers")):
        answer = world.call(role, "GET", path)
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"]
    assert world.call("auditor", "GET", "/offers").status_code == 200
    assert world.client.get("/readyz").status_code == 503
    assert world.client.get("/healthz").status_code == 200
    assert "ledger_up 0.0" in world.client.get("/metrics").text


def test_the_request_id_is_the_callers_or_a_new_one(world: World) -> None:
    """A well-formed X-Request-Id comes back, stands in the event and the problem; anything else is replaced."""
    sent = world.call("ingest", "POST", "/conversions", {}, headers={"X-Request-Id": "trace-1"})
    assert (sent.headers["X-Request-Id"], sent.json["instance"]) == ("trace-1", "trace-1")
    odd = world.call("ingest", "GET", "/nothing", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    assert odd != "a b"
    assert len(odd) >= 16
    world.call("admin", "PUT", "/offers/x", {"offer_name": "x"}, headers={"X-Request-Id": "trace-2"})
    assert "trace-2" in world.call("auditor", "GET", "/events?limit=1000").text


def test_the_log_has_a_line_a_request_and_no_secret(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """One JSON line: who, what, how it ended; no query, body, path value, token or header in it."""
    client = create_app(world.ledger).test_client()
    capfd.readouterr()
    client.post(
        f"/v1/programs/{world.program}/affiliates/canary-path/suspend?canary-query=1",
        json={"reason": "canary-body"},
        headers={"Authorization": f"Bearer {world.tokens['admin']}", "User-Agent": "canary"},
    )
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    said = json.loads(lines[0])
    assert (said["method"], said["status"], said["program"]) == ("POST", 404, world.program)
    assert said["route"].endswith("/affiliates/<slug:affiliate_id>/suspend")
    assert "canary" not in lines[0]
    assert world.tokens["admin"].rpartition("_")[2] not in lines[0]


def test_a_failure_nobody_foresaw_tells_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a view is a 500 problem with the request id, and none of its text."""

    def broken(*_: object) -> None:
        raise RuntimeError("SELECT canary FROM secrets")

    monkeypatch.setattr(world.ledger, "execute", broken)
    answer = world.sell()
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert answer.json["instance"] == answer.headers["X-Request-Id"]
    assert "canary" not in answer.text
    assert OPERATOR.actor not in answer.text


def test_an_outage_does_not_take_every_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one request waits for a database that is down, the others hear 503 at once; and all is well afterwards."""
    waiting, go_on = threading.Event(), threading.Event()
    real = reads.access_key

    def slow(*_: object) -> None:
        waiting.set()
        assert go_on.wait(20)
        raise PoolTimeout

    monkeypatch.setattr(reads, "access_key", slow)
    go_on.set()
    assert world.call("auditor", "GET", "/offers").status_code == 503
    go_on.clear()
    waiting.clear()
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(world.call, "auditor", "GET", "/offers")
        assert waiting.wait(20)
        assert world.call("finance_maker", "GET", "/offers").status_code == 503
        assert not first.done()
        go_on.set()
        assert first.result().status_code == 503
    monkeypatch.setattr(reads, "access_key", real)
    assert world.call("auditor", "GET", "/offers").status_code == 200
    assert world.call("finance_maker", "GET", "/offers").status_code == 200
