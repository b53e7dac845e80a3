"""Killed at any step of paying, of reading the bank's statement or of closing: run again it ends the same, to the
byte. And a period that is closed while late events pour in has each of them once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from conftest import fresh_database
from naive_books import Line, add_up, check_books, lines
from paying_process import RUN
from payout_world import approve, open_payers, sell, send
from proof_world import audit
from statement_world import Firm
from support import PROGRAM, T0, Clock, Logged, by, open_ledger, program_id, read_log, refund, sale
from test_concurrency import patiently
from test_payout_races import at_once, two_processes

from ledger import closing, reads
from ledger.application import CommissionLedger
from ledger.closing import close_period
from ledger.domain.event import Command
from ledger.domain.period import following_month
from ledger.projections import periods
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer

PAYEES = [f"p{number}" for number in range(7)]
PIECES = ("propose", "initiate", "render", "read_bank", "close")
HERE = Path(__file__).parent


# --- killed ---------------------------------------------------------------------------------------------------


@contextmanager
def paying(database: Database, directory: Path) -> Iterator[Callable[[str, int], str]]:
    """A process to do the pieces of a payday; called with a piece and the step before which it is killed."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "paying_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "DATABASE_URL": database.app_url,
            "DIRECTORY": str(directory),
        },
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def attempt(piece: str, step: int) -> str:
            print(piece, step, file=process.stdin, flush=True)
            return process.stdout.readline().strip()  # type: ignore[union-attr]

        yield attempt
        process.stdin.close()


def set_up(database: Database) -> int:
    """Seven who are owed something. Returns the log's last position."""
    clock = Clock(T0)
    with open_ledger(database, clock) as ledger:
        open_payers(ledger, PAYEES)
        clock.advance(days=20)
        sell(ledger, [(f"o-{who}", who, 5000 + n, T0 + timedelta(days=n)) for n, who in enumerate(PAYEES)])
        return len(read_log(ledger))


def what_happened(database: Database, since: int) -> list[tuple[str, dict[str, Any]]]:
    """Every event after a position; ciphertext differs by its nonce, a root over entries by what requests were called:
    both are left out, and the root is what the log leads to."""
    with open_ledger(database) as ledger:
        check_books(ledger)
        stored = reads.log_lines(ledger.pool, program_id(PROGRAM), "books", 0, 10_000)
        assert audit([line for _, line in stored]) == 2
        return [
            (row.topic, {k: v for k, v in row.state.items() if k not in ("text", "root")})
            for row in read_log(ledger)[since:]
        ]


def approved(database: Database) -> None:
    with open_ledger(database, Clock(T0 + timedelta(days=40))) as ledger:
        approve(ledger, RUN)


def test_killed_at_every_step_it_ends_the_same(
    server: EmbeddedServer, template: str, database: Database, tmp_path: Path
) -> None:
    """Proposing, initiating, rendering, reading the bank, closing: killed before each commit and each file operation,
    one after the other, and run again each time. Events, files and statements are those of the undisturbed run, and
    no file was ever there in part."""
    kills = {}
    with fresh_database(server, template) as name:
        other = store.urls(server, name)
        since = set_up(other)
        assert set_up(database) == since
        with paying(other, tmp_path / "calm") as calmly, paying(database, tmp_path / "rough") as roughly:
            for piece in PIECES:
                assert calmly(piece, 0) == "ended"
                for step in count(1):
                    said = roughly(piece, step)
                    if said == "ended":
                        kills[piece] = step - 1
                        break
                    assert said == "killed", f"{piece}, step {step}"
                    check_whole(tmp_path)
                if piece == "propose":
                    approved(other)
                    approved(database)
        undisturbed = what_happened(other, since)
        assert what_happened(database, since) == undisturbed
    assert files_in(tmp_path / "rough") == files_in(tmp_path / "calm") != {}
    assert {topic for topic, _ in undisturbed} >= {"PayoutFilesRendered", "BreakResolved", "StatementsIssued"}
    assert all(kills[piece] > 5 for piece in PIECES), kills


def files_in(directory: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())} if directory.exists() else {}


def check_whole(tmp_path: Path) -> None:
    """A file has all of its bytes from the moment at which it has its name."""
    whole = files_in(tmp_path / "calm")
    for name, content in files_in(tmp_path / "rough").items():
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
