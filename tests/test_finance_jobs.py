"""What the worker does for finance: it closes and proposes, finishes what was interrupted, and never approves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support import PROGRAM, T0, Clock, by, open_ledger, open_shop, paid_by_paypal, sale, topics

from ledger import finance_jobs, payruns
from ledger.desk import Meta
from ledger.domain.period import ClosePeriod
from ledger.domain.proposing import BeginRun
from ledger.projections import payouts, periods
from ledger.store.database import Database

JOB = Meta(actor="job.test")


def test_months_close_by_themselves_and_a_run_waits_for_a_person(database: Database) -> None:
    """A day after its end a month is closed, also those missed; then a run is proposed once, and nothing is approved;
    a run that somebody began and an initiation that was interrupted are finished."""
    clock = Clock()
    with open_ledger(database, clock) as ledger:
        open_shop(ledger)
        for number in range(4):
            ledger.execute(PROGRAM, sale(f"A{number}", 100_000, "ada" if number % 2 else "bob"), by())
        for affiliate_id in ("ada", "bob"):
            paid_by_paypal(ledger, affiliate_id)
        clock.now = datetime(2026, 2, 1, 12, tzinfo=UTC)
        for _ in ledger.approve_due(PROGRAM, clock.now, by("job")):
            pass
        assert finance_jobs.close_periods(ledger, PROGRAM, clock.now, JOB)["periods"] == []
        clock.advance(days=1)
        assert finance_jobs.close_periods(ledger, PROGRAM, clock.now, JOB)["periods"] == ["2026-01"]
        assert finance_jobs.close_periods(ledger, PROGRAM, clock.now, JOB)["periods"] == []
        first = finance_jobs.propose_runs(ledger, PROGRAM, clock.now, JOB)
        assert first["runs"] == ["2026-01-GBP-paypal-1"]
        assert finance_jobs.propose_runs(ledger, PROGRAM, clock.now, JOB)["proposed"] == 0
        assert payruns.load_run(ledger, PROGRAM, first["runs"][0]).status == "proposed"
        clock.now = datetime(2026, 4, 15, tzinfo=UTC)
        assert finance_jobs.close_periods(ledger, PROGRAM, clock.now, JOB)["periods"] == ["2026-02", "2026-03"]
        assert "PayoutRunApproved" not in topics(ledger)


def test_what_was_interrupted_is_finished(database: Database) -> None:
    """A cut without its statements, and a run without its lines: the job completes both, and leaves the rest alone."""
    clock = Clock()
    with open_ledger(database, clock) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, sale("A1", 100_000, "ada"), by())
        paid_by_paypal(ledger, "ada")
        clock.advance(days=40)
        for _ in ledger.approve_due(PROGRAM, clock.now, by("job")):
            pass
        ledger.execute(PROGRAM, ClosePeriod(period="2026-01"), by())
        begin = BeginRun(
            period="2026-01", currency="GBP", method="paypal", cut_position=15, ends_at=T0 + timedelta(days=31)
        )
        ledger.execute(PROGRAM, begin, by())
        said = finance_jobs.resume(ledger, PROGRAM, clock.now, JOB)
        assert said == {"periods": 1, "proposals": 1, "initiations": 0}
        with ledger.reading(PROGRAM) as (cur, id_):
            assert [(cut.period, cut.status) for cut in periods.periods(cur, id_)] == [("2026-01", "closed")]
            assert [run.status for run in payouts.runs(cur, id_, "", 10)] == ["proposed"]
        assert finance_jobs.resume(ledger, PROGRAM, clock.now, JOB) == {
            "periods": 0, "proposals": 0, "initiations": 0,
        }  # fmt: skip


def test_reminders_count_without_a_mail_server(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history of the job says how many breaks are open, whether or not anybody is mailed."""
    monkeypatch.delenv("LEDGER_SMTP_URL", raising=False)
    with open_ledger(database, Clock()) as ledger:
        open_shop(ledger)
        said = finance_jobs.remind_open_breaks(ledger, PROGRAM, T0, JOB)
        assert said == {"open": 0, "older_than_7_days": 0, "mailed": 0}
        assert finance_jobs.send_notices(ledger, PROGRAM, T0, JOB) == {"sent": 0, "mail_server": "none"}
