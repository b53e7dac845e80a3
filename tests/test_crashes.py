"""Whoever is killed, and whatever is lost on the way: nothing acknowledged is lost, and nothing counts twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commit_cutter import CommitCutter
from naive_books import check_books
from selling_process import commands
from support import PROGRAM, T0, balance, by, open_ledger, open_shop, read_log, refund, sale
from test_concurrency import patiently

from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.event import Answer, Command
from ledger.domain.lifecycle import DecideConversion
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import migrate

HERE = Path(__file__).parent
CUSTOMERS = 400


def answers(ledger: CommissionLedger, count: int) -> dict[tuple[int, int], int]:
    """Send everything again: the position of each command's answer."""
    found = {}
    for number in range(count):
        for index, command in enumerate(commands(number)):
            found[number, index] = ledger.execute(PROGRAM, command, by("again")).position
    return found


def check_everything_counts_once(ledger: CommissionLedger, said: dict[tuple[int, int], int], count: int) -> None:
    """What was acknowledged stands at the position that was named; all of it sent again adds what is missing only."""
    now = answers(ledger, count)
    assert {key: now[key] for key in said} == said, "an acknowledged command keeps its place"
    log = read_log(ledger)
    sales = [row.state["order_id"] for row in log if row.topic == "ConversionRecorded"]
    refunds = [row.state["reversal_id"] for row in log if row.topic == "ConversionReversed"]
    assert sorted(sales) == sorted(f"o{n}" for n in range(count))
    assert sorted(refunds) == sorted(f"r{n}" for n in range(0, count, 3))
    assert answers(ledger, count) == now
    assert len(read_log(ledger)) == len(log), "sending all of it once more adds nothing"
    check_books(ledger)


@contextmanager
def selling(database: Database) -> Iterator[subprocess.Popen[str]]:
    """A process that sells to everybody, from the first customer on; killed for certain at the end."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "selling_process.py"), str(CUSTOMERS)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "DATABASE_URL": database.app_url},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_acknowledged(process: subprocess.Popen[str], said: dict[tuple[int, int], int], most: int) -> None:
    """Take up to so many of its lines; a line cut off by its death was not said."""
    assert process.stdout is not None
    for _ in range(most):
        line = process.stdout.readline()
        if not line.endswith("\n"):
            return
        number, index, position = map(int, line.split())
        assert said.setdefault((number, index), position) == position, "a retry hears the same"


def test_a_killed_application_loses_nothing_that_it_acknowledged(database: Database) -> None:
    """Killed three times in the middle of selling and started again from the first customer each time."""
    said: dict[tuple[int, int], int] = {}
    with open_ledger(database) as ledger:
        open_shop(ledger)
        for more in (40, 150, 320):
            with selling(database) as process:
                read_acknowledged(process, said, more)
                process.send_signal(signal.SIGKILL)
                read_acknowledged(process, said, 10**6)
        assert len(said) >= 320
        check_everything_counts_once(ledger, said, CUSTOMERS)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Database]]:
    """A server of this test's own, to be killed; `EmbeddedServer` starts it again."""
    with EmbeddedServer.start(tmp_path / "home") as server:
        store.make_roles(server)
        store.make_database(server, store.DATABASE)
        urls = store.urls(server, store.DATABASE)
        assert urls.owner_url
        migrate(urls.owner_url)
        yield server, urls


def test_a_killed_postgresql_loses_nothing_that_was_acknowledged(own_server: tuple[EmbeddedServer, Database]) -> None:
    """Killed three times under a selling application, which goes on by itself once the server is back."""
    server, database = own_server
    said: dict[tuple[int, int], int] = {}
    with open_ledger(database) as ledger:
        open_shop(ledger)
    with selling(database) as process:
        for more in (60, 60, 60):
            read_acknowledged(process, said, more)
            pid = int((server.home / "pgdata" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
        read_acknowledged(process, said, 10**6)
        assert process.wait(60) == 0, "it sold to everybody in the end"
    assert len(said) == sum(len(commands(n)) for n in range(CUSTOMERS))
    with open_ledger(database) as ledger:
        check_everything_counts_once(ledger, said, CUSTOMERS)


# --- the reply to COMMIT is lost ------------------------------------------------------------------------


@pytest.fixture
def cutter(database: Database) -> Iterator[tuple[CommissionLedger, CommitCutter]]:
    """A ledger that reaches its database through a proxy."""
    with CommitCutter(database.app_url) as proxy, open_ledger(Database(proxy.url, None, None)) as ledger:
        open_shop(ledger)
        yield ledger, proxy


def test_when_the_reply_to_commit_is_lost_the_committed_result_is_answered(
    cutter: tuple[CommissionLedger, CommitCutter],
) -> None:
    """Fifty times, with the COMMIT itself lost every fifth time: one call, one answer, exactly that many events."""
    ledger, proxy = cutter
    before = len(read_log(ledger))
    events = 0
    for number in range(50):
        order_id = f"o{number // 2}"
        command: Command = refund(f"r{number}", order_id, 10) if number % 2 else sale(order_id, 1000 + number)
        events += 2
        proxy.cut = "commit" if number % 5 == 4 else "reply"
        answer = patiently(lambda command=command: ledger.execute(PROGRAM, command, by()))  # type: ignore[misc]
        assert proxy.cuts == number + 1
        assert answer.position == before + events == len(read_log(ledger))
        again = ledger.execute(PROGRAM, command, by())
        assert (again.body, again.position) == (answer.body, answer.position)
        assert answer.body["order_id"] == order_id
    check_books(ledger)


def test_clicks_without_an_id_are_not_counted_twice_when_the_reply_is_lost(
    cutter: tuple[CommissionLedger, CommitCutter],
) -> None:
    """Their ids are made once a call, not once an attempt."""
    ledger, proxy = cutter
    clicks = [RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0)] * 30
    for number in range(1, 6):
        proxy.cut = "reply"
        outcomes = ledger.record_clicks(PROGRAM, clicks, by())
        ids = {str(outcome.body["click_id"]) for outcome in outcomes if isinstance(outcome, Answer)}
        stored = {row.state["click_id"] for row in read_log(ledger, name="traffic")[-30:]}
        assert ids == stored
        assert len(read_log(ledger, name="traffic")) == 30 * number


def test_decisions_batches_and_keys_survive_a_lost_reply(cutter: tuple[CommissionLedger, CommitCutter]) -> None:
    """A decision is made once, a batch is committed once, a key is issued once and opens with the secret returned."""
    ledger, proxy = cutter
    ledger.execute(PROGRAM, sale("A"), by())
    before = len(read_log(ledger))
    proxy.cut = "reply"
    ledger.execute(PROGRAM, DecideConversion(order_id="A", decision="hold"), by())
    proxy.cut = "reply"
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="bob", decision="suspend"), by())
    assert len(read_log(ledger)) == before + 2
    proxy.cut = "reply"
    outcomes = ledger.execute_many(PROGRAM, [sale(f"B{n}") for n in range(100)], by())
    assert [outcome.body["status"] for outcome in outcomes if isinstance(outcome, Answer)] == ["pending"] * 100
    assert len(read_log(ledger)) == before + 2 + 200
    proxy.cut = "reply"
    expires_at = datetime.now(UTC) + timedelta(days=365)
    issued = ledger.issue_key(
        PROGRAM, role="auditor", holder="eve", holder_kind="person", expires_at=expires_at, meta=by()
    )
    assert proxy.cuts == 4
    assert [row.topic for row in read_log(ledger)][-1] == "KeyIssued"
    with ledger.reading(PROGRAM) as (cur, id_):
        cur.execute("SELECT key_id, secret_hmac FROM api_keys WHERE program_id = %s", (id_,))
        ((key_id, stored),) = cur.fetchall()
    secret = issued.token.removeprefix(f"clk_{issued.key_id}_")
    assert (key_id, bytes(stored)) == (issued.key_id, ledger.secrets.access_hmac(secret))
    assert balance(ledger, "ada") == {"pending": 10_000, "held": 100}
    check_books(ledger)
