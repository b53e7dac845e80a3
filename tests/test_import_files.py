"""Import files and mappings as they come: written otherwise, damaged, or wrong; and what is said of them."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_support import HEADING, MAPPING, L, run, shop, write
from support import PROGRAM, open_ledger, read_log

from ledger.application import CommissionLedger
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings, import_orders
from ledger.store.database import Database


@pytest.fixture
def ledger(database: Database) -> Iterator[CommissionLedger]:
    """A ledger with an empty shop that pays 10 %."""
    with open_ledger(database) as opened:
        shop(opened)
        yield opened


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
        (HEAD + GOOD + "2,A,t,1000000,2010-01-01 10:00:00,9999999,7,Ada\n", "line 3, column Price"),
        (
            HEAD + GOOD + "2,A,t,1,2099-01-01 10:00:00,1,7,Ada\n",
            "InvoiceDate: must not be more than a day in the future",
        ),
        (HEAD + GOOD + "C2,A,t,-1000001,2010-01-01 10:00:00,1,7,Ada\n", "line 3, column Quantity"),
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
