"""What an attacker's review of the API and the importer found, each mended and held in place here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest
from api_world import OPERATOR, SOLD_AT, World, make_world, open_service, sale
from conftest import fresh_database
from flask import Flask
from http_support import LANDING, Shop, serving
from import_support import MAPPING, L, exceptions, run, shop, write
from support import PROGRAM, by, open_ledger, read_log

from api import metrics
from api.signature import security_token
from ledger import reads
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.offer import PublishTerms
from ledger.imports.mapping import load_mapping
from ledger.imports.reading import read_lines
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

LONG_AFFILIATE, LONG_OFFER = "a" * 64, "o" * 64


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


# --- click ids -------------------------------------------------------------------------------------------------


def _follow(long_names: Shop) -> str:
    """The click id that a tracking link of the longest names gives out."""
    said = long_names.client.get(f"{long_names.prefix}/c/{LONG_AFFILIATE}/{LONG_OFFER}")
    assert said.status_code == 302, said.text
    return dict(parse_qsl(urlsplit(str(said.location)).query))["click_id"]


@pytest.fixture
def long_names(database: Database) -> Iterator[Shop]:
    """A shop with an affiliate and an offer whose ids are as long as ids may be."""
    with open_ledger(database) as ledger, serving(ledger) as served:
        made = Shop(served)
        for command in (
            EnrolAffiliate(affiliate_id=LONG_AFFILIATE),
            DecideAffiliate(affiliate_id=LONG_AFFILIATE, decision="approve"),
        ):
            ledger.execute(made.program, command, by())
        made.publish(LANDING, LONG_OFFER)
        terms = PublishTerms(offer_id=LONG_OFFER, hold_days=30, window_days=30, rate_bps=1000)
        ledger.execute(made.program, terms, by())
        yield made


def test_a_link_of_the_longest_names_leads_to_a_credited_sale(long_names: Shop) -> None:
    """64 + 64 characters: the visitor is sent on, the click is in the log, and a sale that names it is credited, as
    JSON and as a signed postback without an offer."""
    click_id = _follow(long_names)
    (click,) = long_names.clicks(1)
    assert (click["click_id"], click["affiliate_id"]) == (click_id, LONG_AFFILIATE)
    now = datetime.now(UTC)
    body = {"order_id": "A-1", "offer_id": LONG_OFFER, "amount": 4990, "occurred_at": now.isoformat()}
    sold: Any = long_names.client.post(
        f"{long_names.prefix}/conversions", json=body | {"click_id": click_id}, headers=long_names.bearer()
    )
    assert (sold.status_code, sold.json["affiliate_id"], sold.json["commission"]) == (201, LONG_AFFILIATE, 499)
    told: Any = long_names.client.get(f"{long_names.prefix}/conversions/A-1", headers=long_names.bearer("auditor"))
    evidence = told.json["explanation"]["commissions"][0]["credit"]["click"]
    assert (evidence["click_id"], evidence["traffic_position"]) == (click_id, 1)
    sent = {
        "order_id": "A-2", "amount": "49.90", "transaction_id": _follow(long_names),
        "timestamp": str(int(datetime.now(UTC).timestamp()) + 1),
    }  # fmt: skip
    sent["security_token"] = security_token(long_names.ledger.secrets.postback_secret(long_names.program_id), sent)
    reported: Any = long_names.client.get(f"{long_names.prefix}/postback", query_string=sent)
    assert (reported.status_code, reported.json["affiliate_id"]) == (201, LONG_AFFILIATE)


@pytest.mark.parametrize("path", ["/clicks", "/conversions"])
def test_a_click_id_of_256_characters_is_taken_and_a_longer_one_is_named_as_the_fault(world: World, path: str) -> None:
    """Everybody else's click ids have the same room as ours."""
    body: dict[str, Any] = {"affiliate_id": "uk", "offer_id": "spring", "occurred_at": SOLD_AT}
    body |= {"order_id": "A-1", "amount": 100} if path == "/conversions" else {}
    assert world.call("ingest", "POST", path, body | {"click_id": "é" * 256}).status_code == 201
    for bad in ("x" * 257, "", "a\nb"):
        refused = world.call("ingest", "POST", path, body | {"click_id": bad})
        assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "/click_id")


# --- the importer ----------------------------------------------------------------------------------------------


def test_a_lines_description_is_kept_nowhere(database: Database, tmp_path: Path) -> None:
    """People write names and addresses into it: neither the log nor what an import stages has it, the exception
    is there all the same."""
    path = write(tmp_path / "a.csv", [L("1", "A", 1), L("2", "B", -1), L("C3", "A", -9)])
    with open_ledger(database) as ledger:
        shop(ledger)
        run(ledger, path)
        assert exceptions(ledger) == {"line:2:1": "not_a_sale", "line:C3:1": "unmatched_refund"}
        logged = [row.state for row in read_log(ledger, PROGRAM)]
    facts = [state["fact"] for state in logged if "exception_id" in state]
    assert {fact["sku"] for fact in facts} == {"A", "B"}
    assert ", new" not in repr(logged)
    assert not any("description" in fact for fact in facts)
    staged = [line.fact for line in read_lines(path, load_mapping(MAPPING), "GBP")]
    assert staged[0] is None
    assert ", new" not in repr(staged)


# --- what an affiliate is shown --------------------------------------------------------------------------------


def test_an_affiliate_reads_neither_other_affiliates_names_nor_how_many_clicks_there_were(world: World) -> None:
    """The step that another's click failed is told without whose it was; staff reads all of it."""
    click = {"affiliate_id": "fr", "offer_id": "spring", "occurred_at": "2025-11-01T00:00:00Z", "click_id": "old"}
    assert world.call("ingest", "POST", "/clicks", click).status_code == 201
    click = {"affiliate_id": "uk", "offer_id": "spring", "occurred_at": "2025-12-31T00:00:00Z", "customer_id": "c-1"}
    assert world.call("ingest", "POST", "/clicks", click).status_code == 201
    sold = sale("A-1", click_id="old", customer_id="c-1", affiliate_id=None)
    assert world.call("ingest", "POST", "/conversions", sold).json["affiliate_id"] == "uk"
    staff = world.call("auditor", "GET", "/conversions/A-1").json["explanation"]
    assert [step.get("affiliate_id") for step in staff["steps"]] == ["fr", "uk"]
    assert staff["commissions"][0]["credit"]["click"]["traffic_position_seen"] == 2
    own = world.call("affiliate", "GET", "/affiliates/uk/conversions/A-1")
    shown = own.json["explanation"]
    assert shown["steps"] == [
        {"rule": "click_id", "result": "expired"},
        {"rule": "last_click", "result": "matched", "affiliate_id": "uk"},
    ]
    assert shown["sentence"].startswith("Affiliate uk is credited")
    assert shown["commissions"][0]["credit"]["click"]["traffic_position"] == 2
    assert '"fr"' not in own.text
    assert "traffic_position_seen" not in own.text


def test_the_database_is_asked_the_same_for_anothers_order_as_for_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the time of a 404 does not tell which orders exist."""
    world.sell("theirs", affiliate_id="fr")
    world.sell("nobodys", affiliate_id=None)
    world.sell("kept", offer_id="nope")
    world.sell("mine")
    assert world.call("affiliate", "GET", "/affiliates/uk/conversions/mine").status_code == 200
    asked: list[str] = []
    execute = psycopg.Cursor.execute

    def noted(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        asked.append(str(query))
        return execute(self, query, *args, **more)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    answers: list[tuple[Any, ...]] = []
    for order_id in ("unheard-of", "theirs", "nobodys", "kept"):
        asked.clear()
        said = world.call("affiliate", "GET", f"/affiliates/uk/conversions/{order_id}")
        document = {name: value for name, value in said.json.items() if name != "instance"}
        answers.append((said.status_code, document, [query for query in asked if "api_keys" not in query]))
    assert answers[0][0] == 404
    assert len(answers[0][2]) == 1
    assert answers == answers[:1] * 4


def test_a_sale_that_waited_in_vain_for_its_click_says_what_was_tried(world: World) -> None:
    """The story of an unattributed sale has the steps of its last attribution, also after the waiting."""
    assert world.sell("A-1", click_id="lost", affiliate_id=None).json["status"] == "waiting"
    world.now += timedelta(hours=73)
    list(world.ledger.attribute_waiting(world.program, world.now, OPERATOR))
    told = world.call("auditor", "GET", "/conversions/A-1").json
    assert told["status"] == "unattributed"
    assert told["explanation"]["steps"] == [{"rule": "click_id", "result": "unknown"}]
    assert told["explanation"]["sentence"] == "Nobody is credited: click id: unknown."
    world.sell("A-2", affiliate_id="nobody")
    told = world.call("auditor", "GET", "/conversions/A-2").json
    assert told["explanation"]["sentence"] == "Nobody is credited: named affiliate (nobody): unknown affiliate."


# --- the figures -----------------------------------------------------------------------------------------------


def _scrape(app: Flask, address: str = "127.0.0.1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().get("/metrics", headers=named, environ_overrides={"REMOTE_ADDR": address})


def test_figures_are_for_this_host_and_strangers_find_nothing(world: World) -> None:
    """Without a token only a loopback client that no proxy speaks for is answered; others read the 404 of any
    address that is not there."""
    for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
        assert _scrape(world.app, address).status_code == 200, address
    nothing: Any = world.app.test_client().get("/no-such-address").json
    strangers: list[tuple[str, dict[str, str]]] = [
        (address, {}) for address in ("192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1", "", "unix:")
    ]
    strangers += [
        ("127.0.0.1", {name: "127.0.0.1"})
        for name in ("X_Forwarded_For", "X_Forwarded_Proto", "X_Real_IP", "Forwarded", "Via")
    ]
    strangers.append(("192.0.2.1", {"Authorization": "Bearer "}))
    strangers.append(("192.0.2.1", {"Authorization": f"Bearer {world.tokens['admin']}"}))
    for address, headers in strangers:
        said = _scrape(world.app, address, **headers)
        assert (said.status_code, said.json | {"instance": ""}) == (404, nothing | {"instance": ""}), (address, headers)
        assert world.program not in said.text


def test_with_a_token_the_figures_are_for_whoever_brings_it(
    server: EmbeddedServer, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From anywhere, through proxies too; nobody else, not even on this host, where a proxy may be who asks."""
    monkeypatch.setenv("LEDGER_METRICS_TOKEN", "s3cret")
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        for scheme in ("Bearer", "bearer"):
            said = _scrape(made, "192.0.2.1", Authorization=f"{scheme} s3cret", X_Forwarded_For="198.51.100.7")
            assert said.status_code == 200
            assert "ledger_up 1.0" in said.text
        for given in ("", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", "Bearer é"):
            for address in ("192.0.2.1", "127.0.0.1"):
                refused = _scrape(made, address, **({"Authorization": given} if given else {}))
                assert (refused.status_code, refused.json["code"]) == (401, "unauthorized"), given
                assert refused.headers["WWW-Authenticate"].startswith("Bearer")
                assert "s3cret" not in refused.text


def test_many_scrapes_ask_the_database_once(
    server: EmbeddedServer, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within five seconds the gauges are those of the first scrape, and after them they are asked anew; requests are
    counted all along."""
    asked: list[str] = []
    fetch = reads.fetch

    def noted(pool: Any, query: Any, params: Any) -> Any:
        asked.append(query)
        return fetch(pool, query, params)

    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        world = make_world(made)
        world.sell("A-1")
        now = [1000.0]
        clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
        monkeypatch.setattr(metrics, "time", clock)
        monkeypatch.setattr(reads, "fetch", noted)
        first = _scrape(made).text
        gauge = f'ledger_conversions{{program="{world.program}",status="pending"}}'
        assert f"{gauge} 1.0" in first
        assert any("log_heads" in query for query in asked)
        asked.clear()
        world.sell("A-2")
        now[0] += 4.9
        again = _scrape(made).text
        assert not any("log_heads" in query or "FROM programs" in query for query in asked)
        assert f"{gauge} 1.0" in again
        assert 'ledger_requests_total{operation="metrics",status="200"} 1.0' in again
        now[0] += 0.2
        assert f"{gauge} 2.0" in _scrape(made).text
