"""Importing order exports: each rule of matching, and the same or nearly the same file again."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from import_support import (
    MAPPING,
    L,
    exceptions,
    naive,
    random_lines,
    reversals,
    run,
    shop,
    write,
)
from support import PROGRAM, balance, by, open_ledger, read_log

from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.imports.errors import ImportRefused
from ledger.store.database import Database


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
    assert not totals.unchanged
    assert set(exceptions(ledger)) == {"line:1:1", "line:1:2", "line:1:3", "line:C2:1", "line:C2:2", "line:3:1"}
    fact = next(row.state["fact"] for row in read_log(ledger) if row.state.get("exception_id") == "line:1:1")
    assert fact["price"] == "-5.00"
    assert 'the "A", new' not in fact.values()


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


@pytest.mark.parametrize("seed", range(6))
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
