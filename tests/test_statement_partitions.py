"""Periods, statements and tax totals keep the rules of a distributed engine: each statement stays in its partition."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import psycopg
from journal_world import journal
from partitions import Statement, recorded, shards, template  # noqa: F401
from statement_world import open_firm
from support import T0, program_id
from test_distribution import check_statements

from ledger import presenting
from ledger.journals import scope
from ledger.projections import periods, presented, tax_totals
from ledger.store.database import Database


def test_every_statement_of_a_close_and_its_readers_touches_one_partition(database: Database) -> None:
    """Closing, reissuing, comparing, presenting, a year's totals, a journal; server-side cursors, too."""
    with open_firm(database) as firm, recorded() as statements:
        firm.register_payees()
        firm.sell("a", 100_000, at=T0)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        firm.approve_due()
        firm.close("2026-01")
        firm.sell("late", 700, at=T0)
        firm.reissue("2026-01")
        for row in firm.pay("2026-01"):
            firm.outcome(row.payout_id, "settle", date(2026, 2, 2))
        firm.clock.now = datetime(2026, 3, 2, tzinfo=UTC)
        firm.close("2026-02")
        presenting.present(firm.ledger, firm.program, firm.statement("ada", "2026-02"), named=True)
        presenting.compare_versions(firm.ledger, firm.program, "ada", "2026-01", 1, 2).lines.close()
        presenting.find_period(firm.ledger, firm.program, "2026-01")
        for period in (None, "2026-02"):
            assert journal(firm.ledger, firm.program, "hledger", period=period)
        with firm.ledger.reading(firm.program) as (cur, id_):
            assert list(presented.statements_of_period(cur, id_, "2026-01")) == [("ada", 2)]
            periods.periods(cur, id_)
            assert len(tax_totals.totals(cur, id_, 2026, "UTC")) == 1
    streamed = [
        periods.QUERIES["select_lines"],
        periods.QUERIES["select_affiliate_lines"],
        scope.QUERIES["select_lines"],
    ]
    params: dict[str, Any] = {
        "program_id": program_id("firm"), "affiliate_id": "ada", "position": 9, "ends_at": T0, "previous_position": 0,
        "previous_period": "", "previous_version": 0, "instant": T0, "start_position": 0, "start_instant": T0,
    }  # fmt: skip
    with psycopg.connect(database.app_url) as conn:
        assert check_statements(conn, [one for one in statements if one.text not in streamed]) > 20
        for text in streamed:
            assert len(shards(conn, Statement(text, params))) == 1
