"""Killed at any step of paying, of reading the bank's statement or of closing: run again it ends the same, to the
byte. And a period that is closed while late events pour in has each of them once."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, NamedTuple

import psycopg
import pytest
from conftest import fresh_database
from naive_books import Line, add_up, check_books, lines
from payout_world import approve, every_payout, open_payers, propose, sell, send, statement
from statement_world import Firm
from support import PROGRAM, T0, Clock, Logged, by, open_ledger, read_log, refund, sale
from test_concurrency import patiently
from test_payout_races import at_once, two_processes

from ledger import banking, closing, payruns
from ledger.application import CommissionLedger
from ledger.closing import close_period
from ledger.domain.event import Command
from ledger.domain.period import following_month
from ledger.projections import periods
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer

PAYEES = [f"p{number}" for number in range(7)]
RUN = "2026-01-GBP-paypal-1"


# --- killed ---------------------------------------------------------------------------------------------------


class Scythe:
    """Kills its own process before the n-th commit or file operation. Put on in a forked child only."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def put_on(self) -> None:
        """Before each commit of any connection, and before what makes, syncs, renames or removes a file."""
        self._before(psycopg.Connection, "commit")
        for name in ("open", "fsync", "replace", "mkdir", "unlink"):
            self._before(os, name)

    def _before(self, place: Any, name: str) -> None:
        whole = getattr(place, name)

        def dangerous(*args: Any, **kwargs: Any) -> Any:
            self()
            return whole(*args, **kwargs)

        setattr(place, name, dangerous)


def survives(work: Callable[[], None], n: int) -> bool:
    """Whether work ends before its n-th step, in a child of its own that is killed there."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Scythe(n).put_on()
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WIFSIGNALED(status), "it neither ended nor was killed"
    return status == 0


class Steps(NamedTuple):
    """The work of a month, each piece by a process of its own."""

    database: Database
    directory: Path

    @contextmanager
    def _ledger(self, day: int) -> Iterator[CommissionLedger]:
        with open_ledger(self.database, Clock(T0 + timedelta(days=day)), max_size=3) as ledger:
            yield ledger

    def propose(self) -> None:
        with self._ledger(40) as ledger:
            assert patiently(lambda: propose(ledger, "2026-01")) == RUN

    def initiate(self) -> None:
        with self._ledger(41) as ledger:
            patiently(lambda: payruns.initiate(ledger, PROGRAM, RUN, by("ana")))

    def render(self) -> None:
        with self._ledger(42) as ledger:
            patiently(lambda: payruns.render_to(ledger, PROGRAM, RUN, self.directory, by("ana")))

    def read_bank(self) -> None:
        """Payments, a return before its payment and one after, a wrong amount, a stranger's line and a fee."""
        with self._ledger(44) as ledger:
            ids = {row.affiliate_id: (row.payout_id, row.transfer_amount) for row in every_payout(ledger)}
            told = [(f"paid-{who}", -amount, id_) for who, (id_, amount) in ids.items() if who != "p6"]
            told += [("wrong-p6", -5, ids["p6"][0]), ("back-p1", ids["p1"][1], ids["p1"][0]), ("rent", -900, "")]
            day = (T0 + timedelta(days=43)).date()
            early = statement("s1", [("back-p2", ids["p2"][1], ids["p2"][0])], day)
            for one in (early, statement("s2", told, day)):
                done = patiently(lambda one=one: banking.import_statement(ledger, PROGRAM, one, by("bank")))  # type: ignore[misc]
                assert done.refused == []

    def close(self) -> None:
        with self._ledger(65) as ledger:
            for period in ("2026-01", "2026-02"):
                patiently(lambda period=period: list(close_period(ledger, PROGRAM, period, by("ana"))))  # type: ignore[misc]


def set_up(database: Database) -> int:
    """Seven who are owed something. Returns the log's last position."""
    clock = Clock(T0)
    with open_ledger(database, clock) as ledger:
        open_payers(ledger, PAYEES)
        clock.advance(days=20)
        sell(ledger, [(f"o-{who}", who, 5000 + n, T0 + timedelta(days=n)) for n, who in enumerate(PAYEES)])
        return len(read_log(ledger))


def what_happened(database: Database, since: int) -> list[tuple[str, dict[str, Any]]]:
    """Every event after a position; ciphertext differs by its nonce and is left out."""
    with open_ledger(database) as ledger:
        check_books(ledger)
        return [(row.topic, {k: v for k, v in row.state.items() if k != "text"}) for row in read_log(ledger)[since:]]


def approved(database: Database) -> None:
    with open_ledger(database, Clock(T0 + timedelta(days=40))) as ledger:
        approve(ledger, RUN)


def test_killed_at_every_step_it_ends_the_same(
    server: EmbeddedServer, template: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposing, initiating, rendering, reading the bank, closing: killed before each commit and each file operation,
    one after the other, and run again each time. Events, files and statements are those of the undisturbed run, and
    no file was ever there in part."""
    monkeypatch.setattr(payruns, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(banking, "LINES_AT_ONCE", 3)
    monkeypatch.setattr(closing, "STATEMENTS_AT_ONCE", 3)
    names = ("propose", "initiate", "render", "read_bank", "close")
    kills = {}
    with fresh_database(server, template) as name:
        calm = Steps(store.urls(server, name), tmp_path / "calm")
        rough = Steps(database, tmp_path / "rough")
        since = set_up(calm.database)
        assert set_up(rough.database) == since
        for step in names:
            getattr(calm, step)()
            for n in count(1):
                if survives(getattr(rough, step), n):
                    kills[step] = n - 1
                    break
                _whole_or_not_at_all(rough.directory, calm.directory)
            if step == "propose":
                approved(calm.database)
                approved(rough.database)
        undisturbed = what_happened(calm.database, since)
        assert what_happened(rough.database, since) == undisturbed
        assert files_in(rough.directory) == files_in(calm.directory) != {}
    assert {topic for topic, _ in undisturbed} >= {"PayoutFilesRendered", "BreakResolved", "StatementsIssued"}
    assert all(kills[step] > 5 for step in names), kills


def files_in(directory: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())} if directory.exists() else {}


def _whole_or_not_at_all(rough: Path, calm: Path) -> None:
    whole = files_in(calm)
    for name, content in files_in(rough).items():
        assert name.endswith(".part") or content == whole[name]


# --- closing against a stream of late events ------------------------------------------------------------------

SELLERS = [f"s{number:02}" for number in range(12)]


def late(seed: int, days: tuple[int, int], sold: list[str], how_many: int) -> list[Command]:
    """Sales and refunds of some days, most of them long past, in random order."""
    chance = Random(seed)
    found: list[Command] = []
    for n in range(how_many):
        at = T0 + timedelta(days=chance.uniform(*days))
        order_id = f"late-{seed}-{n}"
        if n % 3 == 0:
            found.append(refund(order_id, sold[(seed * 97 + n) % len(sold)], 1, occurred_at=at))
        else:
            found.append(sale(order_id, chance.randrange(100, 9000), chance.choice(SELLERS), occurred_at=at))
    return found


def pour(ledger: CommissionLedger, commands: list[Command], some: Event, cut: Event) -> None:
    """A few at a time, and what is due approved now and then; a third before the cut, a third after it."""
    third = len(commands) // 9 // 3 * 9
    for start in range(0, len(commands), 9):
        if start == third:
            some.set()
        elif start == 2 * third:
            assert cut.wait(60)
        part = commands[start : start + 9]
        patiently(lambda part=part: send(ledger, part))  # type: ignore[misc]
        if start % 90 == 0:
            patiently(lambda: list(ledger.approve_due(PROGRAM, ledger.clock(), by("job"))))


def close(ledger: CommissionLedger, period: str, some: Event, cut: Event) -> None:
    """Begun when some late events are there."""
    assert some.wait(60)
    steps = close_period(ledger, PROGRAM, period, by("ana"))
    next(steps, None)
    cut.set()
    list(steps)


def test_closing_races_a_thousand_late_events(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two months, each closed by two processes at once while three threads record what happened in it and before. Each
    line is on exactly one statement, by the rule of the cut alone; the first hashes never change; the statements'
    sums are the books' movement."""
    monkeypatch.setattr(closing, "STATEMENTS_AT_ONCE", 2)
    clock = Clock()
    with two_processes(database, clock) as (here, there):
        open_payers(here, SELLERS, hold_days=10)
        sold = [f"o{n}" for n in range(300)]
        clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        sell(here, [(order, SELLERS[n % 12], 3000, T0 + timedelta(days=n % 31)) for n, order in enumerate(sold)])
        hashes: list[dict[str, str]] = []
        period = "2026-01"
        for month, days in enumerate([(0, 33), (0, 60)]):
            streams = [late(10 * month + n, days, sold, 170) for n in range(3)]
            some, cut = Event(), Event()
            at_once(
                *[partial(close, ledger, period, some, cut) for ledger in (here, there)],
                *[partial(pour, (here, there, there)[n], stream, some, cut) for n, stream in enumerate(streams)],
            )
            hashes.append(statements_of(here, period))
            period = following_month(period)
            clock.now = datetime(2026, 3, 2, tzinfo=UTC)
        assert statements_of(here, "2026-01") == hashes[0]
        check_books(here)
        log = read_log(here)
        check_cuts(here, log, ["2026-01", "2026-02"])
        check_sums(log)


def statements_of(ledger: CommissionLedger, period: str) -> dict[str, str]:
    """Affiliate → hash of a period's statements, each read anew from the books and proven against its hash."""
    firm = Firm.__new__(Firm)
    firm.ledger, firm.program = ledger, PROGRAM
    found = {}
    for affiliate_id in SELLERS:
        one = firm.statement(affiliate_id, period)
        found[affiliate_id] = one.issued.hash
    return found


def check_cuts(ledger: CommissionLedger, log: list[Logged], closed: list[str]) -> None:
    """By the log alone: which lines each statement must have. By the statements: which it has."""
    rest = [line for line in lines(log) if line.debit.startswith("liability:") or line.credit.startswith("liability:")]
    by_position = {row.position: row.state for row in log}
    racing = 0
    for period in closed:
        (cut,) = [row for row in log if row.topic == "PeriodClosed" and row.state["period"] == period]
        ends_at = datetime.fromisoformat(cut.state["ends_at"])
        expected: dict[str, list[int]] = defaultdict(list)
        for line in list(rest):
            if line.position <= cut.position and line.effective_at < ends_at:
                rest.remove(line)
                expected[by_position[line.position]["affiliate_id"]].append(line.position)
        racing += sum(line.effective_at < ends_at for line in rest)
        with ledger.reading(PROGRAM) as (cur, id_):
            made = periods.cut(cur, id_, period)
            assert made is not None
            assert made.position == cut.position
            for who in SELLERS:
                found = [
                    line.position for line in periods.lines_of(cur, id_, who, periods.bounds(made), made.starts_at)
                ]
                assert found == expected[who]
    assert racing > 100, "after the cut of the period in which they happened"


def check_sums(log: list[Logged]) -> None:
    """What a period's statements opened and closed with, added up, is the movement of the books between two cuts."""
    every = lines(log)
    before: dict[str, int] = {}
    for row in log:
        if row.topic != "StatementsIssued":
            continue
        (cut,) = [r for r in log if r.topic == "PeriodClosed" and r.state["period"] == row.state["period"]]
        ends_at = datetime.fromisoformat(cut.state["ends_at"])
        known = [line for line in every if line.position <= cut.position and line.effective_at < ends_at]
        totals = {one["bucket"]: one for one in row.state["totals"]}
        assert {bucket: one["closing"] for bucket, one in totals.items() if one["closing"]} == by_bucket(known)
        assert {bucket: one["opening"] for bucket, one in totals.items() if one["opening"]} == before
        before = by_bucket(known)


def by_bucket(some: list[Line]) -> dict[str, int]:
    """What all affiliates' accounts hold, by bucket, without the empty ones."""
    held: dict[str, int] = defaultdict(int)
    for (account, _), amount in add_up(some).items():
        if account.startswith("liability:"):
            held[account.rpartition(":")[2]] -= amount
    return {bucket: amount for bucket, amount in held.items() if amount}
