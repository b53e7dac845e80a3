"""The demo: a whole year by the public commands, shown, and the same when it is asked for again."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from naive_books import add_up, lines
from support import MASTER_KEY, open_ledger, read_log, trial

from ledger import demo
from ledger.cli import main
from ledger.store.database import Database, make_pool
from ledger.store.vault import Secrets

KEYS = 5  # one a role but 'ingest'


@pytest.fixture
def small_year(monkeypatch: pytest.MonkeyPatch) -> None:
    """A year with fewer clicks and orders, for what does not depend on how many there are."""
    monkeypatch.setattr(demo, "CLICKS_A_WEEK", 60)
    monkeypatch.setattr(demo, "CONVERSIONS_A_WEEK", 20)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    """The test's database as the command's."""
    monkeypatch.setenv("DATABASE_URL", database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The verb's output."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--no-serve", *args])
    signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_the_year_is_as_large_and_as_varied_as_promised(
    env: None,
    database: Database,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted in the log itself; the books are what the naive second reading of the rules makes of it; and the command
    that is printed at its end says yes to the proof of a statement."""
    monkeypatch.setenv("LEDGER_HOME", str(tmp_path))
    out = run(capsys)
    offered = re.search(r"^  python3 run.py (verify \S+ --key \S+)$", out, re.MULTILINE)
    assert offered
    with pytest.raises(SystemExit) as ended:
        main(offered[1].split())
    assert not ended.value.code
    assert "YES: the statement of" in capsys.readouterr().out
    with open_ledger(database) as ledger:
        log = read_log(ledger, "demo")
        topics = Counter(row.topic for row in log)
        assert topics["AffiliateEnrolled"] >= 50
        assert len(read_log(ledger, "demo", "traffic")) >= 50_000
        assert topics["ConversionRecorded"] >= 3_000
        for topic in (
            "CouponAssigned", "ConversionHeld", "ConversionReleased", "ConversionRejected", "ConversionApproved",
            "ConversionReversed", "ReversalDeferred", "ConversionUnattributed", "AttributionDeferred",
            "ExceptionRaised", "AffiliateSuspended", "AffiliateReinstated", "AffiliateClosed", "AdjustmentPosted",
            "AdjustmentRejected",
        ):  # fmt: skip
            assert topics[topic], topic
        months = {row.recorded_at.month for row in log if row.topic == "ConversionApproved"}
        assert len(months) >= 11, "what is due is approved month by month"
        who = _actors(ledger)
        assert who["AdjustmentProposed"].isdisjoint(who["AdjustmentPosted"]), "two people"
        accounts = trial(ledger, "demo")
        assert accounts == add_up(lines(log))
    assert {currency for _, currency in accounts} == {"GBP", "USD"}
    assert re.search(r"^SUM +GBP +0\.00\nSUM +USD +0\.00$", out, re.MULTILINE)
    assert re.search(r"events in \d+\.\d s \([\d,]+ a second\)", out)
    assert len(re.findall(r"curl -H 'Authorization: Bearer clk_\w{16}_[\w-]{43}' 'http://127", out)) == KEYS
    shown = re.search(r"All entries of ([\w-]+)", out)
    assert shown
    paid = sum(amount for (name, currency), amount in accounts.items() if shown[1] in name and currency == "GBP")
    assert f"{-paid / 100:,.2f}" in out.partition("All entries of")[2].partition("Trial")[0]


def _actors(ledger: demo.CommissionLedger) -> dict[str, set[str]]:
    with ledger.reading("demo") as (cur, id_):
        cur.execute("SELECT topic, array_agg(DISTINCT actor) FROM book_events WHERE program_id = %s GROUP BY 1", (id_,))
        return {topic: set(actors) for topic, actors in cur}


def test_a_second_run_finds_the_year_there(
    env: None, small_year: None, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is simulated twice; only more keys are issued. Another seed is another program."""
    run(capsys)
    with open_ledger(database) as ledger:
        before = len(read_log(ledger, "demo"))
        out = run(capsys)
        assert "was simulated before" in out
        assert len(read_log(ledger, "demo")) == before + KEYS
        books = trial(ledger, "demo")
        assert "Program demo-2" in run(capsys, "--seed", "2")
        assert trial(ledger, "demo") == books != trial(ledger, "demo-2")


def test_an_interrupted_year_is_completed_by_the_next_run(small_year: None, database: Database) -> None:
    """Every order, refund and click is there once, and the books add up."""

    class Stop(Exception):
        """Instead of Ctrl-C."""

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("August"):
            raise Stop

    with open_ledger(database) as ledger, make_pool(database.app_url, min_size=1, max_size=4, name="t") as pool:
        secrets = Secrets(MASTER_KEY)
        with pytest.raises(Stop):
            demo.simulate(pool, secrets, 1, stop)
        year = demo.simulate(pool, secrets, 1, lambda *_: None)
        assert year.new
        assert not demo.simulate(pool, secrets, 1, stop).new
        orders = Counter(r.state["order_id"] for r in read_log(ledger, "demo") if r.topic == "ConversionRecorded")
        assert len(orders) >= 48 * 20 * 0.98  # a few sales name an offer that does not exist
        assert set(orders.values()) == {1}
        assert len(read_log(ledger, "demo", "traffic")) == 48 * 60
        assert trial(ledger, "demo") == add_up(lines(read_log(ledger, "demo")))
