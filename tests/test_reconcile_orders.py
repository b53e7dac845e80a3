"""The merchant's export against the books: every difference is found, named once, and gone when it is gone."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from import_support import MAPPING, REAL, L, random_lines, run, shop, write
from support import PROGRAM, Clock, balance, by, open_ledger, read_log

from ledger import reads
from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.breaks import AssignBreak, BreakState, ResolveBreak
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import load_mapping
from ledger.imports.reconcile import Report, Settings, reconcile_orders
from ledger.projections import breaks
from ledger.store.database import Database

JANUARY = datetime(2010, 1, 1, 10, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database: Database, clock: Clock) -> Iterator[CommissionLedger]:
    """A ledger with an empty shop that pays 10 %."""
    with open_ledger(database, clock) as opened:
        shop(opened)
        yield opened


def reconcile(ledger: CommissionLedger, path: Path, **more: Any) -> Report:
    """Compare a file with the shop's books."""
    return reconcile_orders(ledger, Settings(PROGRAM, path, load_mapping(MAPPING), "clerk", **more))


def found(report: Report) -> dict[str, tuple[int | None, int | None]]:
    """Every difference that a small report names: break id → (here, there)."""
    assert all(len(total.first) == total.count for total in report.differences)
    return {one.break_id: (one.expected, one.found) for total in report.differences for one in total.first}


def breaks_of(ledger: CommissionLedger) -> dict[str, BreakState]:
    """Every break there is."""
    with reads.reading(ledger, PROGRAM) as look:
        return {one.record_id: one.state for one in look.records("break", "", 1000)}


def sell(ledger: CommissionLedger, order_id: str, amount: int, at: datetime = JANUARY, **more: Any) -> None:
    """A sale that came by the API."""
    command = RecordConversion(
        order_id=order_id, offer_id="shoes", amount=amount, occurred_at=at, affiliate_id="ada", **more
    )
    assert ledger.execute(PROGRAM, command, by()).outcome == "recorded"


def approve_ada(ledger: CommissionLedger) -> None:
    ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id="ada"), by())
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="ada", decision="approve"), by())


# --- the real export ---------------------------------------------------------------------------------------


def read_rows(path: Path, most: int) -> list[dict[str, str]]:
    """The first lines of the real export."""
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        return [row for row, _ in zip(csv.DictReader(file), range(most), strict=False)]


def save(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path


@pytest.mark.skipif(not REAL.exists(), reason="the real export is not beside this checkout")
def test_a_real_export_agrees_with_its_import_and_a_tampered_one_shows_exactly_what_was_done(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """20,000 lines of a real shop: what the importer kept as exceptions is known and no break. Then an order is left
    out, one added, one changed, a refund left out and one added: five breaks, no more."""
    rows = read_rows(REAL, 20_000)
    run(ledger, save(tmp_path / "real.csv", rows))
    before = read_log(ledger)
    clean = reconcile(ledger, tmp_path / "real.csv")
    assert clean.differences == []
    assert clean.orders_there == clean.orders_here > 700
    assert clean.known > 100
    assert read_log(ledger) == before

    amounts = {r.state["order_id"]: r.state["amount"] for r in before if r.topic == "ConversionRecorded"}
    taken = [r.state for r in before if r.topic == "ConversionReversed"]
    plain = [o for o in amounts if o not in {t["order_id"] for t in taken} and amounts[o] > 100]
    kept = {r.state["exception_id"].split(":")[1] for r in before if r.topic == "ExceptionRaised"}
    parts = Counter(t["reversal_id"].split(":")[0] for t in taken) + Counter(t["order_id"] for t in taken)
    back = next(t for t in taken if all(parts[i] == 1 and i not in kept for i in t["reversal_id"].split(":")))
    pieces = Counter((r["Customer ID"], r["StockCode"]) for r in rows)
    bought = next(
        r for r in rows
        if r["Invoice"] in plain[200:] and r["Customer ID"] and pieces[r["Customer ID"], r["StockCode"]] == 1
    )  # fmt: skip

    gone, refund = plain[5], back["reversal_id"].split(":")[0]
    tampered = [dict(r) for r in rows if r["Invoice"] not in (gone, refund)]
    dearer = next(r for r in tampered if r["Invoice"] == plain[50] and int(r["Quantity"]) > 0)
    dearer["Price"] = f"{float(dearer['Price']) + 1:.2f}"
    last = rows[-1]["InvoiceDate"]
    tampered.append(bought | {"Invoice": "NEW", "Quantity": "2", "Price": "3.45", "Customer ID": "", "StockCode": "X"})
    tampered.append(bought | {"Invoice": "CNEW", "Quantity": "-1", "InvoiceDate": last})
    assert found(reconcile(ledger, save(tmp_path / "tampered.csv", tampered))) == {
        "orders:missing:NEW": (None, 690),
        f"orders:extra:{gone}": (amounts[gone], None),
        f"orders:amount_differs:{plain[50]}": (amounts[plain[50]], amounts[plain[50]] + 100 * int(dearer["Quantity"])),
        f"orders:refunded_here:{back['order_id']}": (back["sale_amount"], 0),
        f"orders:refunded_there:{bought['Invoice']}": (0, round(float(bought["Price"]) * 100)),
    }
    assert len(breaks_of(ledger)) == 5


# --- kinds of difference -----------------------------------------------------------------------------------


def test_sales_that_came_by_the_api_are_compared_with_an_export_that_was_never_imported(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """Each kind of difference, once; what agrees, and what lies outside the file's span, is none. Nothing is
    imported: no order is recorded, and no line of the file stays."""
    approve_ada(ledger)
    sell(ledger, "same", 500)
    sell(ledger, "dearer", 300)
    sell(ledger, "here-only", 700)
    sell(ledger, "too-late", 700, JANUARY.replace(month=2))
    sell(ledger, "euros", 400, currency="EUR")
    sell(ledger, "back-here", 1000)
    command = RecordReversal(reversal_id="r", order_id="back-here", sale_amount=250, occurred_at=JANUARY)
    ledger.execute(PROGRAM, command, by())
    lines = [
        L("same", "A", 5), L("dearer", "A", 4), L("there-only", "A", 2, "02 10:00"), L("euros", "A", 4),
        L("back-here", "A", 10), L("back-there", "B", 3), L("C1", "B", -1, "03 10:00"), L("C2", "Z", -1, "03 10:00"),
        L("odd", "A", -1, "04 10:00"),
    ]  # fmt: skip
    sell(ledger, "back-there", 300)
    report = reconcile(ledger, write(tmp_path / "a.csv", lines))
    assert found(report) == {
        "orders:missing:there-only": (None, 200),
        "orders:extra:here-only": (700, None),
        "orders:amount_differs:dearer": (300, 400),
        "orders:currency_differs:euros": (400, None),
        "orders:refunded_here:back-here": (250, 0),
        "orders:refunded_there:back-there": (0, 100),
        "orders:refunded_there:line:C2:1": (None, 100),
    }
    assert (report.orders_there, report.orders_here, report.opened, report.vanished) == (6, 6, 7, 0)
    kept = breaks_of(ledger)["orders:amount_differs:dearer"]
    assert (kept.opened.affiliate_id, kept.opened.reference, kept.currency) == ("ada", "dearer", "GBP")
    assert kept.detail == "order dearer of 2010-01-01 is 4.00 GBP in the export and 3.00 GBP here"
    assert str(kept.opened.occurred_on) == "2010-01-01"
    assert "there-only" not in {r.state.get("order_id") for r in read_log(ledger)}
    with ledger.reading(PROGRAM) as (cur, id_):
        for table in ("import_lines", "import_invoices", "import_matches", "import_files", "import_turns"):
            cur.execute(f"SELECT count(*) FROM {table} WHERE program_id = %s".encode(), (id_,))
            assert cur.fetchone() == (0,), table


def test_the_span_can_be_widened_and_narrowed(ledger: CommissionLedger, tmp_path: Path) -> None:
    """The file ends on the 2nd: a sale of the 20th is beyond it, unless somebody says that the file is the month."""
    approve_ada(ledger)
    sell(ledger, "late", 100, JANUARY.replace(day=20))
    path = write(tmp_path / "a.csv", [L("1", "A", 1), L("2", "A", 1, "02 10:00")])
    assert set(found(reconcile(ledger, path, record=False))) == {"orders:missing:1", "orders:missing:2"}
    month = reconcile(ledger, path, record=False, until=datetime(2010, 2, 1, tzinfo=UTC))
    assert set(found(month)) == {"orders:missing:1", "orders:missing:2", "orders:extra:late"}
    second = reconcile(ledger, path, since=datetime(2010, 1, 2, tzinfo=UTC))
    assert set(found(second)) == {"orders:missing:2"} == set(breaks_of(ledger))
    with pytest.raises(ImportRefused, match="nothing lies between"):
        reconcile(ledger, path, since=datetime(2011, 1, 1, tzinfo=UTC))


def test_what_is_kept_as_an_exception_is_known(ledger: CommissionLedger, tmp_path: Path) -> None:
    """A closed affiliate's order, an order recorded otherwise, a changed invoice, refunds of nothing: somebody looks
    after them already. An amount that nobody has seen yet is a break."""
    approve_ada(ledger)
    ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id="cy"), by())
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="cy", decision="close"), by())
    sell(ledger, "otherwise", 77)
    run(ledger, write(tmp_path / "a.csv", [L("1", "A", 5)]))
    lines = [L("1", "A", 6), L("otherwise", "A", 1), L("closed", "A", 1, country="cy"), L("C9", "Q", -1, "02 10:00")]
    path = write(tmp_path / "b.csv", lines)
    assert run(ledger, path).exceptions == {"differs_from_original": 2, "affiliate_closed": 1, "unmatched_refund": 1}
    report = reconcile(ledger, path)
    assert (report.differences, report.known) == ([], 4)
    other = write(tmp_path / "c.csv", [L("1", "A", 7), *lines[1:]])
    assert found(reconcile(ledger, other)) == {"orders:amount_differs:1": (500, 700)}


@pytest.mark.parametrize("seed", range(3))
def test_what_was_imported_in_several_files_agrees_with_each_of_them_and_with_the_whole(
    ledger: CommissionLedger, tmp_path: Path, seed: int
) -> None:
    """Random dirty lines, cut into days: a refund finds the orders of earlier files again, and what others left."""
    at: dict[str, str] = {}
    lines = [line._replace(at=at.setdefault(line.invoice, line.at)) for line in random_lines(seed, 200)]
    lines.sort(key=lambda line: line.at)
    days = sorted({line.at[:2] for line in lines})
    files = [write(tmp_path / f"{day}.csv", [one for one in lines if one.at[:2] == day]) for day in days]
    for path in files:
        run(ledger, path)
    before = read_log(ledger)
    for path in files:
        assert found(reconcile(ledger, path)) == {}
    assert found(reconcile(ledger, write(tmp_path / "whole.csv", lines))) == {}
    assert read_log(ledger) == before


def test_a_refund_of_an_earlier_months_order_is_compared_by_what_that_month_left(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """February's file has only the refund: recorded it agrees; a second one is there and not here, and one that was
    recorded here alone is here and not there. January's file is not concerned."""
    january = write(tmp_path / "a.csv", [L("1", "A", 5), L("2", "B", 5)])
    run(ledger, january)
    refunds = [L("C3", "A", -2, "20 10:00"), L("4", "Z", 1, "20 10:00")]
    february = write(tmp_path / "b.csv", refunds)
    run(ledger, february)
    assert found(reconcile(ledger, february)) == found(reconcile(ledger, january)) == {}
    at = datetime(2010, 1, 20, 10, tzinfo=UTC)
    ledger.execute(PROGRAM, RecordReversal(reversal_id="r", order_id="2", sale_amount=100, occurred_at=at), by())
    more = write(tmp_path / "c.csv", [*refunds, L("C5", "A", -1, "21 10:00")])
    assert found(reconcile(ledger, more)) == {
        "orders:refunded_there:1@2010-01-20": (200, 300),
        "orders:refunded_here:2@2010-01-20": (100, 0),
    }
    assert found(reconcile(ledger, january)) == {}


# --- again -------------------------------------------------------------------------------------------------


def test_breaks_open_change_vanish_and_come_back(ledger: CommissionLedger, tmp_path: Path, clock: Clock) -> None:
    """The same file again records nothing. A difference that is gone has vanished, one that is back is open again and
    young again, other figures show, what was accepted stays so, and another day's breaks are left alone."""
    one, two = [L("1", "A", 1), L("2", "A", 2)], [L("8", "A", 1, "09 10:00")]
    path = write(tmp_path / "a.csv", one)
    assert reconcile(ledger, path).opened == 2
    before = read_log(ledger)
    assert (reconcile(ledger, path).opened, read_log(ledger)) == (0, before)
    reconcile(ledger, write(tmp_path / "b.csv", two))
    ledger.execute(PROGRAM, AssignBreak(break_id="orders:missing:1", owner="ben"), by())
    accept = ResolveBreak(break_id="orders:missing:2", resolution="accepted", cause="merchant", reason="a test order")
    ledger.execute(PROGRAM, accept, by())
    assert reconcile(ledger, path).opened == 0

    clock.advance(days=40)
    approve_ada(ledger)
    sell(ledger, "1", 100)
    gone = reconcile(ledger, path)
    assert (gone.opened, gone.vanished, gone.count) == (0, 1, 1)
    states = breaks_of(ledger)
    assert [states[f"orders:missing:{n}"].status for n in "128"] == ["resolved", "resolved", "open"]
    assert states["orders:missing:1"].resolution == "vanished"

    dearer = write(tmp_path / "c.csv", [L("1", "A", 3), L("2", "A", 9)])
    clock.advance(days=2)
    assert reconcile(ledger, dearer).opened == 2
    assert breaks_of(ledger)["orders:missing:2"].found_amount == 900
    assert reconcile(ledger, write(tmp_path / "d.csv", [L("1", "A", 4), L("2", "A", 9)])).opened == 1
    clock.advance(days=3)
    with ledger.reading(PROGRAM) as (cur, id_):
        listed = {b.break_id: b for b in breaks.every(cur, id_, clock.now)}
        aged = {(r["type"], r["age"]): (r["count"], r["amount"]) for r in breaks.ageing(cur, id_, clock.now)}
    assert [(b, listed[b].age_days) for b in listed] == [
        ("orders:missing:1", 40), ("orders:missing:8", 45), ("orders:amount_differs:1", 3), ("orders:missing:2", 3),
    ]  # fmt: skip
    assert listed["orders:missing:1"].state.owner == "ben"
    assert aged == {("amount_differs", "0-7"): (1, 300), ("missing", "0-7"): (1, 900), ("missing", "31-90"): (1, 100)}
    assert balance(ledger, "ada") == {"pending": 10}


def test_an_unfinished_import_is_finished_before_anybody_compares(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Half of its orders would look missing."""
    path = write(tmp_path / "a.csv", [L("1", "A", 1)])

    class Stop(Exception):
        pass

    def stop(what: str, done: int, total: int | None) -> None:
        if "recorded" in what:
            raise Stop

    with pytest.raises(Stop):
        run(ledger, path, progress=stop)
    with pytest.raises(ImportRefused, match=r"the import of a\.csv was interrupted"):
        reconcile(ledger, path)
    run(ledger, path)
    assert reconcile(ledger, path).differences == []


def test_an_interrupted_reconciliation_goes_on_when_it_is_run_again(
    ledger: CommissionLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first commit: what was opened stays open, and the same command opens the rest."""
    monkeypatch.setattr("ledger.imports.reconcile.BATCH", 2)
    path = write(tmp_path / "a.csv", [L(str(n), "A", 1) for n in range(5)])

    def stop(what: str, done: int, total: int | None) -> None:
        if what == "differences":
            raise KeyboardInterrupt

    settings = Settings(PROGRAM, path, load_mapping(MAPPING), "clerk")
    with pytest.raises(KeyboardInterrupt):
        reconcile_orders(ledger, settings, stop)
    assert len(breaks_of(ledger)) == 2
    assert reconcile_orders(ledger, settings).opened == 3
    assert len(breaks_of(ledger)) == 5
