"""Imports that are interrupted anywhere end in the same books; memory stays flat; and the real file, to the penny."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from import_support import MAPPING, REAL, ROOT, L, books_of, reversals, run, shop, write
from support import MASTER_KEY, PROGRAM, balance, open_ledger, read_log, scalar

from ledger.application import CommissionLedger
from ledger.domain.ids import program_id
from ledger.imports.recording import Totals
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import migrate


@pytest.fixture
def ledger(database: Database) -> Iterator[CommissionLedger]:
    """A ledger with an empty shop that pays 10 %."""
    with open_ledger(database) as opened:
        shop(opened)
        yield opened


def big_export(path: Path, orders: int) -> Path:
    """Orders of two lines, every third with a refund, now and then a line that is nothing."""

    def lines() -> Iterator[L]:
        for n in range(orders):
            at = f"{1 + n * 27 // orders:02} {8 + n % 10:02}:{n % 60:02}"
            customer, country = str(n % 500), f"Partner {n % 20}"
            yield L(f"{n:07}", f"S{n % 7}", 3, at, "1.15", customer, country)
            yield L(f"{n:07}", "T", 1, at, "2.00", customer, country)
            if n % 3 == 0:
                yield L(f"C{n:07}", f"S{n % 7}", -2, "28 12:00", "1.15", customer, country)
            if n % 10 == 0:
                yield L(f"{n:07}", "POST", -1, at, "5.00", customer, country)

    return write(path, lines())


def command(path: Path, program: str = PROGRAM) -> list[str]:
    """The import as a clerk types it."""
    return [
        sys.executable, "-m", "ledger.cli", "import", "orders", str(path), "--program", program, "--offer", "shoes",
        "--mapping", str(MAPPING), "--enrol-affiliates", "--by", "clerk", "--json",
    ]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """A process of its own, on the test's database or home."""
    env = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "LEDGER_HOME")}
    return {**env, "PYTHONPATH": str(ROOT), "LEDGER_MASTER_KEY": MASTER_KEY.hex(), **more}


def position(conn: psycopg.Connection[Any], program: str) -> int:
    """How far the program's books have come."""
    return int(
        scalar(conn, "SELECT next_position FROM log_heads WHERE program_id = %s AND log = 'books'", program_id(program))
    )


def wait_until(process: subprocess.Popen[Any], reached: Callable[[], bool]) -> None:
    """Until something is seen, or the process has ended."""
    deadline = time.monotonic() + 60
    while process.poll() is None and not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextmanager
def importing(path: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The import as a process, killed for certain at the end."""
    process = subprocess.Popen(command(path), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_killed_anywhere_and_run_again_it_ends_in_the_same_books(database: Database, tmp_path: Path) -> None:
    """kill -9 while reading, while recording orders, and while recording reversals; then once to the end. The books
    equal those of a program into which the file went in one piece."""
    path = big_export(tmp_path / "big.csv", 4000)
    env = environment(DATABASE_URL=database.app_url)
    with open_ledger(database) as ledger, psycopg.connect(database.app_url, autocommit=True) as conn:
        shop(ledger)
        shop(ledger, "whole")
        copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY import_lines%%' AND state = 'active'"
        killed = 0
        for reached in (
            lambda: scalar(conn, copying) > 0,
            lambda: position(conn, PROGRAM) > 1000,
            lambda: position(conn, PROGRAM) > 5000,
            lambda: position(conn, PROGRAM) > 9000,
        ):
            with importing(path, env) as process:
                wait_until(process, reached)
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
        assert killed >= 3, "the test must interrupt to mean anything"
        last = subprocess.run(command(path), env=env, capture_output=True, text=True, check=True)
        whole = run(ledger, path, program="whole")
        assert '"orders":4000' in last.stdout
        assert whole.orders == 4000
        assert whole.reversals >= 1334
        assert books_of(ledger) == books_of(ledger, "whole")


def test_an_interrupted_file_is_finished_before_another_one_is_matched(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """What the first file's refunds take is not left for the second, although nobody imported the first again."""

    class Stop(Exception):
        """Instead of a kill."""

    def stop(what: str, done: int, total: int | None) -> None:
        if "recorded" in what:
            raise Stop

    first = write(tmp_path / "a.csv", [L("1", "A", 2), L("C1", "A", -2, "02 10:00")])
    with pytest.raises(Stop):
        run(ledger, first, progress=stop)
    assert reversals(ledger) == {}
    totals = run(ledger, write(tmp_path / "b.csv", [L("C2", "A", -1, "03 10:00")]))
    assert totals.exceptions == {"unmatched_refund": 1}
    assert reversals(ledger) == {"C1:1": (200, 20)}
    assert run(ledger, first).unchanged


def test_two_clerks_at_once_take_turns(database: Database, tmp_path: Path) -> None:
    """The same file, and another one that refunds the same order, imported at the same moment by two processes and this
    one: every order and refund counts once, and no piece is taken back twice."""
    path = big_export(tmp_path / "big.csv", 2000)
    other = write(tmp_path / "other.csv", [L("CX", "S0", -3, "28 13:00", customer="0")])
    env = environment(DATABASE_URL=database.app_url)
    with open_ledger(database) as ledger:
        shop(ledger)
        shop(ledger, "whole")
        with importing(path, env) as one, importing(path, env) as two, importing(other, env) as three:
            for process in (one, two, three):
                _, err = process.communicate(timeout=120)
                assert process.returncode == 0, err.decode()
        run(ledger, path, program="whole")
        mine = {key: part for key, part in reversals(ledger).items() if not key.startswith("CX:")}
        taken = sum(sale for sale, _ in reversals(ledger).values())
        assert taken <= sum(sale for sale, _ in reversals(ledger, "whole").values()) + 345
        assert len(mine) >= 667
        sales = [row.state["order_id"] for row in read_log(ledger) if row.topic == "ConversionRecorded"]
        assert len(sales) == len(set(sales)) == 2000


def test_a_killed_postgresql_only_delays_it(tmp_path: Path) -> None:
    """kill -9 of the server while it reads and twice while it records: the same command goes on by itself."""
    path = big_export(tmp_path / "big.csv", 3000)
    home = tmp_path / "home"
    with EmbeddedServer.start(home) as server:
        store.make_roles(server)
        store.make_database(server, store.DATABASE)
        urls = store.urls(server, store.DATABASE)
        assert urls.owner_url
        migrate(urls.owner_url)
        with open_ledger(urls) as ledger:
            shop(ledger)
            shop(ledger, "whole")
        kills = 0
        with importing(path, environment(LEDGER_HOME=str(home))) as process:
            for goal in (1000, 5000):
                wait_until(process, lambda goal=goal: _position_of(urls, PROGRAM) > goal)
                if process.poll() is None:
                    os.kill(int((home / "pgdata" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
                    kills += 1
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        assert kills >= 1
        assert b'"orders":3000' in out
        with open_ledger(urls) as ledger:
            run(ledger, path, program="whole")
            a, b = books_of(ledger)["facts"], books_of(ledger, "whole")["facts"]
            from collections import Counter

            ca, cb = Counter(map(str, a)), Counter(map(str, b))
            print("ONLY A", sum((ca - cb).values()), list((ca - cb).items())[:6])
            print("ONLY B", list((cb - ca).items())[:6])
            assert a == b
            a, b = books_of(ledger)["facts"], books_of(ledger, "whole")["facts"]
            from collections import Counter

            ca, cb = Counter(map(str, a)), Counter(map(str, b))
            print("ONLY A", sum((ca - cb).values()), list((ca - cb).items())[:6])
            print("ONLY B", list((cb - ca).items())[:6])
            assert a == b


def _position_of(urls: Database, program: str) -> int:
    try:
        with psycopg.connect(urls.app_url, connect_timeout=2) as conn:
            return position(conn, program)
    except psycopg.Error:
        return 0


# --- memory, and the real thing ----------------------------------------------------------------------------

PEAK = """
import resource, sys
from ledger.cli import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_stays_flat(database: Database, tmp_path: Path) -> None:
    """Ten times the lines take no more memory, give or take what an allocator keeps."""
    peaks = []
    with open_ledger(database) as ledger:
        for program, orders in (("small", 2_000), ("large", 20_000)):
            shop(ledger, program)
            path = big_export(tmp_path / f"{program}.csv", orders)
            line = [sys.executable, "-c", PEAK, *command(path, program)[3:]]
            done = subprocess.run(
                line, env=environment(DATABASE_URL=database.app_url), capture_output=True, text=True, check=True
            )
            assert f'"orders":{orders}' in done.stdout
            peaks.append(int(done.stderr.split()[-1]) / 1024)
    small, large = peaks
    assert large < small + 15, f"{small:.0f} MB became {large:.0f} MB"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real export is not beside this checkout")
def test_the_real_file_gives_the_known_figures(ledger: CommissionLedger) -> None:
    """217,062 lines of a real merchant, to the penny; and the same again."""
    totals = run(ledger, REAL)
    assert totals == Totals(
        orders=9_249,
        gross=420_669_197,
        commission=42_067_610,
        reversals=1_776,
        reversed_amount=11_954_419,
        reversed_commission=1_195_592,
        exceptions={"not_a_sale": 1_302, "unmatched_refund": 1_519},
        unchanged=False,
    )
    log = read_log(ledger)
    assert sum(row.topic == "AffiliateApproved" for row in log) == 31
    assert balance(ledger, "united-kingdom") == {"pending": 34_962_774}
    assert balance(ledger, "austria") == {"pending": 60_129}
    assert balance(ledger, "belgium") == {"pending": 88_189}
    assert run(ledger, REAL).unchanged
    assert len(read_log(ledger)) == len(log)
