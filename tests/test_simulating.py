"""What if: history is decided again under other terms or another model, and nothing of it is written to the logs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner
from conftest import fresh_database
from simulation_world import PLAN, TERMS, Shop, open_history, simulation
from support import MASTER_KEY, PROGRAM, T0, Clock, by, open_ledger, open_shop, refund, sale, topics

from ledger.application import CommissionLedger
from ledger.cli import cli, simulating
from ledger.domain.click import RecordClick
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.offer import PublishTerms
from ledger.simulating import known, replay, view
from ledger.simulating.report import Difference, Simulated, simulated
from ledger.simulating.trial import Trial, trial_of
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

PLANNED_AT = T0 + timedelta(days=20)
SIMPLE: dict[str, Any] = {"hold_days": 30, "window_days": 30, "rate_bps": 1000}


@pytest.fixture(scope="module")
def history(server: EmbeddedServer, template: str) -> Iterator[tuple[Database, Shop]]:
    """One history for all the tests here: none of them writes to it."""
    with fresh_database(server, template) as name:
        database = urls(server, name)
        with open_history(database) as shop:
            yield database, shop


@pytest.fixture
def shop(history: tuple[Database, Shop]) -> Shop:
    return history[1]


def _same(shop: Shop, trial: Trial) -> dict[str, Any]:
    with shop.ledger.pool.connection() as conn, simulated(conn, PROGRAM, shop.ledger.secrets, trial) as found:
        document = found.document
    assert document["orders"] == []
    assert document["line_count"] == 0
    assert all(one["difference"] == 0 and one["reasons"] == {} for one in document["affiliates"])
    return document


def test_what_is_in_force_comes_to_what_it_came_to(shop: Shop) -> None:
    """The replay is the ledger's own: tiers that reach back, caps, goals, shares, early reversals and rejections lead
    to every affiliate's figures to the cent."""
    document = _same(shop, Trial("shoes", None, None, None, None))
    assert document["conversions"]["seen"] > 200
    assert {"CommissionRepriced", "ReversalDeferred", "ConversionRejected"} <= set(topics(shop.ledger))
    for currency in ("GBP", "EUR"):
        (total,) = (one for one in document["totals"] if one["currency"] == currency)
        with shop.ledger.reading(PROGRAM) as (cur, id_):
            cur.execute(
                "SELECT sum(commission - reversed_commission) FROM conversions WHERE program_id = %s"
                " AND offer_id = 'shoes' AND commission_currency = %s AND status <> 'rejected'",
                (id_, currency),
            )
            assert cur.fetchone() == (total["commission_was"],)


def test_what_does_not_fit_into_memory_is_read_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for a few orders, counters and customers, and a few events at a time, it comes to the same."""
    monkeypatch.setattr(view, "ORDERS_KEPT", 8)
    monkeypatch.setattr(known, "COUNTERS_KEPT", 4)
    monkeypatch.setattr(known, "CUSTOMERS_KEPT", 4)
    monkeypatch.setattr(replay, "EVENTS_AT_ONCE", 7)
    _same(shop, trial_of("shoes", TERMS, None, PLANNED_AT, None))


def test_only_the_sales_of_the_bounds_are_decided_otherwise(shop: Shop) -> None:
    """--from and --to are half-open; what is in force decides the other sales."""
    until = PLANNED_AT + timedelta(days=10)
    document = _same(shop, trial_of("shoes", TERMS, "position_based", PLANNED_AT, until))
    assert 0 < document["conversions"]["decided"] < document["conversions"]["seen"]
    with simulation(shop, SIMPLE, since=PLANNED_AT, until=until) as found:
        days = [one.occurred_at for one in found.differences()]
    assert min(days) >= PLANNED_AT
    assert max(days) < until + timedelta(days=31)  # what a month's counters led to, beyond the bounds


def test_differences_add_up_and_have_a_reason_each(shop: Shop) -> None:
    """Of every affiliate and in total, the amounts of the reasons sum to the difference; and so do the orders."""
    goals = [{**PLAN["goals"][0], "bonus_amount": 900}]
    plan = {**PLAN, "attribution": {"model": "linear"}, "max_amount": 500, "goals": goals}
    with simulation(shop, {**TERMS, "plan": plan}) as found:
        document, differences = found.document, list(found.differences())
    assert document["conversions"]["differing"] > 100
    for one in (*document["affiliates"], *document["totals"]):
        assert sum(reason["amount"] for reason in one["reasons"].values()) == one["difference"]
        assert one["commission_would"] - one["commission_was"] == one["difference"]
    for total in document["totals"]:
        of_orders = [one for one in differences if one.currency == total["currency"]]
        assert sum(one.would_net - one.was_net for one in of_orders) == total["difference"]
    said = {reason for one in document["totals"] for reason in one["reasons"]}
    assert {"attribution", "tier", "bound", "exchange_rate", "goal", "second_level"} <= said
    assert len(document["orders"]) == 20


def test_another_model_moves_credit_and_the_sums_stay(database: Database) -> None:
    """Under plain terms, what one affiliate loses by another model the others get, reversals included."""
    clock = Clock(T0 + timedelta(days=1))
    with open_ledger(database, clock) as ledger:
        open_shop(ledger)
        clicks = [
            RecordClick(affiliate_id=who, offer_id="shoes", occurred_at=T0 - timedelta(hours=hour), customer_id="c1")
            for who, hour in (("ada", 9), ("bob", 5), ("bob", 3))
        ]
        ledger.record_clicks(PROGRAM, clicks, by())
        ledger.execute(PROGRAM, sale("A", 1001, None, customer_id="c1"), by())
        ledger.execute(PROGRAM, refund("r", "A", 100), by())
        trial = trial_of("shoes", None, "first_click", None, None)
        with ledger.pool.connection() as conn, simulated(conn, PROGRAM, ledger.secrets, trial) as found:
            document = found.document
    ada, bob = document["affiliates"]
    assert (ada["commission_was"], ada["commission_would"]) == (0, 90)
    assert (bob["commission_was"], bob["commission_would"]) == (90, 0)
    assert bob["reasons"] == {"attribution": {"count": 1, "amount": -90}}
    assert document["totals"][0]["difference"] == 0
    assert document["orders"] == [
        {
            "order_id": "A",
            "sentence": "bob would earn 0.00 instead of 0.90 GBP: is not credited with the sale;"
            " ada would earn 0.90 instead of 0.00 GBP: is credited with the sale",
        }
    ]


def test_sentences_say_rules_prices_and_major_units(database: Database) -> None:
    """Which rule pays how much instead of which, as people say it."""
    pays = [
        {"plan": 1, "rules": [{"id": who, "pay": {"rate_bps": rate}}]} for who, rate in (("few", 800), ("all", 900))
    ]
    with open_ledger(database, Clock(T0 + timedelta(days=1))) as ledger:
        open_shop(ledger)
        terms = {"hold_days": 30, "window_days": 30}
        ledger.execute(PROGRAM, PublishTerms(offer_id="shoes", plan=pays[0], **terms), by())
        ledger.execute(PROGRAM, sale("A", 16650, occurred_at=T0 + timedelta(days=1)), by())
        said = [
            _sentences(ledger, trial_of("shoes", {**terms, **tried}, None, None, None))
            for tried in ({"plan": pays[1]}, {"rate_bps": 500})
        ]
    assert said[0] == ["ada would earn 14.99 instead of 13.32 GBP: rule all pays 9 % instead of rule few 8 %"]
    assert said[1] == ["ada would earn 8.33 instead of 13.32 GBP: the plain rate pays 5 % instead of rule few 8 %"]


def _sentences(ledger: CommissionLedger, trial: Trial) -> list[str]:
    with ledger.pool.connection() as conn, simulated(conn, PROGRAM, ledger.secrets, trial) as found:
        return [one["sentence"] for one in found.document["orders"]]


def test_the_verb_prints_a_report_and_writes_nothing(history: tuple[Database, Shop], tmp_path: Path) -> None:
    """`ledger simulate` reads the terms from a file, prints or writes its figures, and leaves every table alone."""
    database, shop = history
    before = _counts(shop)
    file, figures, orders = tmp_path / "terms.json", tmp_path / "figures.csv", tmp_path / "orders.csv"
    file.write_text(json.dumps({"offer_id": "shoes", **SIMPLE}))
    env = {
        "DATABASE_URL": database.app_url,
        "LEDGER_OWNER_URL": database.owner_url,
        "LEDGER_MASTER_KEY": MASTER_KEY.hex(),
        "LEDGER_HOME": str(tmp_path),
    }

    def run(*more: str) -> Any:
        return CliRunner().invoke(cli, ["simulate", "-p", PROGRAM, *more], env=env)

    done = run("--terms", str(file), "--csv", str(figures), "--orders", str(orders), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["as_of"] == len(topics(shop.ledger))
    assert len(figures.read_text().splitlines()) == 1 + len(document["affiliates"])
    assert len(orders.read_text().splitlines()) > document["conversions"]["differing"]
    shown = run("--terms", str(file))
    assert "credited to nobody" in shown.output
    assert run().exit_code == 2, "nothing to try"
    assert run("--model", "linear").exit_code == 2, "two offers, and none is named"
    assert _counts(shop) == before


def test_no_cell_of_its_files_runs_as_a_formula(tmp_path: Path) -> None:
    """An order's id and its affiliate's come from strangers; numbers stay numbers, those below nothing, too."""
    names = ("conversions_was", "conversions_would", "commission_was", "commission_would")
    row = {"affiliate_id": "-ada", "currency": "GBP", **dict.fromkeys(names, 5), "difference": -7, "reasons": {}}
    order = Difference('=HYPERLINK("x")', "-ada", 1, 9, 2, 9, 2, 9, "GBP", "tier", "+1 for -ada", T0, T0, True)
    found = SimpleNamespace(document={"affiliates": [row]}, differences=lambda: iter([order]))
    figures, orders = tmp_path / "figures.csv", tmp_path / "orders.csv"
    simulating._print(cast(Simulated, found), True, figures, orders)
    cells = list(csv.reader(figures.open(newline="")))[1]
    assert cells == ["'-ada", "GBP", "5", "5", "5", "5", "-7"]
    cells = list(csv.reader(orders.open(newline="")))[1]
    assert cells == ['\'=HYPERLINK("x")', "'-ada", "1", "GBP", "9", "2", "-7", "tier", "'+1 for -ada"]


def _counts(shop: Shop) -> list[Any]:
    with shop.ledger.reading(PROGRAM) as (cur, id_):
        found = []
        for table in ("book_events", "traffic_events", "journal", "conversions", "simulations", "simulation_lines"):
            cur.execute(f"SELECT count(*) FROM {table} WHERE program_id = %s", (id_,))
            found.append(cur.fetchone())
    return found


@pytest.mark.parametrize(
    ("terms", "model", "field"),
    [
        (None, None, "terms"),
        ({"hold_days": 30, "rate_bps": 1}, None, "window_days"),
        ({**SIMPLE, "rate": 5}, None, "rate"),
        ({**SIMPLE, "rate_bps": "5"}, None, "rate_bps"),
        ({**SIMPLE, "amount": 5}, None, "rate_bps"),
        ({**SIMPLE, "percent": "5"}, None, "percent"),
        ({**SIMPLE, "rate_bps": None, "plan": [1]}, None, "plan"),
        ({**SIMPLE, "rate_bps": None, "plan": {"plan": 1, "rules": []}}, None, "plan/rules"),
        ({**SIMPLE, "rate_bps": None, "amount": 5, "currency": 7}, None, "currency"),
        ({**SIMPLE, "offer_id": "hats"}, None, "offer_id"),
        ({**SIMPLE, "effective_from": "soon"}, None, "effective_from"),
        (SIMPLE, "best_click", "model"),
    ],
)
def test_what_cannot_be_tried_is_refused_by_name(terms: Any, model: str | None, field: str) -> None:
    """A mistake in the terms or the model names its field."""
    with pytest.raises(InvalidInput) as wrong:
        trial_of("shoes", terms, model, None, None)
    assert wrong.value.field == field


def test_an_offer_that_there_is_not_is_refused(shop: Shop) -> None:
    """Another program's offer, or a misspelt one."""
    trial = trial_of("boots", SIMPLE, None, None, None)
    with (
        shop.ledger.pool.connection() as conn,
        pytest.raises(NotFound, match="boots"),
        simulated(conn, PROGRAM, shop.ledger.secrets, trial),
    ):
        pass
