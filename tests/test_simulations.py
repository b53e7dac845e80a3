"""A simulation's way into the books: proposed, approved by a second person, applied once and exactly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from memory_view import shop as memory_shop
from simulation_world import TERMS, Shop, open_history, simulation
from support import PROGRAM, T0, Clock, balance, by, open_ledger, open_shop, refund, sale, topics

from ledger import simulation_job, simulations
from ledger.application import CommissionLedger
from ledger.checking import check_program
from ledger.domain.affiliate import AffiliateClosed, AffiliateSuspended
from ledger.domain.conversion import CommissionRepriced
from ledger.domain.errors import KeyReused, NotFound, SamePerson, WrongState
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.simulation import (
    ApplyLines,
    DecideSimulation,
    Line,
    ProposeSimulation,
    SimulatedTotal,
    SimulationProposed,
    hash_of_lines,
)
from ledger.simulating.trial import trial_of
from ledger.store.database import Database


@pytest.fixture
def small(database: Database) -> Iterator[Shop]:
    """Three sales of ada's, at ten per cent."""
    clock = Clock(T0 + timedelta(days=1))
    with open_ledger(database, clock) as ledger:
        open_shop(ledger)
        for n in range(3):
            ledger.execute(PROGRAM, sale(f"o{n}"), by())
        yield Shop(ledger, clock)


MORE = {"hold_days": 30, "window_days": 30, "rate_bps": 1500}


def _proposed(shop: Shop, simulation_id: str = "sim", **tried: Any) -> dict[str, Any]:
    """Asked for, run by the worker's job, proposed and approved; returns its report."""
    trial = trial_of("shoes", tried.get("terms"), tried.get("model"), tried.get("since"), tried.get("until"))
    assert simulations.ask(shop.ledger, PROGRAM, simulation_id, trial, by("maria")).body["status"] == "queued"
    assert simulation_job.work(shop.ledger, PROGRAM, shop.clock.now, by("job")) == {"run": 1, "applied": 0}
    simulations.propose(shop.ledger, PROGRAM, simulation_id, by("maria"))
    simulations.decide(shop.ledger, PROGRAM, simulation_id, True, by("omar"))
    report: dict[str, Any] = simulations.shown(shop.ledger, PROGRAM, simulation_id)["report"]
    return report


def _owed(ledger: CommissionLedger) -> dict[tuple[str, str], int]:
    """What the books owe each affiliate, in all buckets, of the commissions on shoes."""
    with ledger.reading(PROGRAM) as (cur, id_):
        cur.execute(
            "SELECT split_part(account, ':', 2), currency, -sum(amount) FROM balances b JOIN log_heads h"
            " ON h.program_id = b.program_id AND h.log = 'books' AND h.generation = b.generation"
            " WHERE b.program_id = %s AND account LIKE 'liability:%%' GROUP BY 1, 2",
            (id_,),
        )
        return {(affiliate_id, currency): int(amount) for affiliate_id, currency, amount in cur}


def test_the_books_come_to_what_the_simulation_said(database: Database) -> None:
    """Model and terms changed for part of history: after the application every affiliate is owed what the report says
    more or less than before; a check of everything is clean; the same simulation again differs in nothing; and
    applying again changes nothing."""
    with open_history(database, seed=9) as shop:
        _applies(shop)


def _applies(shop: Shop) -> None:
    tried = {"terms": TERMS, "model": "linear", "since": T0 + timedelta(days=10)}
    before = _owed(shop.ledger)
    report = _proposed(shop, **tried)
    assert report["conversions"]["differing"] > 30
    steps = list(simulations.apply(shop.ledger, PROGRAM, "sim", by("maria")))
    shown = simulations.shown(shop.ledger, PROGRAM, "sim")
    skipped = shown["application"]["skipped_orders"]
    assert shown["status"] == "applied"
    assert steps[-1].done == steps[-1].total
    changed = {(one["affiliate_id"], one["currency"]): one["difference"] for one in report["affiliates"]}
    after = _owed(shop.ledger)
    with simulation(shop, **tried) as found:
        left = {(one["affiliate_id"], one["currency"]): one["difference"] for one in found.document["affiliates"]}
        assert {one.order_id for one in found.differences()} == {one["order_id"] for one in skipped}
    # what pays in another currency cannot be compensated: those orders are named, and differ still
    assert {one["why"] for one in skipped} <= {"other_currency", "changed"}
    for place, difference in changed.items():
        assert after.get(place, 0) - before.get(place, 0) == difference - left[place], place
    count = len(topics(shop.ledger))
    assert list(simulations.apply(shop.ledger, PROGRAM, "sim", by("maria"))) == []
    assert len(topics(shop.ledger)) == count
    checked = check_program(shop.ledger.pool, PROGRAM)
    assert checked.clean, checked.findings[:3]


def test_an_interrupted_application_goes_on_and_applies_nothing_twice(
    small: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off between an order's commit and its note, it ends as if it had not been; the worker goes on with it."""
    monkeypatch.setattr(simulations, "ORDERS_AT_ONCE", 1)
    _proposed(small, terms=MORE)
    noted = simulations.Simulations.outcomes
    calls = []

    def dies(self: Any, *said: Any) -> None:
        calls.append(said)
        if len(calls) in (1, 3):
            raise RuntimeError("killed")
        noted(self, *said)

    monkeypatch.setattr(simulations.Simulations, "outcomes", dies)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            list(simulations.apply(small.ledger, PROGRAM, "sim", by("maria")))
    assert simulations.shown(small.ledger, PROGRAM, "sim")["status"] == "applying"
    with small.ledger.reading(PROGRAM) as (cur, id_):
        assert simulation_job.waiting_since(cur, id_) == small.clock.now
    assert simulation_job.work(small.ledger, PROGRAM, small.clock.now, by("job")) == {"run": 0, "applied": 1}
    assert balance(small.ledger, "ada") == {"pending": 450}
    assert topics(small.ledger).count("CommissionRepriced") == 3
    with small.ledger.reading(PROGRAM) as (cur, id_):
        assert simulation_job.waiting_since(cur, id_) is None


def test_lines_that_are_not_those_that_were_approved_are_not_applied(small: Shop) -> None:
    """Whoever changes a line in the database changes its hash."""
    _proposed(small, terms=MORE)
    with small.ledger.writing(PROGRAM) as (cur, id_):
        cur.execute("DELETE FROM simulation_lines WHERE program_id = %s AND line_no = 1", (id_,))
    with pytest.raises(WrongState, match="not those that were approved"):
        list(simulations.apply(small.ledger, PROGRAM, "sim", by("maria")))
    assert balance(small.ledger, "ada") == {"pending": 300}


def test_a_request_is_kept_once_and_failures_are_told(small: Shop) -> None:
    """The same key and request is the same simulation, another request is refused; one that cannot be run says why."""
    trial = trial_of("shoes", None, "linear", None, None)
    assert simulations.ask(small.ledger, PROGRAM, "sim", trial, by("maria")).outcome == "recorded"
    assert simulations.ask(small.ledger, PROGRAM, "sim", trial, by("maria")).outcome == "unchanged"
    with pytest.raises(KeyReused):
        simulations.ask(small.ledger, PROGRAM, "sim", trial_of("shoes", None, "first_click", None, None), by("maria"))
    with pytest.raises(NotFound):
        simulations.ask(small.ledger, PROGRAM, "sim2", trial_of("boots", None, "linear", None, None), by("maria"))
    with pytest.raises(WrongState, match="must be done first"):
        simulations.propose(small.ledger, PROGRAM, "sim", by("maria"))
    simulations.fail(small.ledger, PROGRAM, "sim", "it was refused")
    assert simulations.shown(small.ledger, PROGRAM, "sim")["failure"] == "it was refused"
    assert [one["status"] for one in simulations.page(small.ledger, PROGRAM, "", 10)] == ["failed"]


def test_the_queue_has_an_end_and_is_worked_off_one_by_one(small: Shop) -> None:
    """The eleventh of a program is refused, whoever asks; the same again is not. Each time the job is due it does one,
    what is being applied first, and the place is free again."""

    def ask(number: int) -> str:
        trial = trial_of("shoes", MORE, None, None, None)
        return simulations.ask(small.ledger, PROGRAM, f"sim{number:02}", trial, by("maria")).outcome

    _proposed(small, "first", terms=MORE)
    assert simulations.begin(small.ledger, PROGRAM, "first")
    assert {ask(number) for number in range(10)} == {"recorded"}
    with pytest.raises(WrongState, match="10 simulations wait") as refused:
        ask(10)
    assert refused.value.details["waiting"] == 10
    assert ask(9) == "unchanged"
    work = [simulation_job.work(small.ledger, PROGRAM, small.clock.now, by("job")) for _ in range(2)]
    assert work == [{"run": 0, "applied": 1}, {"run": 1, "applied": 0}]
    statuses = [one["status"] for one in simulations.page(small.ledger, PROGRAM, "sim", 20)]
    assert statuses == ["done"] + ["queued"] * 9
    assert ask(10) == "recorded"


# --- decisions, without a database -----------------------------------------------------------------------------


def _line(order_id: str, affiliate_id: str, was: int, would: int, currency: str = "GBP") -> Line:
    return Line(order_id, affiliate_id, 1, was, would, 1000, currency, "attribution", T0, T0 + timedelta(days=30))


class Desk:
    """A shop in memory in which 'A' of 10.00 has earned ada 1.00, and a simulation of some lines."""

    def __init__(self, *lines: Line, amount: int = 1000) -> None:
        self.view, self.lines = memory_shop(), list(lines)
        self.view.when(sale("A", amount))
        count, hash_ = hash_of_lines(self.lines)
        self.propose = ProposeSimulation(
            simulation_id="sim",
            offer_id="shoes",
            as_of_position=9,
            line_count=count,
            totals=[SimulatedTotal("GBP", 100, 90)],
            lines_hash=hash_,
            model="linear",
        )
        self.apply = ApplyLines(simulation_id="sim", lines=self.lines)

    def approved(self) -> Desk:
        self.view.when(self.propose, "maria")
        self.view.when(DecideSimulation(simulation_id="sim", approve=True), "omar")
        return self

    def applied(self) -> tuple[dict[str, str], list[tuple[str, int, int, str]]]:
        """(what was skipped, what moved)."""
        answer, events = self.view.when(self.apply)
        moved = [
            (e.affiliate_id, e.commission, e.amount, e.bucket) for e in events if isinstance(e, CommissionRepriced)
        ]
        return answer.body["skipped"], moved


MOVE = (_line("A", "ada", 100, 40), _line("A", "bob", 0, 60))


def test_two_people_and_exactly_the_lines_that_were_seen() -> None:
    """Who proposed cannot approve; who saw other lines does not approve these; nothing is applied before."""
    desk = Desk(*MOVE)
    desk.view.again(desk.propose, "maria")
    desk.view.refused(WrongState, desk.apply)
    approve = DecideSimulation(simulation_id="sim", approve=True)
    desk.view.refused(SamePerson, approve, "Maria")
    other = DecideSimulation(simulation_id="sim", approve=True, lines_hash="0" * 64)
    desk.view.refused(WrongState, other, "omar")
    desk.view.again(approve, "omar")
    desk.view.refused(WrongState, DecideSimulation(simulation_id="sim", approve=False), "omar")
    proposed = [event for _, event, _ in desk.view.log if isinstance(event, SimulationProposed)]
    assert [one.proposed_by for one in proposed] == ["maria"]


def test_a_rejected_simulation_is_never_applied() -> None:
    """And one that differs in nothing is not even proposed."""
    desk = Desk(*MOVE)
    desk.view.when(desk.propose, "maria")
    desk.view.again(DecideSimulation(simulation_id="sim", approve=False), "omar")
    desk.view.refused(WrongState, desk.apply)
    Desk().view.refused(WrongState, Desk().propose)


def test_credit_moves_once() -> None:
    """ada gives up what bob gets; the same again moves nothing."""
    desk = Desk(*MOVE).approved()
    assert desk.applied() == ({}, [("ada", 40, -60, "pending"), ("bob", 60, 60, "pending")])
    assert desk.applied() == ({}, [])
    assert desk.view.balances() == {
        "expense:commission": 100, "liability:ada:pending": -40, "liability:bob:pending": -60,
    }  # fmt: skip


def test_what_was_taken_back_stays_taken_back() -> None:
    """A quarter of the sale was returned before: each loses a quarter of what it would have."""
    desk = Desk(*MOVE)
    desk.view.when(refund("r", "A", 250))
    desk.approved()
    assert desk.applied()[1] == [("ada", 40, -45, "pending"), ("bob", 60, 45, "pending")]
    desk.view.when(refund("r2", "A"))
    assert desk.view.balances() == {}


@pytest.mark.parametrize("ends", [refund("r", "A"), DecideConversion(order_id="A", decision="reject")])
def test_what_is_over_moves_no_more(ends: Any) -> None:
    """A sale that was returned or rejected meanwhile stays at nothing."""
    desk = Desk(*MOVE).approved()
    desk.view.when(ends)
    assert desk.applied() == ({}, [])
    assert desk.view.balances() == {}


def test_an_order_that_is_another_now_is_left_alone() -> None:
    """Its commission is not what the line says, or it is in another currency, or its affiliate is closed."""
    desk = Desk(_line("A", "ada", 99, 40), _line("A", "bob", 0, 60)).approved()
    assert desk.applied() == ({"A": "changed"}, [])
    desk = Desk(_line("A", "ada", 100, 40, "EUR")).approved()
    assert desk.applied() == ({"A": "other_currency"}, [])
    desk = Desk(*MOVE).approved()
    desk.view.given("affiliate:bob", AffiliateClosed(affiliate_id="bob"))
    assert desk.applied() == ({"A": "affiliate_closed"}, [])
    desk = Desk(_line("Z", "ada", 0, 40)).approved()
    assert desk.applied() == ({"Z": "changed"}, [])


def test_a_suspended_affiliates_new_commission_is_held() -> None:
    """As every commission of a suspended affiliate is."""
    desk = Desk(*MOVE).approved()
    desk.view.given("affiliate:bob", AffiliateSuspended(affiliate_id="bob"))
    assert desk.applied()[1] == [("ada", 40, -60, "pending"), ("bob", 60, 60, "held")]


def test_a_payable_commission_is_compensated_where_it_is() -> None:
    """Approved commissions move in payable, and a new one joins them there."""
    desk = Desk(*MOVE)
    desk.view.when(DecideConversion(order_id="A", decision="approve", reason="early"))
    desk.approved()
    assert desk.applied()[1] == [("ada", 40, -60, "payable"), ("bob", 60, 60, "payable")]


def test_a_lead_and_a_bonus_of_nothing_sold_keep_their_commission() -> None:
    """Of an order of amount 0 nothing was given back; a bonus that was never earned becomes an order of its own."""
    bonus = "~goal-ten-2026-01-0123456789abcdef"
    desk = Desk(_line("A", "ada", 0, 40), _line(bonus, "bob", 0, 700), amount=0).approved()
    assert desk.applied() == ({}, [("ada", 40, 40, "pending"), ("bob", 700, 700, "pending")])
    recorded = desk.view.conversion(bonus).recorded
    assert (recorded.offer_id, recorded.amount, recorded.event_id) == ("shoes", 0, "goal")
    assert desk.applied() == ({}, [])
