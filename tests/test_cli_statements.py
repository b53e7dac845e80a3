"""The verbs about periods, statements and tax totals, as a clerk types them."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from statement_world import open_firm
from support import T0
from test_cli import Ledger, ledger, ok

from ledger.store.database import Database

__all__ = ["ledger"]  # the fixture


@pytest.fixture
def firm_of_january(database: Database) -> None:
    """January's sales of two affiliates, not closed yet."""
    with open_firm(database, now=T0) as firm:
        firm.register_payees()
        firm.sell("a-1", 100_000, at=T0)
        firm.sell("b-1", 50_000, "bob", at=T0)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        firm.approve_due()


@pytest.mark.usefixtures("firm_of_january")
def test_a_month_from_close_to_files(ledger: Ledger, tmp_path: Path) -> None:
    """Closing prints the totals, the lists name period and hash, a statement's JSON has that hash, and files written
    for everybody are left alone when they are there."""
    said = ok(ledger("close", "2026-01", "--program", "firm"))
    assert "2026-01 version 1 is closed: 2 statements, 4 lines, 0 of them late" in said
    assert re.search(r"GBP +payable +0\.00 +150\.00 +150\.00", said)
    again = ok(ledger("close", "2026-01", "--program", "firm"))
    assert again == said + "every statement was issued before: nothing changed\n"
    assert ledger("statements", "-p", "firm", "--affiliate", "nobody").err == (
        "ledger: affiliate nobody does not exist\n"
    )
    assert "2026-01        1  closed  2026-01-01 00:00  2026-02-01 00:00           2      4" in ok(
        ledger("periods", "-p", "firm")
    )
    listed = json.loads(ok(ledger("statements", "-p", "firm", "--affiliate", "ada", "--json")))
    shown = ok(ledger("statements", "-p", "firm", "--affiliate", "ada"))
    assert listed[0]["hash"] in shown
    assert re.search(r"2026-01 +1 +GBP +0\.00 +100\.00 +0\.00 +2 ", shown)
    for name in ("ada.json", "ada.pdf"):
        to = str(tmp_path / name)
        ok(ledger("statement", "2026-01", "-p", "firm", "--affiliate", "ada", "--language", "de", "--to", to))
    assert sha256((tmp_path / "ada.json").read_bytes()).hexdigest() == listed[0]["hash"]
    assert (tmp_path / "ada.pdf").read_bytes().startswith(b"%PDF-")
    printed = ok(ledger("statement", "2026-01", "-p", "firm", "--affiliate", "bob", "--format", "csv"))
    assert len(list(csv.DictReader(io.StringIO(printed)))) == 2
    write = ("write-statements", "2026-01", "-p", "firm", "--to", str(tmp_path / "all"), "--format", "json,csv")
    assert "4 files written" in ok(ledger(*write))
    damaged = tmp_path / "all" / "statement-firm-bob-2026-01-v1.csv"
    damaged.write_text("half a fi")
    assert "0 files written" in ok(ledger(*write, "--keep"))
    assert "1 files written" in ok(ledger(*write))
    assert damaged.read_bytes().decode() == printed


def test_what_is_wrong_is_said_in_one_line(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    """A month that is not over, a statement that is not there, a format that we do not have: no traceback."""
    with open_firm(database):
        pass
    for code, words, said in (
        (1, ("close", "2999-01", "-p", "firm"), "period 2999-01 is not over until 2999-02-01"),
        (2, ("close", "carnival", "-p", "firm"), "needs --until"),
        (2, ("close", "2026-9", "-p", "firm"), "2026-09 may be meant"),
        (1, ("statement", "2026-01", "-p", "firm", "--affiliate", "ada"), "ada has no statement for 2026-01"),
        (1, ("reissue", "2026-01", "-p", "firm", "--version", "2", "--reason", "x"), "2026-01 is not closed"),
        (1, ("periods", "-p", "nowhere"), "there is no such program"),
        (
            2,
            ("write-statements", "2026-01", "-p", "firm", "--to", str(tmp_path), "--format", "pdf,doc"),
            "'doc' is none",
        ),
    ):
        found = ledger(*words)
        assert (found.code, said in found.err, found.out) == (code, True, ""), words
        assert "Traceback" not in found.err


def test_tax_totals_as_a_table_and_as_a_file(ledger: Ledger, database: Database, tmp_path: Path) -> None:
    """The table has major units and counts; the file has the tax numbers and is for its owner's eyes only."""
    with open_firm(database) as firm:
        firm.register_payees()
        firm.sell("a-1", 100_000, at=T0)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        firm.approve_due()
        firm.close("2026-01")
        for row in firm.pay("2026-01"):
            firm.outcome(row.payout_id, "settle", date(2026, 2, 2))
    assert re.search(
        r"ada +DE +business +1 +0 +GBP +100\.00 +19\.00 +0\.00 +119\.00", ok(ledger("tax-totals", "2026", "-p", "firm"))
    )
    file = tmp_path / "tax.csv"
    ok(ledger("tax-totals", "2026", "-p", "firm", "--csv", str(file)))
    (row,) = csv.DictReader(io.StringIO(file.read_text()))
    assert (row["tax_number"], row["q1_transferred_amount"], row["q2_payout_count"]) == ("DE123", "119.00", "0")
    assert file.stat().st_mode & 0o077 == 0
