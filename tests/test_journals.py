"""Journals for other tools: hledger and beancount come to the ledger's own balances, to the last minor unit."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import fresh_database
from journal_tools import (
    Balances,
    ToolObjects,
    beancount_balances,
    hledger,
    hledger_balances,
    in_major_units,
    needs_beancount,
    needs_hledger,
    ours,
)
from journal_world import NASTY, ODD, Books, at, held, journal, open_books
from statement_world import open_firm, random_history

from ledger import batches
from ledger.domain.errors import InvalidInput
from ledger.journals import beancount
from ledger.journals.hledger import escaped
from ledger.projections.books import AsOf
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.version import VERSION

MONTHS = ("2026-01", "2026-02", "2026-03")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[Books]:
    """The firm's books, which no test changes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "PATIENCE_SECONDS", 30.0)
        with fresh_database(server, template) as name, open_books(store.urls(server, name)) as made:
            yield made


def saved(folder: Path, content: bytes, name: str = "journal") -> Path:
    """A file of it."""
    file = folder / name
    file.write_bytes(content)
    return file


def rows(content: bytes) -> list[dict[str, str]]:
    """A CSV journal's rows."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def accrued(content: bytes) -> dict[str, dict[str, str]]:
    """A CSV journal's commissions by order."""
    return {row["reference"]: row for row in rows(content) if row["topic"] == "CommissionAccrued"}


def ours_of_beancount(account: str) -> str:
    """Our account, from its default name in beancount: the other way round, and by hand."""
    head, _, rest = account.partition(":Affiliates:")
    if head == "Liabilities" and rest:
        whose, bucket = rest.split(":")
        return f"liability:{beancount.affiliate_of(whose)}:{ {'InTransit': 'in_transit'}.get(bucket, bucket.lower()) }"
    if head == "Assets:Bank" and rest:
        return f"asset:bank:{beancount.affiliate_of(rest)}"
    return {
        "Assets:Bank:Program": "asset:bank",
        "Assets:Tax:VAT": "tax:vat",
        "Liabilities:Tax:Withholding": "tax:withholding",
        "Expenses:Commission": "expense:commission",
        "Expenses:Adjustment": "expense:adjustment",
        "Expenses:BankFees": "expense:bank_fee",
    }[account]


def by_tool(kind: str, file: Path) -> Balances:
    """What a tool says every account of ours holds."""
    if kind == "hledger":
        return {(ours(account), currency): amount for (account, currency), amount in hledger_balances(file).items()}
    return {(ours_of_beancount(a), currency): amount for (a, currency), amount in beancount_balances(file).items()}


TOOLS = pytest.mark.parametrize(
    "kind", [pytest.param("hledger", marks=needs_hledger), pytest.param("beancount", marks=needs_beancount)]
)


# --- the tools agree -----------------------------------------------------------------------------------------


@TOOLS
def test_another_tool_comes_to_our_balances(world: Books, tmp_path: Path, kind: str) -> None:
    """Sales, refunds, adjustments, payouts with taxes and charges, four currencies and odd ids: every account is equal,
    and the tool has nothing to object."""
    held = world.held()
    assert {currency for _, currency in held} == {"GBP", "USD", "JPY", "KWD"}
    moved = {row["debit_account"] for row in rows(world.export("csv"))}
    assert {"asset:bank:ada", "expense:bank_fee", "tax:vat", "expense:adjustment", "tax:withholding"} <= moved
    assert by_tool(kind, saved(tmp_path, world.export(kind))) == in_major_units(held)


@TOOLS
def test_a_period_s_file_stands_alone(world: Books, tmp_path: Path, kind: str) -> None:
    """With its opening balances a closed period's file closes with the balances as of the cut, late items included; an
    open one with what is known now. April's first sale is in none of them."""
    for period in MONTHS:
        cut = None if period == "2026-03" else world.firm.cut(period)
        as_of = AsOf(cut.position, cut.ends_at) if cut else AsOf(None, at(2026, 4, 1))
        found = by_tool(kind, saved(tmp_path, world.export(kind, period=period)))
        assert found == in_major_units(world.held(as_of)), period


@TOOLS
def test_periods_without_opening_follow_each_other(world: Books, tmp_path: Path, kind: str) -> None:
    """Files of consecutive periods, one behind the other, are the whole book: nothing twice, nothing missing, and the
    assertions of each hold in their place."""
    parts = [world.export(kind, period=period, opening=False) for period in MONTHS]
    parts.append(world.export(kind, since="2026-04-01", opening=False))
    assert by_tool(kind, saved(tmp_path, b"\n".join(parts))) == in_major_units(world.held())


@needs_hledger
def test_random_histories_by_period(database: Database, tmp_path: Path) -> None:
    """Whatever happens in whichever order, and closed whenever: each period in hledger closes with its cut."""
    with open_firm(database, zone="Asia/Kolkata") as firm:
        closed = random_history(firm, seed=7)
        assert closed
        for period in closed:
            cut = firm.cut(period)
            text = journal(firm.ledger, firm.program, "hledger", period=period)
            expected = held(firm.ledger, firm.program, AsOf(cut.position, cut.ends_at))
            assert by_tool("hledger", saved(tmp_path, text)) == in_major_units(expected), period


@TOOLS
@pytest.mark.parametrize("currency", ["GBP", "JPY", "KWD"])
def test_the_tool_itself_notices_what_was_changed(world: Books, tmp_path: Path, kind: str, currency: str) -> None:
    """One minor unit more in both postings of one transaction: the assertions at the end fail, in the tool."""
    text = world.export(kind).decode()
    amounts = [m for m in re.finditer(rf"  (-?[0-9.]+) {currency}\n", text) if m[1].strip("-0.")]
    first, second = amounts[0], amounts[1]
    assert second[1] == f"-{first[1]}", "the two postings of a line"
    digit = str((int(first[1][-1]) + 1) % 10)
    changed = text[: first.end(1) - 1] + digit + text[first.end(1) : second.end(1) - 1] + digit + text[second.end(1) :]
    assert len(changed) == len(text)
    with pytest.raises(ToolObjects, match=r"(?i)balance"):
        by_tool(kind, saved(tmp_path, changed.encode()))


@needs_beancount
def test_bean_check_is_content(world: Books, tmp_path: Path) -> None:
    """The command that an accountant runs says nothing, which is its way of saying yes."""
    file = saved(tmp_path, world.export("beancount", period="2026-02"), "february.beancount")
    command = Path(sys.executable).with_name("bean-check")
    ran = subprocess.run([command, file], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@needs_hledger
def test_hledger_finds_by_code_payee_note_and_tag(world: Books, tmp_path: Path) -> None:
    """A position, a kind of event, a reference and an affiliate lead to their transactions, whatever the reference has
    in it; and days are those of the program's zone, the secondary ones those of the record."""
    file = saved(tmp_path, world.export("hledger"))
    sold = accrued(world.export("csv"))["last minute"]
    found = hledger(file, "print", f"code:^{sold['position']}$")
    assert "2026-01-31=2026-01-31 *" in found
    assert "CommissionAccrued | last minute" in found
    assert "last minute" in hledger(file, "register", "payee:^ConversionApproved$", "tag:affiliate=^ada$", "-w200")
    assert hledger(file, "print", "desc:1\\+1").count("affiliate:a.b_c-1") == 2
    notes = hledger(file, "notes")
    assert escaped(NASTY) in notes


def test_escapes_lose_nothing(world: Books) -> None:
    """Percent-decoding gives the reference back."""
    assert unquote(escaped(NASTY)) == NASTY
    assert f"| {escaped(NASTY)}\n".encode() in world.export("hledger")


# --- what stands in it ---------------------------------------------------------------------------------------


def test_periods_never_share_a_line_and_miss_none(world: Books) -> None:
    """The lines of consecutive spans, closed or not, are those of the whole, each once, by day as by month."""
    whole = [(row["position"], row["line"]) for row in rows(world.export("csv"))]
    assert whole == sorted(whole, key=lambda key: (int(key[0]), int(key[1])))
    by_month = [{"period": period} for period in MONTHS] + [{"since": "2026-04-01"}]
    odd: list[dict[str, Any]] = [
        {"until": "2026-01-05"},
        {"since": "2026-01-05", "until": "2026-01-21T12:00:00Z"},
        {"since": "2026-01-21T12:00:00Z", "until": "2026-02-20"},
        {"since": "2026-02-20", "until": "2026-03-21"},
        {"since": "2026-03-21"},
    ]
    for spans in (by_month, odd):
        found = [(row["position"], row["line"]) for span in spans for row in rows(world.export("csv", **span))]
        assert len(found) == len(whole)
        assert set(found) == set(whole)


def test_an_instant_in_a_closed_period_is_seen_as_of_its_cut(world: Books) -> None:
    """Until the 20th of January: what January's second version knew, and not what was learned in February."""
    known = accrued(world.export("csv", until="2026-01-20"))
    assert "late in version 2" in known
    assert "late in February" not in known
    assert "late in February" in accrued(world.export("csv", until="2026-02-20"))


def test_what_came_late_is_booked_where_it_was_stated(world: Books) -> None:
    """February has what was recorded too late for January, on the day it was recorded but inside of February, with its
    own day beside it; January's second version has what it was made for, on its own day."""
    january, february = (accrued(world.export("csv", period=period)) for period in MONTHS[:2])
    assert {name: (row["date"], row["late_from"]) for name, row in february.items()} == {
        "known early": ("2026-02-02", ""),
        "late in February": ("2026-02-10", "2026-01-08"),
        "late and after the end": ("2026-02-28", "2026-01-09"),
    }
    assert (january["late in version 2"]["date"], january["late in version 2"]["late_from"]) == ("2026-01-07", "")
    assert january["last minute"]["date"] == "2026-01-31", "the day of New York"
    first = january["before the first period"]
    assert (first["date"], first["late_from"]) == ("2025-12-30", ""), "the first one has everything earlier"
    text = world.export("hledger", period="2026-02").decode()
    assert "2026-02-28=2026-03-02 * " in text
    assert "late_from:2026-01-09" in text
    assert '"late in February" #late' in world.export("beancount", period="2026-02").decode()


@pytest.mark.parametrize("kind", ["hledger", "beancount", "csv"])
def test_the_same_request_has_the_same_bytes(world: Books, kind: str) -> None:
    """Twice the same; and a closed period has what it had when it was closed, whatever came since."""
    now = world.export(kind, period="2026-02")
    assert now == world.export(kind, period="2026-02")
    assert now == world.early[kind]


def test_the_head_says_what_it_is(world: Books) -> None:
    """Program, cut, position, counts and control totals, which are those of the lines; the code's version."""
    cut = world.firm.cut("2026-02")
    head = [line for line in world.export("hledger", period="2026-02").decode().splitlines() if line.startswith("; ")]
    lines = rows(world.export("csv", period="2026-02"))
    assert head[:4] == [
        "; Commission ledger: the general ledger of program firm",
        "; period 2026-02, closed, version 1",
        f"; has: what had happened before 2026-03-01T05:00:00Z, as far as known after position {cut.position}",
        "; without: what had happened before 2026-02-01T05:00:00Z, as far as known after position"
        f" {cut.previous_position}",
    ]
    of_yen = [row for row in lines if row["currency"] == "JPY"]
    total = sum(int(row["minor_units"]) for row in of_yen)
    assert f"; control total JPY: {len({r['position'] for r in of_yen})} transactions, {len(of_yen)} lines," in str(
        head
    )
    assert f"debits = credits = {total}" in str(head)
    assert f", {len({row['position'] for row in lines})} transactions, {len(lines)} lines" in str(head)
    assert f"; as of position {cut.position} of the books' log; days are those of America/New_York" in head
    assert "; checkpoint: none covers it yet" in head
    assert re.fullmatch(rf"; code version {re.escape(VERSION)}\+[0-9a-f]{{12}}", head[-1])
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_csv_rows_are_harmless_and_exact(world: Books) -> None:
    """No cell starts a formula, amounts are decimals of their minor units, and the rows add up to our balances."""
    found: dict[tuple[str, str], int] = {}
    for row in rows(world.export("csv")):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values()), row
        whole, _, part = row["amount"].partition(".")
        assert len(part) == {"GBP": 2, "USD": 2, "JPY": 0, "KWD": 3}[row["currency"]]
        assert int(whole + part) == int(row["minor_units"])
        for account, sign in ((row["debit_account"], 1), (row["credit_account"], -1)):
            key = account, row["currency"]
            found[key] = found.get(key, 0) + sign * int(row["minor_units"])
    assert {key: amount for key, amount in found.items() if amount} == world.held()
    assert {"'-x", "_", "a.b_c-1"} <= {row["affiliate"] for row in rows(world.export("csv"))}
    nasty = [row["reference"] for row in rows(world.export("csv")) if "1+1" in row["reference"]]
    assert nasty
    assert all(text.startswith("'=1+1, 'x'") for text in nasty)


def test_csv_rows_open_with_the_balances_if_asked(world: Books) -> None:
    """Without being asked a period's rows are its own; with --opening those before it come first, against one account,
    and the rows close with the cut."""
    assert not any(row["topic"] == "OpeningBalance" for row in rows(world.export("csv", period="2026-02")))
    found: dict[tuple[str, str], int] = {}
    for row in rows(world.export("csv", period="2026-02", opening=True)):
        for account, sign in ((row["debit_account"], 1), (row["credit_account"], -1)):
            key = account, row["currency"]
            found[key] = found.get(key, 0) + sign * int(row["minor_units"])
    cut = world.firm.cut("2026-02")
    assert {key: amount for key, amount in found.items() if amount} == world.held(AsOf(cut.position, cut.ends_at))
    assert ("equity:opening", "GBP") in found, "and it is empty again: the books sum to zero"


# --- mapping ---------------------------------------------------------------------------------------------------

CHART = b"""
[accounts]
"liability:{affiliate}:{bucket}" = "Liabilities:Commissions:{bucket}"
"liability:{affiliate}:payable" = "Liabilities:Creditors:{affiliate}"
"asset:bank:{affiliate}" = "Assets:N1200-Bank"
"asset:bank" = "Assets:N1200-Bank"
"expense:bank_fee" = "Expenses:N4970"
"""


@TOOLS
def test_an_accountant_s_own_chart(world: Books, tmp_path: Path, kind: str) -> None:
    """Buckets of all affiliates in one account, payables by creditor, one bank: balances are the sums of ours, and the
    affiliate stays on each transaction."""
    text = world.export(kind, mapping=("chart.toml", CHART), period="2026-02")
    found = (hledger_balances if kind == "hledger" else beancount_balances)(saved(tmp_path, text))
    cut = world.firm.cut("2026-02")
    held = world.held(AsOf(cut.position, cut.ends_at))
    for currency in ("GBP", "JPY", "KWD"):
        bank = sum(v for (a, c), v in held.items() if a.startswith("asset:bank") and c == currency)
        paid = {("Assets:N1200-Bank", currency): bank}
        assert found.get(("Assets:N1200-Bank", currency), 0) == in_major_units(paid).get(
            ("Assets:N1200-Bank", currency), 0
        )
        names = {who: who if kind == "hledger" else beancount.affiliate_part(who) for who in (*ODD, "ada", "bob")}
        creditors = {(f"Liabilities:Creditors:{names[a.split(':')[1]]}", c): v for (a, c), v in held.items()
                     if a.endswith(":payable") and c == currency}  # fmt: skip
        assert {k: v for k, v in found.items() if "Creditors" in k[0] and k[1] == currency} == in_major_units(creditors)
    assert b"mapping with SHA-256" in text
    assert b"a.b_c-1" in text
    fees = [account for account, _ in found if account.startswith("Expenses")]
    assert "Expenses:N4970" in fees


@needs_beancount
def test_beancount_s_assertions_include_what_lies_below(world: Books, tmp_path: Path) -> None:
    """Where one account of the chart lies below another, the assertion of the upper one counts both."""
    chart = b'[accounts]\n"asset:bank" = "Assets:Bank"\n"tax:vat" = "Assets:Bank:Tax"\n'
    beancount_balances(saved(tmp_path, world.export("beancount", mapping=("chart.toml", chart))))


def test_an_affiliate_s_own_account_is_nobody_else_s(world: Books) -> None:
    """A name that is both an affiliate's and the program's would mix their money: refused, with both keys."""
    chart = b'[accounts]\n"asset:bank" = "assets:bank:affiliates:ada"\n'
    with pytest.raises(InvalidInput, match=r'accounts\."asset:bank.*leads to assets:bank:affiliates:ada'):
        world.export("hledger", mapping=("m.toml", chart))
