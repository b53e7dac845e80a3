"""Erasing on the stand-in for a distributed engine: every statement touches its program's partition and no other."""

from __future__ import annotations

from pathlib import Path

import psycopg
from partitions import recorded, template
from support import PROGRAM, T0, Clock, by, open_ledger, open_shop, program_id
from test_distribution import check_statements

from ledger import erasing
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.erasure import DecideErasure, ProposeErasure
from ledger.projections import decisions
from ledger.store import erased
from ledger.store.database import Database, make_pool
from ledger.store.vault import alive_keys

__all__ = ["template"]  # the fixture: this module's databases are on the stand-in


def test_every_statement_of_an_erasure_touches_one_partition(database: Database, tmp_path: Path) -> None:
    """From the proposal to the list outside of the database and the look at a start."""
    file = tmp_path / "known.erased.json"
    with open_ledger(database, Clock(T0.replace(month=3))) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="ada", decision="close", reason="x"), by())
        click = RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0, sub1="x")
        ledger.record_clicks(PROGRAM, [click], by())
        with recorded() as statements:
            for subject in ("affiliate:ada", "traffic:2026-01"):
                erasing.propose(ledger, PROGRAM, ProposeErasure(subject=subject, ground="request"), by("ana"))
                erasing.decide(ledger, PROGRAM, DecideErasure(subject=subject, approve=True), by("ben"), file)
            with ledger.reading(PROGRAM) as (cur, id_):
                assert len(decisions.page(cur, id_)) == 2
                assert alive_keys(cur, id_, ["affiliate:ada", "traffic:2026-01"]) == []
            with make_pool(database.app_url, min_size=1, max_size=1, name="start") as pool, pool.connection() as conn:
                erased.check(conn, file)
            sent = list(statements)
    with psycopg.connect(database.app_url) as conn:
        (home,) = conn.execute(
            "SELECT tableoid::regclass::text FROM programs WHERE program_id = %s", (program_id(PROGRAM),)
        ).fetchall()
        assert check_statements(conn, sent, home[0].rpartition("_p")[2]) >= 15
