"""Simulations after an applied one: what two people decided stays, unless somebody asks to undo it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import fresh_database
from simulation_world import PLAN, TERMS, Shop, open_history, simulation
from support import MASTER_KEY, PROGRAM, T0, Clock, balance, by, open_ledger, open_shop, sale

from ledger import simulation_job, simulations
from ledger.cli import cli
from ledger.domain.errors import InvalidInput, WrongState
from ledger.domain.offer import PublishTerms
from ledger.simulating.report import simulated
from ledger.simulating.trial import Trial, trial_of
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

FIRST: dict[str, Any] = {"terms": TERMS, "model": "linear", "since": T0 + timedelta(days=10)}
PLANNED_AT = T0 + timedelta(days=20)


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[tuple[Database, Shop]]:
    """A history to which a simulation was applied. No test here applies another."""
    with fresh_database(server, template) as name:
        database = urls(server, name)
        with open_history(database, seed=9, days=40) as shop:
            _run(shop, "sim", **FIRST)
            _apply(shop, "sim")
            yield database, shop


@pytest.fixture
def shop(world: tuple[Database, Shop]) -> Shop:
    return world[1]


def _run(shop: Shop, simulation_id: str, **tried: Any) -> None:
    trial = trial_of("shoes", tried.get("terms"), tried.get("model"), tried.get("since"), tried.get("until"))
    simulations.ask(shop.ledger, PROGRAM, simulation_id, trial, by("maria"))
    assert simulation_job.work(shop.ledger, PROGRAM, shop.clock.now, by("job"))["run"] == 1


def _apply(shop: Shop, simulation_id: str) -> None:
    simulations.propose(shop.ledger, PROGRAM, simulation_id, by("maria"))
    simulations.decide(shop.ledger, PROGRAM, simulation_id, True, by("omar"))
    list(simulations.apply(shop.ledger, PROGRAM, simulation_id, by("maria")))


def _document(shop: Shop, trial: Trial) -> dict[str, Any]:
    with shop.ledger.pool.connection() as conn, simulated(conn, PROGRAM, shop.ledger.secrets, trial) as found:
        return found.document


def test_trying_nothing_finds_nothing_after_an_application(shop: Shop) -> None:
    """What was applied is kept: money, credited conversions, and who is credited with nothing, of every affiliate."""
    document = _document(shop, Trial("shoes", None, None, None, None))
    assert (document["line_count"], document["conversions"]["differing"]) == (0, 0)
    assert document["conversions"]["unattributed_was"] == document["conversions"]["unattributed_would"]
    for one in document["affiliates"]:
        assert (one["difference"], one["reasons"]) == (0, {})
        assert one["conversions_was"] == one["conversions_would"]


def test_what_lies_outside_the_bounds_keeps_what_was_applied(shop: Shop) -> None:
    """Another trial of ten days changes only these; and it counts only these."""
    until = PLANNED_AT + timedelta(days=10)
    with simulation(shop, TERMS, since=PLANNED_AT, until=until) as found:
        inside = [PLANNED_AT <= one.occurred_at < until for one in found.differences()]
        conversions, totals = found.document["conversions"], found.document["totals"]
    assert inside
    assert all(inside)
    assert 0 < conversions["decided"] < conversions["seen"]
    assert totals[-1]["conversions_was"] < 4 * conversions["decided"]
    with simulation(shop, TERMS, since=T0 + timedelta(days=300)) as found:
        assert (found.document["line_count"], found.document["totals"]) == (0, [])


def test_counters_go_on_from_what_was_applied(database: Database) -> None:
    """A tier stands where the application left it, so that trying nothing finds nothing in the sales since; and
    a trial of later sales leaves the order that it changed alone."""
    steps = [{"from": 0, "rate_bps": 1000}, {"from": 80, "rate_bps": 2000}]
    tiers = {"by": "commission", "period": "month", "steps": steps}
    simple = {"hold_days": 30, "window_days": 30}
    plan = {"plan": 1, "currency": "GBP", "rules": [{"id": "all", "pay": {"tiers": tiers}}]}
    clock = Clock(T0 + timedelta(days=1))
    with open_ledger(database, clock) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, PublishTerms(offer_id="shoes", plan=plan, **simple), by())
        ledger.execute(PROGRAM, sale("A", 1000, occurred_at=clock.now), by())
        shop = Shop(ledger, clock)
        _run(shop, "half", terms={**simple, "rate_bps": 500})
        _apply(shop, "half")
        clock.advance(days=5)
        ledger.execute(PROGRAM, sale("B", 1000, occurred_at=clock.now), by())
        assert balance(ledger, "ada") == {"pending": 50 + 100}
        document = _document(shop, Trial("shoes", None, None, None, None))
        assert (document["line_count"], document["totals"][0]["commission_would"]) == (0, 150)
        more = {**simple, "plan": {**plan, "rules": [{"id": "all", "pay": {"rate_bps": 9000}}]}}
        document = _document(shop, trial_of("shoes", more, None, clock.now, None))
    assert [one["order_id"] for one in document["orders"]] == ["B"]
    assert document["conversions"]["over_earlier"] == 0
    assert document["totals"][0]["commission_was"] == 100


def test_undoing_an_earlier_simulation_is_said_and_asked_for(shop: Shop) -> None:
    """Every such difference has a reason of its own; it is proposed only for those who say that they mean it."""
    _run(shop, "undo", terms=TERMS)
    report = simulations.shown(shop.ledger, PROGRAM, "undo")["report"]
    over = report["conversions"]["over_earlier"]
    assert over > 20
    assert report["totals"][-1]["reasons"]["earlier_simulation"]["count"] >= over
    with pytest.raises(WrongState, match=f"{over} orders") as refused:
        simulations.propose(shop.ledger, PROGRAM, "undo", by("maria"))
    assert refused.value.details["over_earlier"] == over
    with pytest.raises(WrongState, match="is done: it must be proposed first"):
        simulations.decide(shop.ledger, PROGRAM, "undo", True, by("omar"))
    assert simulations.propose(shop.ledger, PROGRAM, "undo", by("maria"), undo_earlier=True).outcome == "recorded"
    state = simulations.state_of(shop.ledger, PROGRAM, "undo")
    assert state is not None
    assert state.proposed.over_earlier == over


def test_the_same_simulation_again_undoes_nothing(shop: Shop) -> None:
    """What it found is in the books; where only credit is left to move, that has a reason, too."""
    document = _document(shop, trial_of("shoes", TERMS, "linear", FIRST["since"], None))
    assert document["conversions"]["over_earlier"] == 0
    for one in document["affiliates"]:
        assert one["conversions_was"] == one["conversions_would"] or one["reasons"], one


def test_a_model_of_its_own_options_gives_way_to_any_other(shop: Shop) -> None:
    """--model without --terms drops the options that only the plan's own model reads, not its window for views."""
    for model in ("linear", "time_decay", "coupon_wins", "lifetime", "last_non_direct"):
        said = {"model": "position_based", "weights": [50, 0, 50], "spread": "all", "view_window_days": 3}
        trial = trial_of("shoes", {**TERMS, "plan": {**PLAN, "attribution": said}}, model, None, None)
        terms = trial.tried(None)
        assert terms is not None
        assert terms.document is not None
        assert terms.document["attribution"] == {"model": model, "view_window_days": 3}
    simulations.ask(shop.ledger, PROGRAM, "model", trial_of("shoes", None, "linear", None, None), by("maria"))


def test_all_mistakes_of_the_terms_are_told_at_once() -> None:
    """Of the terms and of their plan, with their places."""
    terms = {"hold_days": -1, "rate": 5, "plan": {"plan": 1, "rules": [{"id": "all", "pay": {}}, {"id": 7}]}}
    with pytest.raises(InvalidInput) as wrong:
        trial_of("shoes", terms, None, None, None)
    pointers = [one["pointer"] for one in wrong.value.details["of_terms"]]
    assert pointers[:3] == ["/rate", "/window_days", "/hold_days"]
    assert {"/plan/rules/0/pay", "/plan/rules/1/id"} <= set(pointers)


def test_the_verb_takes_a_plan_by_itself_and_tells_its_mistakes(world: tuple[Database, Shop], tmp_path: Path) -> None:
    """A plan is held and matched as long as by the terms in force; a mistake is told with its line and column; the
    report is in major units and words; what would undo an earlier simulation is not proposed, nor kept."""
    database, shop = world
    env = {
        "DATABASE_URL": database.app_url,
        "LEDGER_OWNER_URL": database.owner_url,
        "LEDGER_MASTER_KEY": MASTER_KEY.hex(),
        "LEDGER_HOME": str(tmp_path),
    }
    file = tmp_path / "plan.json"

    def run(document: Any, *more: str) -> Any:
        file.write_text(json.dumps(document, indent=1))
        args = ["simulate", "-p", PROGRAM, "--offer", "shoes", "--terms", str(file), *more]
        return CliRunner().invoke(cli, args, env=env)

    found = run({"plan": 1, "rules": [{"id": "flat", "pay": {"rate_bps": 900}}]}, "--propose", "--by", "maria")
    assert found.exit_code == 1, found.output
    assert "--over-earlier" in found.output
    assert "attribution last_click (the terms' own)" in found.output
    assert "undoes an earlier simulation" in found.output
    assert " %" in found.output
    assert [one for one in simulations.page(shop.ledger, PROGRAM, "sim-", 10) if one["simulation_id"] < "sim."] == []
    wrong = run({"plan": 1, "rules": [{"id": "flat", "pay": {"rate_bps": "9"}}], "extra": 1})
    assert wrong.exit_code == 1
    assert f"{file}:7:17: /rules/0/pay/rate_bps: " in wrong.output
    wrong = run({"hold_days": "3", "window_days": 3, "plan": {"plan": 1, "rules": [{"id": 5}]}})
    assert f"{file}:2:15: /hold_days: must be a whole number" in wrong.output
    assert "/plan/rules/0/id: " in wrong.output
