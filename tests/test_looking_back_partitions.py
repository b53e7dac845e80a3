"""Timelines, replays and reports keep the rules of a distributed engine: each statement stays in its partition."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
from partitions import Statement, recorded, shards, template  # noqa: F401
from statement_world import open_firm
from support import T0, program_id
from test_distribution import check_statements

from ledger import reads, timeline
from ledger.audit import replay, views
from ledger.jobplan import JobPlan
from ledger.projections import periods
from ledger.reports import catalogue
from ledger.reports.report import Asked, make
from ledger.store.database import Database


def test_every_statement_of_looking_back_touches_one_partition(database: Database) -> None:
    """An affiliate's, an order's and a payout's timeline, a replay, and each report."""
    with open_firm(database) as firm:
        firm.register_payees()
        firm.sell("a", 100_000, at=T0)
        firm.refund("a", 500)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        firm.approve_due()
        firm.close("2026-01")
        (paid,) = firm.pay("2026-01")
        firm.outcome(paid.payout_id, "fail")
        with recorded() as statements:
            with reads.reading(firm.ledger, firm.program) as look:
                assert timeline.of_affiliate(look, "ada", timeline.BEGINNING, 1000)
                assert timeline.of_conversion(look, "a")
                assert timeline.of_payout(look, paid.payout_id)
            with firm.ledger.reading(firm.program) as (cur, id_):
                assert views.believed(replay.from_database(cur, id_)).accounts
            for report in catalogue.REPORTS.values():
                make(firm.ledger, firm.program, report, Asked(), JobPlan())
            make(firm.ledger, firm.program, catalogue.find("late-entries"), Asked(period="2026-01"), JobPlan())
    streamed = [periods.QUERIES["select_lines"], periods.QUERIES["select_affiliate_lines"]]
    with psycopg.connect(database.app_url) as conn:
        assert check_statements(conn, [one for one in statements if one.text not in streamed]) > 20
        wanted = timeline.QUERIES["select_affiliate"]
        (asked,) = {one.text: one for one in statements if one.text == wanted}.values()
        assert shards(conn, Statement(asked.text, asked.params)) == shards(
            conn, Statement("SELECT 1 FROM log_heads WHERE program_id = %s", (program_id("firm"),))
        )
