"""Importing order exports: each rule of the issue, the real file, and whatever may interrupt it."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from import_support import (
    HEADING,
    MAPPING,
    REAL,
    ROOT,
    L,
    books_of,
    exceptions,
    naive,
    random_lines,
    reversals,
    run,
    shop,
    write,
)
from support import MASTER_KEY, PROGRAM, balance, by, open_ledger, read_log, scalar

from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.ids import program_id
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings, import_orders
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


# --- the rules ---------------------------------------------------------------------------------------------


def test_lines_of_an_invoice_are_one_order_rounded_line_by_line(ledger: CommissionLedger, tmp_path: Path) -> None:
    """0.125 × 1 is 13 pence and not 12.5; the order is the sum of its rounded lines, its commission rounded once."""
    path = write(
        tmp_path / "a.csv", [L("1", "A", 1, price="0.125"), L("1", "A", 1, price="0.125"), L("1", "B", 3, price="0.55")]
    )
    totals = run(ledger, path)
    assert (totals.orders, totals.gross, totals.commission) == (1, 13 + 13 + 165, 19)
    recorded = next(row.state for row in read_log(ledger) if row.topic == "ConversionRecorded")
    assert recorded["items"] == [
        {"sku": "A", "amount": 13},
        {"sku": "A", "amount": 13},
        {"sku": "B", "quantity": 3, "amount": 165},
    ]
    assert recorded["occurred_at"] == "2010-01-01T10:00:00Z"
    assert balance(ledger, "ada") == {"pending": 19}


def test_an_order_happened_when_its_first_line_says_even_if_that_is_no_sale(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """The invoice's first line dates it; a line in between of another invoice does not end it."""
    path = write(
        tmp_path / "a.csv",
        [
            L("1", "A", -1, "02 09:00"),
            L("2", "A", 1, "02 10:00"),
            L("1", "A", 1, "02 09:01"),
            L("1", "B", 1, "02 09:02"),
        ],
    )
    assert run(ledger, path).orders == 2
    sales = {row.state["order_id"]: row.state for row in read_log(ledger) if row.topic == "ConversionRecorded"}
    assert sales["1"]["occurred_at"] == "2010-01-02T09:00:00Z"
    assert sales["1"]["amount"] == 200
    assert exceptions(ledger) == {"line:1:1": "not_a_sale"}


def test_a_price_of_zero_is_a_real_sale(ledger: CommissionLedger, tmp_path: Path) -> None:
    """A free article makes an order of 0 with a commission of 0."""
    totals = run(ledger, write(tmp_path / "a.csv", [L("1", "A", 2, price="0")]))
    assert (totals.orders, totals.gross, totals.commission, totals.exceptions) == (1, 0, 0, {})


def test_what_is_neither_sale_nor_refund_is_kept_line_by_line(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Negative prices, returns without the mark, marked sales, and refunds of nothing; equal lines are two."""
    lines = [
        L("1", "A", 1, price="-5.00"),
        L("1", "A", -1),
        L("1", "A", -1),
        L("C2", "A", 1),
        L("C2", "A", -1, price="0"),
        L("3", "A", 0),
    ]
    totals = run(ledger, write(tmp_path / "a.csv", lines))
    assert totals.orders == 0
    assert totals.exceptions == {"not_a_sale": 6}
    assert set(exceptions(ledger)) == {"line:1:1", "line:1:2", "line:1:3", "line:C2:1", "line:C2:2", "line:3:1"}
    fact = next(row.state["fact"] for row in read_log(ledger) if row.state.get("exception_id") == "line:1:1")
    assert fact["price"] == "-5.00"
    assert fact["description"] == 'the "A", new'


def test_a_refund_takes_from_the_latest_order_first_and_then_from_the_next(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """Five pieces: the two of the latest order, then three of the one before; the later order is not touched."""
    lines = [
        L("1", "A", 4, "01 10:00", "1.00"),
        L("2", "A", 2, "02 10:00", "3.00"),
        L("3", "A", 9, "05 10:00", "9.00"),
        L("C4", "A", -5, "03 10:00", "99.00"),
    ]
    totals = run(ledger, write(tmp_path / "a.csv", lines))
    assert reversals(ledger) == {"C4:2": (600, 60), "C4:1": (300, 30)}
    assert (totals.reversals, totals.reversed_amount, totals.reversed_commission) == (2, 900, 90)


def test_orders_of_one_instant_are_taken_by_invoice_and_an_equal_instant_counts_as_before(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """The higher invoice is the later one; a refund at the very instant of the order finds it."""
    lines = [L("10", "A", 1), L("11", "A", 1, price="2.00"), L("C1", "A", -1)]
    run(ledger, write(tmp_path / "a.csv", lines))
    assert reversals(ledger) == {"C1:11": (200, 20)}


def test_only_the_same_customer_and_article_match(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Another customer's order, another article, and a refund without a customer match nothing."""
    lines = [
        L("1", "A", 5, customer="1"),
        L("C2", "A", -1, customer="2"),
        L("C3", "B", -1, customer="1"),
        L("C4", "A", -1, customer=""),
        L("C5", "A", -7, customer="1"),
    ]
    totals = run(ledger, write(tmp_path / "a.csv", lines))
    assert reversals(ledger) == {"C5:1": (500, 50)}
    assert totals.exceptions == {"unmatched_refund": 4}
    facts = {row.state["exception_id"]: row.state["fact"] for row in read_log(ledger) if row.topic == "ExceptionRaised"}
    assert facts["line:C5:1"]["unmatched_quantity"] == 2
    assert facts["line:C4:1"]["unmatched_quantity"] == 1


def test_reversals_of_an_order_never_exceed_it_and_worthless_ones_are_not_made(
    ledger: CommissionLedger, tmp_path: Path
) -> None:
    """Two pieces of 12.5 pence sold for 25, given back singly at 13 each: 13 and then only 12; free ones make none."""
    lines = [
        L("1", "A", 2, price="0.125"),
        L("2", "F", 1, price="0"),
        L("C1", "A", -1, "02 10:00"),
        L("C2", "A", -1, "03 10:00"),
        L("C3", "F", -1, "03 10:00"),
    ]
    totals = run(ledger, write(tmp_path / "a.csv", lines))
    assert reversals(ledger) == {"C1:1": (13, 2), "C2:1": (12, 1)}
    assert totals.reversals == 2
    assert totals.exceptions == {}


def test_a_refund_in_a_later_file_finds_what_earlier_files_left(ledger: CommissionLedger, tmp_path: Path) -> None:
    """January's orders, February's refunds: what the first file's refunds took is not there any more."""
    first = [L("1", "A", 3, "01 10:00"), L("2", "A", 1, "02 10:00", "2.00"), L("C1", "A", -1, "03 10:00")]
    run(ledger, write(tmp_path / "a.csv", first))
    totals = run(ledger, write(tmp_path / "b.csv", [L("C2", "A", -4, "04 10:00")]))
    assert reversals(ledger) == {"C1:2": (200, 20), "C2:1": (300, 30)}
    assert totals.exceptions == {"unmatched_refund": 1}
    assert totals.orders == 0


def test_what_was_reversed_otherwise_is_not_there_to_be_taken(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Someone refunded most of the order through the API between two files: the import takes only the rest."""
    run(ledger, write(tmp_path / "a.csv", [L("1", "A", 10)]))
    day = next(row.state["occurred_at"] for row in read_log(ledger) if row.topic == "ConversionRecorded")
    command = RecordReversal(reversal_id="r1", order_id="1", sale_amount=900, occurred_at=datetime.fromisoformat(day))
    ledger.execute(PROGRAM, command, by())
    run(ledger, write(tmp_path / "b.csv", [L("C2", "A", -3, "04 10:00")]))
    assert reversals(ledger) == {"r1": (900, 90), "C2:1": (100, 10)}


@pytest.mark.parametrize("seed", range(12))
def test_random_files_match_as_a_naive_reading_of_the_rules(database: Database, tmp_path: Path, seed: int) -> None:
    """A few hundred dirty lines in one file give what a naive reading of the rules gives in memory."""
    lines = random_lines(seed, 240)
    amounts, taken, raised = naive(lines)
    with open_ledger(database) as ledger:
        shop(ledger)
        totals = run(ledger, write(tmp_path / "a.csv", lines))
        sales = {r.state["order_id"]: r.state["amount"] for r in read_log(ledger) if r.topic == "ConversionRecorded"}
        assert sales == amounts
        assert {key: amount for key, (amount, _) in reversals(ledger).items()} == {
            f"{refund}:{order}": amount for (refund, order), amount in taken.items()
        }
        assert exceptions(ledger) == raised
        assert totals.gross == sum(amounts.values())
        assert totals.reversed_amount == sum(taken.values())
        assert sum(totals.exceptions.values()) == len(raised)
        assert sum(part for _, part in reversals(ledger).values()) == totals.reversed_commission


# --- again -------------------------------------------------------------------------------------------------


def test_the_same_file_again_changes_nothing_and_says_the_same(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Also when it was packed, renamed, or its mapping got a comment."""
    lines = random_lines(99, 120)
    path = write(tmp_path / "a.csv", lines)
    first = run(ledger, path)
    assert not first.unchanged
    log = read_log(ledger)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "m.toml").write_text("# the same\n" + MAPPING.read_text())
    for again in (path, tmp_path / "b.csv.gz"):
        totals = run(ledger, again, mapping=tmp_path / "m.toml")
        assert totals.unchanged
        totals.unchanged = False
        assert totals == first
    assert read_log(ledger) == log


def test_a_growing_export_adds_only_what_is_new(ledger: CommissionLedger, tmp_path: Path) -> None:
    """This month's file begins with last month's lines: nothing counts twice, and its totals are of the whole file."""
    lines = [L("1", "A", 5), L("C2", "A", -2, "02 10:00"), L("C2", "B", -1, "02 10:00"), L("3", "A", -1, "02 11:00")]
    more = [L("4", "A", 1, "03 10:00", "7.00"), L("C5", "A", -2, "04 10:00")]
    run(ledger, write(tmp_path / "a.csv", lines))
    before = len(read_log(ledger))
    totals = run(ledger, write(tmp_path / "b.csv", [*lines, *more]))
    assert reversals(ledger) == {"C2:1": (200, 20), "C5:4": (700, 70), "C5:1": (100, 10)}
    assert (totals.orders, totals.reversals, totals.reversed_amount) == (2, 3, 1000)
    assert totals.exceptions == {"unmatched_refund": 1, "not_a_sale": 1}
    assert totals.unchanged is False
    assert len(read_log(ledger)) == before + 2 + 4


def test_an_invoice_that_changed_since_is_kept_beside_the_first_one(ledger: CommissionLedger, tmp_path: Path) -> None:
    """The second file says something else of order 1: one exception with its lines, and the books stay as they are."""
    run(ledger, write(tmp_path / "a.csv", [L("1", "A", 5)]))
    totals = run(ledger, write(tmp_path / "b.csv", [L("1", "A", 6), L("1", "B", 1), L("C2", "A", -6, "02 10:00")]))
    assert totals.exceptions == {"differs_from_original": 1, "unmatched_refund": 1}
    assert totals.orders == 0
    fact = next(row.state["fact"] for row in read_log(ledger) if row.state.get("type") == "differs_from_original")
    assert [(line["sku"], line["quantity"]) for line in fact["lines"]] == [("A", 6), ("B", 1)]
    assert reversals(ledger) == {"C2:1": (500, 50)}
    assert run(ledger, tmp_path / "b.csv").unchanged


def test_an_order_that_was_recorded_otherwise_is_kept_as_an_exception(ledger: CommissionLedger, tmp_path: Path) -> None:
    """The API has order 1 with another amount: the file's version is kept, and the import goes on."""
    ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id="ada"), by())
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="ada", decision="approve"), by())
    at = datetime(2010, 1, 1, 10, tzinfo=UTC)
    sale = RecordConversion(order_id="1", offer_id="shoes", amount=77, occurred_at=at, affiliate_id="ada")
    ledger.execute(PROGRAM, sale, by())
    totals = run(ledger, write(tmp_path / "a.csv", [L("1", "A", 5), L("2", "A", 1)]))
    assert (totals.orders, totals.exceptions) == (1, {"differs_from_original": 1})
    assert balance(ledger, "ada") == {"pending": 8 + 10}


# --- affiliates --------------------------------------------------------------------------------------------


def test_affiliates_are_enrolled_only_when_asked(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Without the flag a file that names strangers is refused whole; only those who sold something are enrolled."""
    lines = [L("1", "A", 1, country="Côte d'Ivoire"), L("2", "A", -1, country="Nowhere"), L("3", "A", 1, country="")]
    path = write(tmp_path / "a.csv", lines)
    before = read_log(ledger)
    with pytest.raises(ImportRefused, match=r"c-te-d-ivoire \(not enrolled\).*--enrol-affiliates"):
        run(ledger, path, enrol=False)
    assert read_log(ledger) == before
    assert run(ledger, path).orders == 2
    enrolled = [row.state["affiliate_id"] for row in read_log(ledger) if row.topic == "AffiliateEnrolled"]
    assert enrolled == ["c-te-d-ivoire"]
    assert [r.state["order_id"] for r in read_log(ledger) if r.topic == "ConversionUnattributed"] == ["3"]


def test_sales_of_a_closed_affiliate_become_exceptions(ledger: CommissionLedger, tmp_path: Path) -> None:
    """A closed affiliate is not opened again by a file; its orders and their refunds are kept."""
    ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id="ada"), by())
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="ada", decision="close"), by())
    totals = run(ledger, write(tmp_path / "a.csv", [L("1", "A", 1), L("2", "A", 1, country="Bob")]))
    assert (totals.orders, totals.exceptions) == (1, {"affiliate_closed": 1})


# --- what is refused ---------------------------------------------------------------------------------------

HEAD = ",".join(HEADING) + "\n"
GOOD = "1,A,thing,1,2010-01-01 10:00:00,1.00,7,Ada\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: the file is empty"),
        ("Invoice,StockCode\n", "line 1: column 'Quantity' is missing"),
        (HEAD.strip() + ",Price\n", "line 1: column 'Price' is there twice"),
        (HEAD + GOOD + GOOD.strip() + ",x\n", "line 3: has 9 columns where the heading names 8"),
        (HEAD + GOOD + '2,A,"open,1,2010-01-01 10:00:00,1.00,7,Ada\n' + GOOD, "not well-formed CSV"),
        (HEAD + GOOD + "2,A,t,1,2010-13-01 10:00:00,1.00,7,Ada\n", "line 3, column InvoiceDate"),
        (HEAD + GOOD + "2,A,t,1,2010-01-01 10:00:00,1.0.0,7,Ada\n", "line 3, column Price"),
        (HEAD + GOOD + "2,A,t,1,2010-01-01 10:00:00,NaN,7,Ada\n", "line 3, column Price"),
        (HEAD + GOOD + "2,A,t,1.5,2010-01-01 10:00:00,1,7,Ada\n", "line 3, column Quantity"),
        (HEAD + GOOD + ",A,t,1,2010-01-01 10:00:00,1,7,Ada\n", "line 3, column Invoice"),
        (HEAD + GOOD + "2,A,t,1,2010-01-01 10:00:00,1,a@b.example,Ada\n", "line 3, column Customer ID"),
        (HEAD + '1,A,"two\nlines",1,2010-01-01 10:00:00,1,7,Ada\n2,A,t,x,2010,1,7,Ada\n', "line 4, column Quantity"),
        (HEAD + GOOD + "2,A,t,1000000000000,2010-01-01 10:00:00,99,7,Ada\n", "line 3, column Price"),
    ],
)
def test_a_malformed_file_is_refused_whole_naming_the_place(
    ledger: CommissionLedger, tmp_path: Path, content: str, says: str
) -> None:
    """Whatever stood before the bad line is not recorded either, and mending the file is enough."""
    path = tmp_path / "orders.csv"
    path.write_text(content)
    before = read_log(ledger)
    with pytest.raises(ImportRefused, match=re.escape(says)) as refused:
        run(ledger, path)
    assert "orders.csv" in str(refused.value)
    assert read_log(ledger) == before
    path.write_text(HEAD + GOOD)
    assert run(ledger, path).orders == 1


def test_bytes_that_are_no_text_and_broken_gzip_are_refused(ledger: CommissionLedger, tmp_path: Path) -> None:
    """A file in another encoding, and one whose download was cut off."""
    path = tmp_path / "orders.csv"
    path.write_bytes(HEAD.encode() + b"1,A,caf\xe9,1,2010-01-01 10:00:00,1.00,7,Ada\n")
    with pytest.raises(ImportRefused, match="utf-8"):
        run(ledger, path)
    path.write_bytes(gzip.compress(os.urandom(50_000))[:-20_000])
    with pytest.raises(ImportRefused, match="gzip file is damaged"):
        run(ledger, path)


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(ledger: CommissionLedger, tmp_path: Path) -> None:
    """As Excel writes it."""
    path = tmp_path / "orders.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + GOOD + "\n").replace("\n", "\r\n").encode())
    assert run(ledger, path).orders == 1


def test_another_shop_s_file_needs_only_another_mapping(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Semicolons, decimal commas, local time, refunds marked in a column, one affiliate for all."""
    (tmp_path / "m.toml").write_text(
        '[file]\nencoding = "cp1252"\ndelimiter = ";"\ndate_format = "%d.%m.%Y %H:%M"\nzone = "Europe/Vienna"\n'
        'decimal_point = ","\n[columns]\norder_id = "Nr"\nsku = "Artikel"\nquantity = "Menge"\nprice = "Preis"\n'
        'occurred_at = "Datum"\ncustomer_id = "Kunde"\n[constants]\naffiliate_id = "partner-1"\n'
        '[refund]\ncolumn = "Art"\nequals = "Gutschrift"\n'
    )
    (tmp_path / "o.csv").write_bytes(
        "Art;Nr;Artikel;Menge;Preis;Datum;Kunde\nRechnung;1;Größe;2;1.234,50;01.07.2010 00:30;7\n"
        "Gutschrift;2;Größe;-1;1.234,50;02.07.2010 10:00;7\n".encode("cp1252")
    )
    totals = run(ledger, tmp_path / "o.csv", mapping=tmp_path / "m.toml")
    assert (totals.gross, totals.reversed_amount) == (246900, 123450)
    recorded = next(row.state for row in read_log(ledger) if row.topic == "ConversionRecorded")
    assert recorded["occurred_at"] == "2010-06-30T22:30:00Z"
    assert recorded["affiliate_id"] == "partner-1"


@pytest.mark.parametrize(
    ("setting", "wrong", "says"),
    [
        ('prefix = "C"', "", "refund"),
        ('order_id = "Invoice"', "", "order_id"),
        ('sku = "StockCode"', 'sku = "StockCode"\ncolour = "Colour"', "colour"),
        ('zone = "UTC"', 'zone = "Mars"', r"file\.zone"),
        ('encoding = "utf-8"', 'encoding = "klingon"', r"file\.encoding"),
        ('currency = "GBP"', 'currency = "POUNDS"', r"constants\.currency"),
        ("slug = true", "slug = maybe", "line"),
    ],
)
def test_a_wrong_mapping_is_refused_naming_file_and_setting(
    tmp_path: Path, setting: str, wrong: str, says: str
) -> None:
    """A missing, misspelt or impossible setting is named before any export is opened."""
    assert setting in MAPPING.read_text()
    (tmp_path / "m.toml").write_text(MAPPING.read_text().replace(setting, wrong))
    with pytest.raises(ImportRefused, match=rf"m\.toml.*{says}"):
        load_mapping(tmp_path / "m.toml")


def test_an_unknown_offer_is_said_before_anything_is_read(ledger: CommissionLedger, tmp_path: Path) -> None:
    """Nine thousand exceptions would help nobody."""
    path = write(tmp_path / "a.csv", [L("1", "A", 1)])
    with pytest.raises(ImportRefused, match="offer boots has no terms"):
        import_orders(ledger, Settings(PROGRAM, "boots", path, load_mapping(MAPPING), True, "clerk"))


# --- interrupted -------------------------------------------------------------------------------------------


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


def wait_until(process: subprocess.Popen[Any], reached: Any) -> None:
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


def test_a_killed_postgresql_only_delays_it(tmp_path: Path) -> None:
    """kill -9 of the server while it reads and twice while it records: the same command goes on by itself."""
    path = big_export(tmp_path / "big.csv", 4000)
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
            for goal in (1000, 6000):
                wait_until(process, lambda goal=goal: _position_of(urls, PROGRAM) > goal)
                if process.poll() is None:
                    os.kill(int((home / "pgdata" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
                    kills += 1
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        assert kills >= 1
        assert b'"orders":4000' in out
        with open_ledger(urls) as ledger:
            run(ledger, path, program="whole")
            assert books_of(ledger) == books_of(ledger, "whole")


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
    assert large < small + 25, f"{small:.0f} MB became {large:.0f} MB"


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
