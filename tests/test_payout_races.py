"""Payouts and everything else at the same time: nobody is paid what is not theirs, and nothing is paid twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from threading import Event, Semaphore
from typing import TypeVar

import pytest
from naive_books import check_books, payouts
from payout_world import analyze, approve, every_payout, open_payers, pay, propose, run_for, sell, send, statement
from support import PROGRAM, T0, Clock, Logged, by, ok, open_ledger, read_log, refund, trial
from test_concurrency import patiently

from ledger import banking, payruns
from ledger.application import CommissionLedger
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.bank import RecordBankLine
from ledger.domain.event import Answer
from ledger.domain.outcomes import DecidePayout
from ledger.store.database import Database

Result = TypeVar("Result")
PAIRS = [f"p{number:03}" for number in range(1000)]


@contextmanager
def two_processes(database: Database, clock: Clock) -> Iterator[tuple[CommissionLedger, CommissionLedger]]:
    """Two ledgers on one database, as two processes have them."""
    with open_ledger(database, clock, max_size=8) as one, open_ledger(database, clock, max_size=8) as other:
        yield one, other


def at_once(*work: Callable[[], Result]) -> list[Result]:
    """What each piece of work returns; what one raises."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result() for future in [pool.submit(patiently, one) for one in work]]


# --- reversals and payouts -----------------------------------------------------------------------------------


class Gates:
    """However quick or slow a thread is: some reversals come between proposal and initiation, most of them race the
    initiation, and some come after it."""

    def __init__(self) -> None:
        self.proposed, self.initiated = Event(), Event()
        self._moving = Semaphore(0)

    def pass_by(self, done: int, total: int) -> None:
        """A thread of reversals has done so many of its parts."""
        if done == total * 2 // 10:
            self.proposed.wait(60)
        elif done == total * 3 // 10:
            self._moving.release()
        elif done == total * 7 // 10:
            self.initiated.wait(60)

    def wait_for(self, threads: int) -> None:
        """Until that many threads have done some more since the proposal."""
        for _ in range(threads):
            assert self._moving.acquire(timeout=60)


def take_back(ledger: CommissionLedger, gates: Gates, seed: int, mine: list[str]) -> None:
    """Reversals of some or all of the affiliates' sales, and corrections of two people, in random order."""
    chance = Random(seed)
    chance.shuffle(mine)
    for start in range(0, len(mine), 10):
        gates.pass_by(start // 10, len(mine) // 10)
        part = mine[start : start + 10]
        commands = [
            refund(f"r-{who}", f"o-{who}", chance.choice((None, 1, chance.randrange(1, 5000))), occurred_at=T0)
            for who in part
        ]
        patiently(lambda commands=commands: send(ledger, commands))  # type: ignore[misc]
        for who in part[:1]:
            amount = chance.choice((-1, 1)) * chance.randrange(1, 300)
            id_ = f"j-{seed}-{who}"
            proposed = ProposeAdjustment(
                adjustment_id=id_, affiliate_id=who, kind="correction", amount=amount, reason="agreed"
            )
            patiently(lambda one=proposed: ledger.execute(PROGRAM, one, by("ana")))  # type: ignore[misc]
            decided = DecideAdjustment(adjustment_id=id_, approve=True)
            patiently(lambda one=decided: ledger.execute(PROGRAM, one, by("ben")))  # type: ignore[misc]


def pay_out(ledger: CommissionLedger, gates: Gates, clock: Clock) -> None:
    """A run from proposal to the bank's lines, in parts of a few."""
    run_id = patiently(lambda: propose(ledger, "2026-01"))
    gates.proposed.set()
    gates.wait_for(threads=3)
    approve(ledger, run_id)
    patiently(lambda: pay(ledger, run_id))
    gates.initiated.set()
    rows = [row for row in every_payout(ledger) if row.status == "initiated"]
    for start in range(0, len(rows), 100):
        lines = [(f"line-{row.payout_id}", -row.transfer_amount, row.payout_id) for row in rows[start : start + 100]]
        told = statement(f"s{start}", lines, clock.now.date())
        patiently(lambda told=told: banking.import_statement(ledger, PROGRAM, told, by("bank")))  # type: ignore[misc]


def check_initiations(log: list[Logged]) -> Counter[str]:
    """At the very moment at which it was initiated, each payout was covered by what was payable; and what was taken
    out because it was not, was not. Returns how many of each there are."""
    payable: dict[str, int] = defaultdict(int)
    amounts = {row.state["payout_id"]: row.state["amount"] for row in log if row.topic == "PayoutProposed"}
    seen: Counter[str] = Counter()
    for row in log:
        e = row.state
        if row.topic in ("ConversionApproved", "AdjustmentPosted"):
            payable[e["affiliate_id"]] += e["amount"]
        elif row.topic == "ConversionReversed" and e["bucket"] == "payable":
            payable[e["affiliate_id"]] -= e["amount"]
        elif row.topic == "PayoutExcluded":
            assert e["code"] == "payable_fell"
            assert payable[e["affiliate_id"]] < amounts[e["payout_id"]]
            seen["excluded"] += 1
        elif row.topic == "PayoutInitiated":
            payable[e["affiliate_id"]] -= e["amount"]
            assert payable[e["affiliate_id"]] >= 0, "paid what was not theirs any more"
            seen["initiated"] += 1
    return seen


def test_a_thousand_reversals_race_a_thousand_payouts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever comes first, the balance equation holds; who was paid before the reversal owes it, and the next run
    pays the rest of what came since."""
    monkeypatch.setattr(payruns, "MOST_AT_ONCE", 25)
    clock = Clock()
    with two_processes(database, clock) as (here, there):
        open_payers(here, PAIRS)
        clock.advance(days=20)
        sell(here, [(f"o-{who}", who, 5000 + n, T0) for n, who in enumerate(PAIRS)])
        clock.advance(days=20)
        gates = Gates()
        thirds = [PAIRS[n::3] for n in range(3)]
        at_once(
            lambda: pay_out(here, gates, clock),
            *[lambda n=n, third=third: take_back(there, gates, n, third) for n, third in enumerate(thirds)],  # type: ignore[misc]
        )
        log = read_log(here)
        seen = check_initiations(log)
        assert sum(row.topic == "ConversionReversed" for row in log) == len(PAIRS)
        assert min(seen["excluded"], seen["initiated"]) > 20, "neither of the two was always first"
        assert sum(seen.values()) == len(payouts(log))
        analyze(database)
        check_books(here)
        check_equation(here, log)
        check_netting(here, clock)


def check_equation(ledger: CommissionLedger, log: list[Logged]) -> None:
    """What was earned is what is payable, on its way and paid, for each affiliate."""
    earned: dict[str, int] = defaultdict(int)
    for row in log:
        if row.topic in ("CommissionAccrued", "AdjustmentPosted"):
            earned[row.state["affiliate_id"]] += row.state["amount"]
        elif row.topic == "ConversionReversed":
            earned[row.state["affiliate_id"]] -= row.state["amount"]
    held: dict[str, int] = defaultdict(int)
    for (account, _), amount in trial(ledger).items():
        if not account.startswith("expense:"):
            held[account.split(":")[1 if account.startswith("liability") else 2]] -= amount
    assert {who: held[who] for who in PAIRS} == {who: earned[who] for who in PAIRS}


def check_netting(ledger: CommissionLedger, clock: Clock) -> None:
    """Everybody sells for 200 more: who owes less than that is paid the difference, who owes more is not paid."""

    def payable() -> dict[str, int]:
        return {a.split(":")[1]: -amount for (a, _), amount in trial(ledger).items() if a.endswith(":payable")}

    before = payable()
    assert sum(amount < 0 for amount in before.values()) > 100, "receivables"
    sell(ledger, [(f"n-{who}", who, 2000, clock.now) for who in PAIRS])
    clock.advance(days=30)
    run_for(ledger, "2026-02")
    paid = {row.affiliate_id: row.amount for row in every_payout(ledger) if row.run_id.startswith("2026-02")}
    owed = {who: before.get(who, 0) + 200 for who in PAIRS}
    assert paid == {who: amount for who, amount in owed.items() if amount > 0}
    assert payable() == {who: amount for who, amount in owed.items() if amount < 0}
    check_books(ledger)


# --- two who do the same -------------------------------------------------------------------------------------


def test_runs_proposed_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same one twice is one run with each line once, and both are told so; of two periods, an affiliate is in
    only one. Two who initiate it send each payout once."""
    monkeypatch.setattr(payruns, "MOST_AT_ONCE", 7)
    clock = Clock()
    everybody = PAIRS[:150]
    with two_processes(database, clock) as (here, there):
        open_payers(here, everybody)
        sell(here, [(f"o-{who}", who, 5000 + n, T0) for n, who in enumerate(everybody)])
        clock.advance(days=70)
        again = [lambda ledger=ledger: propose(ledger, "2026-01") for ledger in (here, there, here)]
        *same, other = at_once(*again, lambda: propose(there, "2026-02"))
        assert (set(same), other) == ({"2026-01-GBP-paypal-1"}, "2026-02-GBP-paypal-1")
        runs = {run_id: payruns.load_run(here, PROGRAM, run_id) for run_id in (same[0], other)}
        in_run = {run_id: {p.affiliate_id for p in payruns.all_payouts(here, PROGRAM, run_id)} for run_id in runs}
        assert in_run[same[0]] | in_run[other] == set(everybody)
        assert not in_run[same[0]] & in_run[other]
        for run_id, run in runs.items():
            if run.proposed is not None:  # nobody may be left for the slower of the two
                assert run.proposed.payout_count == len(in_run[run_id])
            out = {(who, reason) for who, _, reason in payruns.left_out(here, PROGRAM, run_id)}
            assert out == {(who, "in_open_run") for who in set(everybody) - in_run[run_id]}
        (largest,) = [run_id for run_id in runs if len(in_run[run_id]) == max(map(len, in_run.values()))]
        approve(here, largest)
        files = at_once(*[lambda ledger=ledger: pay(ledger, largest) for ledger in (here, there, here)])
        assert files[0] == files[1] == files[2]
        assert len(files[0]) == len(in_run[largest])
        check_books(here)


def test_fifty_settlements_of_one_payout_are_one(database: Database) -> None:
    """Fifty people say it, and fifty copies of the bank's line: one event each time, and all hear the same."""
    clock = Clock()
    with two_processes(database, clock) as ledgers:
        open_payers(ledgers[0], PAIRS[:2])
        sell(ledgers[0], [(f"o-{who}", who, 5000, T0) for who in PAIRS[:2]])
        clock.advance(days=40)
        first, second = [payment.payout_id for payment in run_for(ledgers[0], "2026-01")]

        def say(n: int) -> Answer:
            return ledgers[n % 2].execute(
                PROGRAM, DecidePayout(payout_id=first, outcome="settle", reason="seen"), by(f"person-{n}")
            )

        def bank(n: int) -> Answer:
            line = RecordBankLine(
                line_id="l", booked_on=clock.now.date(), amount=-500, currency="GBP", end_to_end_id=second
            )
            (outcome,) = ledgers[n % 2].execute_many(PROGRAM, [line], by("bank"))
            return ok(outcome)

        for work, payout_id in ((say, first), (bank, second)):
            answers = at_once(*[lambda n=n, work=work: work(n) for n in range(50)])  # type: ignore[misc]
            assert Counter(one.outcome for one in answers) == {"recorded": 1, "unchanged": 49}
            assert len({one.position for one in answers}) == 1
            log = read_log(ledgers[0])
            assert sum(row.topic == "PayoutSettled" and row.state["payout_id"] == payout_id for row in log) == 1
        check_books(ledgers[0])
