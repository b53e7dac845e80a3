"""The importer keeps the rules of a distributed engine: every statement stays inside its program's partition."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from import_support import MAPPING, L, reversals, run, shop, write
from partitions import Statement, recorded, shards, template  # noqa: F401
from support import PROGRAM, T0, open_ledger
from test_distribution import check_statements

from ledger.domain.ids import program_id
from ledger.imports import reconcile
from ledger.imports.mapping import load_mapping
from ledger.imports.reconcile import Settings, reconcile_orders
from ledger.imports.staging import QUERIES
from ledger.projections import breaks
from ledger.store.database import Database


def test_every_statement_of_an_import_touches_one_partition(database: Database, tmp_path: Path) -> None:
    """Those it sends, those it reads by server-side cursors, and a second file on top of the first."""
    with open_ledger(database) as ledger:
        shop(ledger)
        lines = [L("1", "A", 5), L("C2", "A", -2, "02 10:00"), L("C2", "B", -1, "02 10:00"), L("3", "A", -1)]
        with recorded() as statements:
            run(ledger, write(tmp_path / "a.csv", lines))
            run(ledger, write(tmp_path / "b.csv", [*lines, L("C4", "A", -2, "03 10:00")]))
        assert reversals(ledger) == {"C2:1": (200, 20), "C4:1": (200, 20)}
    id_ = program_id(PROGRAM)
    params: dict[str, Any] = {
        "program_id": id_, "import_id": id_, "now": T0, "most": 1, "ids": f"{{{id_}}}", "positions": [1],
        "reversal_ids": ["r"],
        "totals": "{}", "file_name": "", "offer_id": "", "currency": "GBP", "enrol": True,
    }  # fmt: skip
    with psycopg.connect(database.app_url) as conn:
        assert check_statements(conn, [one for one in statements if one.text not in QUERIES.values()]) > 20
        for name, text in QUERIES.items():
            touched = shards(conn, Statement(text, params))
            assert len(touched) == (name not in ("insert_file", "take_turn")), (name, touched)


def test_every_statement_of_a_reconciliation_touches_one_partition(database: Database, tmp_path: Path) -> None:
    """Those of the comparison, and those of the breaks that follow."""
    with open_ledger(database) as ledger:
        shop(ledger)
        lines = [L("1", "A", 5), L("C2", "A", -2, "02 10:00"), L("C2", "B", -1, "02 10:00")]
        run(ledger, write(tmp_path / "a.csv", lines))
        path = write(tmp_path / "b.csv", [*lines, L("3", "Z", 1), L("C4", "A", -1, "03 10:00")])
        with recorded() as statements:
            report = reconcile_orders(ledger, Settings(PROGRAM, path, load_mapping(MAPPING), "clerk"))
            with ledger.reading(PROGRAM) as (cur, id_):
                assert len(list(breaks.every(cur, id_, T0))) == report.count == 2
                breaks.ageing(cur, id_, T0)
    known = (*reconcile.QUERIES.values(), *QUERIES.values())
    params: dict[str, Any] = {
        "program_id": id_, "import_id": id_, "since": T0, "until": T0 + timedelta(1), "prefix": "", "places": 2,
        "currency": "GBP", "first_day": T0.date(), "last_day": T0.date(),
    }  # fmt: skip
    with psycopg.connect(database.app_url) as conn:
        assert check_statements(conn, [one for one in statements if one.text not in known]) > 5
        for name, text in reconcile.QUERIES.items():
            assert len(shards(conn, Statement(text, params))) == 1, name
