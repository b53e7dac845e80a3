"""Shared sales in the database and over HTTP: rows that add up, statements of each, and nobody sees another's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from api_world import open_service
from conftest import fresh_database
from flask import Flask
from import_support import MAPPING, L, write
from naive_books import check_by_witness
from statement_world import Firm, open_firm
from support import PROGRAM, by, open_ledger, open_shop, refund

from ledger.audit import replay, views
from ledger.checking.run import check_program
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate, RecruitAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.recording import RecordConversion
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings as Import
from ledger.imports.orders import import_orders
from ledger.imports.reconcile import Settings as Comparison
from ledger.imports.reconcile import reconcile_orders
from ledger.projections import conversions
from ledger.store import migrate
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

PLAN = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "linear"},
    "rules": [{"id": "all", "pay": {"rate_bps": 1000}}],
    "second_level": {"of": "commission", "rate_bps": 1000},
}
OTHERS = {"ada": ("bob", "rob"), "bob": ("ada", "rob"), "rob": ("ada", "bob")}
Row = dict[str, Any]


class World(NamedTuple):
    """A firm whose plan shares credit alike between ada, whom rob recruited, and bob."""

    firm: Firm
    app: Flask
    tokens: dict[str, str]

    def get(self, who: str, path: str) -> Any:
        """A response to a key's request."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        return self.app.test_client().get(f"/v1/programs/firm{path}", headers=headers)

    def rows(self, order_id: str) -> list[Row]:
        """What the work list says of an order."""
        with self.firm.ledger.reading("firm") as (cur, id_):
            cur.execute(
                f"SELECT {', '.join(conversions.COLUMNS)} FROM conversions WHERE program_id = %s AND order_id = %s"
                " ORDER BY share_no",
                (id_, order_id),
            )
            return [dict(zip(conversions.COLUMNS, row, strict=True)) for row in cur]


def history(firm: Firm) -> None:
    """A is refunded in part, B whole, C waited for its click, D is rejected, E stays pending, F is a simple sale."""
    firm.do(EnrolAffiliate(affiliate_id="rob"))
    firm.do(DecideAffiliate(affiliate_id="rob", decision="approve"))
    firm.do(RecruitAffiliate(affiliate_id="ada", recruiter_id="rob"))
    firm.sell("F", 1_000)
    firm.clock.advance(hours=1)
    firm.do(PublishTerms(offer_id="shoes", hold_days=10, window_days=30, plan=PLAN))
    clicks = []
    for affiliate_id in ("ada", "bob"):
        firm.clock.advance(hours=1)
        clicks.append(
            RecordClick(
                click_id=f"k-{affiliate_id}", affiliate_id=affiliate_id, offer_id="shoes", customer_id="c1",
                occurred_at=firm.clock.now,
            )
        )  # fmt: skip
    firm.ledger.record_clicks("firm", clicks, by("link"))
    firm.clock.advance(hours=1)
    for order_id, more in (("A", {}), ("B", {}), ("C", {"click_id": "k-late"}), ("D", {})):
        firm.do(
            RecordConversion(
                order_id=order_id, offer_id="shoes", amount=1_971, customer_id="c1", event_id="sale", channel="blog",
                occurred_at=firm.clock.now, **more,
            )
        )  # fmt: skip
    late = RecordClick(
        click_id="k-late", affiliate_id="bob", offer_id="shoes", customer_id="c1", occurred_at=firm.clock.now
    )
    firm.ledger.record_clicks("firm", [late], by("link"))
    for _ in firm.ledger.attribute_waiting("firm", firm.clock.now, by()):
        pass
    firm.do(DecideConversion(order_id="D", decision="reject", reason="fraud"))
    firm.refund("A", 1_000)
    firm.refund("B")
    firm.clock.advance(days=11)
    firm.approve_due()
    firm.do(
        RecordConversion(
            order_id="E", offer_id="shoes", amount=100, customer_id="c1", occurred_at=firm.clock.now,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    with fresh_database(server, template) as name:
        database = urls(server, name)
        with open_firm(database) as firm, open_service(database) as app:
            app.extensions["ledger"].clock = lambda: firm.clock.now
            history(firm)
            tokens = {}
            for role, who in (("auditor", "auditor"), *(("affiliate", one) for one in OTHERS)):
                tokens[who] = firm.ledger.issue_key(
                    "firm", role=role, holder=f"{who}-holder", holder_kind="person",
                    affiliate_id=who if role == "affiliate" else "", expires_at=firm.clock.now + timedelta(days=999),
                    meta=by("boss"),
                ).token  # fmt: skip
            yield World(firm, app, tokens)


def test_the_rows_of_each_order_add_up(world: World) -> None:
    """Whatever became of it: the sale's amount and what was reversed once, each commission in a row of its own."""
    for order_id, status, taken in (("A", "approved", 1_000), ("B", "reversed", 1_971), ("D", "rejected", 0)):
        rows = world.rows(order_id)
        assert [(row["share_no"], row["affiliate_id"], row["level"]) for row in rows] == [
            (1, "ada", 1), (2, "bob", 1), (3, "rob", 2),
        ]  # fmt: skip
        assert [row["amount"] for row in rows] == [986, 985, 0]
        assert [row["commission"] for row in rows] == [99, 98, 10]
        assert {row["status"] for row in rows} == {status}
        assert sum(row["reversed_amount"] for row in rows) == taken
        assert {(row["customer_id"], row["event_id"], row["channel"]) for row in rows} == {("c1", "sale", "blog")}
    assert [row["reversed_commission"] for row in world.rows("A")] == [50, 50, 5]


def test_shares_that_come_when_the_click_does_have_rows_too(world: World) -> None:
    """C had one row while it waited, and has three since its click came: bob, who had two of three clicks, gets two
    thirds."""
    rows = world.rows("C")
    assert [(row["affiliate_id"], row["amount"], row["commission"]) for row in rows] == [
        ("ada", 657, 66), ("bob", 1_314, 131), ("rob", 0, 7),
    ]  # fmt: skip
    (simple,) = world.rows("F")
    assert (simple["affiliate_id"], simple["amount"], simple["commission"], simple["share_no"]) == (
        "ada",
        1_000,
        100,
        1,
    )


def test_an_order_is_due_once(world: World) -> None:
    """Three pending commissions on E are one order to approve."""
    with world.firm.ledger.reading("firm") as (cur, id_):
        assert conversions.due(cur, id_, "pending", None, 10) == ["E"]
        assert conversions.due(cur, id_, "waiting", None, 10) == []
    text = world.app.test_client().get("/metrics").text
    assert 'ledger_conversions{program="firm",status="pending"} 1.0' in text


def test_the_log_says_the_same_as_all_that_follows_from_it(world: World) -> None:
    """`ledger check` finds nothing, the auditor finds nothing, and a replay has the balances and sums of the rows."""
    report = check_program(world.firm.ledger.pool, "firm")
    assert not report.counts, report.findings
    check_by_witness(world.firm.ledger, "firm")
    with world.firm.ledger.reading("firm") as (cur, id_):
        found = views.believed(replay.from_database(cur, id_))
        cur.execute(
            "SELECT status, currency, count(*) FILTER (WHERE share_no = 1), sum(amount)::bigint,"
            " sum(commission)::bigint, sum(reversed_amount)::bigint, sum(reversed_commission)::bigint"
            " FROM conversions WHERE program_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
            (id_,),
        )
        stored = cur.fetchall()
    assert [tuple(getattr(one, name) for name in one.__struct_fields__) for one in found.conversions] == stored


def test_staff_see_every_share(world: World) -> None:
    """GET /conversions/A: what it comes to, and each commission by itself; a simple sale has no shares."""
    told = world.get("auditor", "/conversions/A").json
    assert (told["status"], told["amount"], told["commission"], told["reversed_commission"]) == (
        "approved", 1_971, 207, 105,
    )  # fmt: skip
    assert told["outstanding"] == 102
    assert [(one["affiliate_id"], one["level"], one["commission"], one["outstanding"]) for one in told["shares"]] == [
        ("ada", 1, 99, 49), ("bob", 1, 98, 48), ("rob", 2, 10, 5),
    ]  # fmt: skip
    assert [one["credited_amount"] for one in told["shares"]][:2] == [986, 985]
    assert "ConversionAttributed" in [event["topic"] for event in told["events"]]
    assert "shares" not in world.get("auditor", "/conversions/F").json
    assert "ConversionAttributed" not in world.get("auditor", "/affiliates/ada/timeline?limit=1000").text


@pytest.mark.parametrize("who", OTHERS)
def test_an_affiliate_sees_its_own_share_and_no_sign_of_the_others(world: World, who: str) -> None:
    """Neither the order, nor its timeline, nor the affiliate's own names another affiliate; amounts are its own."""
    own = next(one for one in world.get("auditor", "/conversions/A").json["shares"] if one["affiliate_id"] == who)
    answer = world.get(who, f"/affiliates/{who}/conversions/A")
    assert answer.status_code == 200
    told = answer.json
    assert (told["affiliate_id"], told["status"]) == (who, "approved")
    for field in ("commission", "reversed_commission", "outstanding"):
        assert told[field] == own[field]
    moved = [(line["debit"], line["credit"]) for change in told["changes"] for line in change["lines"]]
    assert len(moved) == 3
    assert all(f":{who}:" in debit + credit for debit, credit in moved)
    assert "shares" not in told
    seen = [answer.text]
    for path in (f"/affiliates/{who}/timeline?order_id=A", f"/affiliates/{who}/timeline?limit=1000"):
        page = world.get(who, path)
        assert page.status_code == 200
        assert "ConversionAttributed" not in page.text
        seen.append(page.text)
    for text in seen:
        assert not [other for other in OTHERS[who] if re.search(rf"\b{other}\b", text)]
    assert world.get(who, f"/affiliates/{OTHERS[who][0]}/conversions/A").status_code in (403, 404)
    if who != "ada":
        assert world.get(who, f"/affiliates/{who}/conversions/F").status_code == 404


def test_a_statement_has_its_own_lines_of_a_shared_sale(world: World) -> None:
    """Each affiliate's statement of the month: A accrued, taken back in part and approved, each with its own amounts.
    The books are still in order afterwards."""
    world.firm.clock.advance(days=60)
    world.firm.close("2026-01")
    lines: dict[str, list[tuple[str, int]]] = {}
    for who in OTHERS:
        found = world.firm.lines(world.firm.statement(who, "2026-01"))
        lines[who] = [(one.event, one.amount) for one in found if one.reference == "A"]
    assert lines == {
        "ada": [("CommissionAccrued", 99), ("ConversionReversed", 50), ("ConversionApproved", 49)],
        "bob": [("CommissionAccrued", 98), ("ConversionReversed", 50), ("ConversionApproved", 48)],
        "rob": [("CommissionAccrued", 10), ("ConversionReversed", 5), ("ConversionApproved", 5)],
    }
    check_by_witness(world.firm.ledger, "firm")


# --- the merchant's own list -------------------------------------------------------------------------------


def test_a_merchants_export_is_compared_with_whole_orders(database: Database, tmp_path: Path) -> None:
    """Imported orders that two affiliates share agree with their file, refunds included; the import counts the
    commission of both; a refund recorded here alone and another amount there are told once and with the sale's figures;
    a bundle of clicks is nothing that a merchant could know."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, PublishOffer(offer_id="bags"), by())
        ledger.execute(PROGRAM, PublishTerms(offer_id="bags", hold_days=30, window_days=30, plan=PLAN), by())
        at = datetime(2010, 1, 1, 9, tzinfo=UTC)
        for who in ("ada", "bob"):
            click = RecordClick(affiliate_id=who, offer_id="bags", customer_id="7", occurred_at=at)
            ledger.record_clicks(PROGRAM, [click], by())
        lines = [L("1", "A", 5, price="3.33"), L("C2", "A", -4, "02 10:00", "3.33")]
        mapping = load_mapping(MAPPING)
        sold, back, both = (write(tmp_path / f"{n}.csv", some) for n, some in enumerate((lines[:1], lines[1:], lines)))
        totals = import_orders(ledger, Import(PROGRAM, "bags", sold, mapping, True, "clerk"))
        assert (totals.orders, totals.gross, totals.commission) == (1, 1_665, 167)
        totals = import_orders(ledger, Import(PROGRAM, "bags", back, mapping, True, "clerk"))
        assert (totals.reversed_amount, totals.reversed_commission) == (1_332, 67 + 66)
        bundle = RecordConversion(
            order_id="~clicks-1", offer_id="bags", amount=0, affiliate_id="ada", event_id="click", click_count=5,
            occurred_at=datetime(2010, 1, 1, 20, tzinfo=UTC),
        )  # fmt: skip
        ledger.execute(PROGRAM, bundle, by())
        agreed = reconcile_orders(ledger, Comparison(PROGRAM, both, mapping, "clerk"))
        assert (agreed.orders_there, agreed.orders_here, agreed.differences) == (1, 1, [])
        ledger.execute(PROGRAM, refund("r", "1", 100, occurred_at=datetime(2010, 1, 2, 9, tzinfo=UTC)), by())
        other = write(tmp_path / "b.csv", [lines[0]._replace(quantity=6), lines[1]])
        report = reconcile_orders(ledger, Comparison(PROGRAM, other, mapping, "clerk"))
        found = {one.break_id: (one.expected, one.found) for total in report.differences for one in total.first}
        assert found == {"orders:amount_differs:1": (1_665, 1_998), "orders:refunded_here:1": (1_432, 1_332)}


# --- what was stored before --------------------------------------------------------------------------------


def test_the_rows_of_before_get_what_the_log_knows(empty_database: Database, tmp_path: Path) -> None:
    """The migration fills the new columns of existing rows from the events of the sales, of every program."""
    assert empty_database.owner_url
    for path in sorted(migrate.DIRECTORY.glob("[0-9]*.sql")):
        if path.name < "0017":
            shutil.copy(path, tmp_path)
    migrate.migrate(empty_database.owner_url, tmp_path)
    with psycopg.connect(empty_database.owner_url, autocommit=True) as conn:
        for n, said in enumerate(['"customer_id":"c1","channel":"blog"', '"event_id":"lead"'], 1):
            id_ = UUID(int=n)
            conn.execute(
                "INSERT INTO conversions (program_id, order_id, originator_id, status, affiliate_id, offer_id,"
                " currency, amount, commission, reversed_amount, reversed_commission, occurred_at, position)"
                " VALUES (%s, 'o', %s, 'approved', 'ada', 'shoes', 'GBP', 5, 1, 0, 0, now(), 9)",
                (id_, id_),
            )
            conn.execute(
                "INSERT INTO book_events VALUES (%s, 7, %s, 1, 'ConversionRecorded', now(), '', '', '', '', %s,"
                " sha256(''))",
                (id_, id_, f'{{"order_id":"o",{said}}}'),
            )
        shutil.copy(migrate.DIRECTORY / "0017_shares.sql", tmp_path)
        migrate.migrate(empty_database.owner_url, tmp_path)
        rows = conn.execute(
            "SELECT share_no, level, commission_currency, recorded_position, customer_id, event_id, channel"
            " FROM conversions ORDER BY program_id"
        ).fetchall()
    assert rows == [(1, 1, "GBP", 7, "c1", None, "blog"), (1, 1, "GBP", 7, None, "lead", None)]
