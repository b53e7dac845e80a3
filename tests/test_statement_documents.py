"""Statements as CSV, XLSX, HTML and PDF: what an affiliate and an accountant read, byte for byte and sum by sum."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import string
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pypdf
import pytest
import statement_samples as samples
from msgspec import structs

from ledger.domain import dispute, postings
from ledger.domain.bank import BankFeeBooked
from ledger.domain.money import EXPONENTS
from ledger.domain.payout import payout_id
from ledger.domain.statement import Buckets
from ledger.statements import chart, numbers, pdf, words
from ledger.statements.document import BUCKETS, StatementLine, digest, encoded
from ledger.statements.presentation import Presentation, StatementMismatch, StatementPayout, YearMonth
from ledger.statements.render import FORMATS, content_type, file_name, render

LANGUAGES = ("en", "de", "pt", "ru")
HOSTILE = '<script>alert(1)</script> #import "/etc/passwd": x \\ $x^2$ *b* _i_ @ref "quoted" </style>&amp;'


def made(shown: Presentation, lines: list[StatementLine], format: str, language: str | None = None) -> bytes:
    """A whole document."""
    return b"".join(render(shown, lambda: iter(lines), format, language))


@cache
def month(format: str, language: str = "en") -> bytes:
    """The sample month as a whole document."""
    shown, lines = samples.month(language)
    return made(shown, lines, format)


def alone(line: StatementLine, **changes: object) -> tuple[Presentation, list[StatementLine]]:
    """A statement of one line."""
    head = samples.head([line], {})
    return Presentation(head=head, hash=digest(head, encoded([line])), **changes), [line]  # type: ignore[arg-type]


def text_of(document: bytes) -> str:
    """A PDF's text as a reader copies it, with plain spaces."""
    pages = (page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)
    return re.sub(r"\s+", " ", "\n".join(pages).replace("\u00a0", " "))


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in its turn; keeps tags, attributes and visible text."""

    VOID = frozenset({"meta", "path", "rect"})

    def __init__(self, document: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(document.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens an element."""
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that closes itself, as SVG's do."""
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Closes the element that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text outside the style sheet."""
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, with plain spaces."""
        return re.sub(r"\s+", " ", " ".join(self.texts).replace("\u00a0", " "))


# ---- the same bytes


def hashes() -> dict[str, str]:
    """The hash of each format's document in two languages."""
    found = {}
    for language, format in itertools.product(("de", "ru"), FORMATS):
        shown, lines = samples.month(language)
        found[f"{language}.{format}"] = sha256(made(shown, lines, format)).hexdigest()
    return found


def test_the_same_statement_gives_the_same_bytes_in_another_process_zone_and_locale(tmp_path: Path) -> None:
    """Every format is made twice here and once by a process with another clock zone, locale, hash seed and place."""
    here = hashes()
    assert hashes() == here
    tests = Path(__file__).parent
    environment = os.environ | {
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "LANG": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}",
        "SOURCE_DATE_EPOCH": "1",
    }
    program = "import json, test_statement_documents as t; print(json.dumps(t.hashes()))"
    there = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(there.stdout) == here


def test_the_json_document_is_what_was_hashed() -> None:
    """sha256sum of the JSON file prints the hash that every other document shows, as its reader is told to try."""
    shown, _ = samples.month()
    assert sha256(month("json")).hexdigest() == shown.hash
    for document in (Page(month("html")).text, text_of(month("pdf"))):
        assert shown.hash in document
        squeezed = "".join(document.split())  # a page breaks lines where it must
        assert "sha256sumstatement-shop-mila-2026-03-v1.json" in squeezed
        assert "?format=canonical" in squeezed, "over HTTP no other form has this hash"


# ---- CSV


def test_csv_rows_add_up_to_the_sections() -> None:
    """Opening plus the rows' amounts is the closing, in every bucket and currency, as an accountant would check it."""
    shown, lines = samples.month()
    rows = list(csv.DictReader(io.StringIO(month("csv").decode(), newline="")))
    assert len(rows) == len(lines)
    for section in shown.head.sections:
        places = EXPONENTS[section.currency]
        mine = [row for row in rows if row["currency"] == section.currency]
        assert [row["late"] for row in mine].count("true") == section.late_count
        owed = Decimal(0)
        for bucket in BUCKETS:
            into = sum(Decimal(row["amount"]) for row in mine if row["target"] == bucket)
            out = sum(Decimal(row["amount"]) for row in mine if row["source"] == bucket)
            moved = (getattr(section.closing, bucket) - getattr(section.opening, bucket)) * Decimal(10) ** -places
            assert into - out == moved
            owed += moved if bucket != "paid" else 0
        assert sum(Decimal(row["owed_change"]) for row in mine) == owed
        assert {len(row["amount"].partition(".")[2]) for row in mine} == {places}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "＝"])
def test_a_csv_cell_never_starts_a_formula(start: str) -> None:
    """A reference that a spreadsheet would run is given an apostrophe; the number columns stay numbers."""
    shown, lines = alone(samples.line(1, "ConversionReversed", 500, reference=f'{start}cmd|" /C calc"!A0, x'))
    row = next(csv.DictReader(io.StringIO(made(shown, lines, "csv").decode(), newline="")))
    assert row["reference"] == f"'{lines[0].reference}"
    assert row["owed_change"] == "-5.00"


def test_csv_of_a_hundred_thousand_lines_streams_with_flat_memory() -> None:
    """A small piece follows every few hundred lines, and what has passed is forgotten."""
    line, read = samples.line(1, "CommissionAccrued", 1_000), itertools.count()
    head = samples.head([line], {})
    count = 100_000
    section = structs.replace(head.sections[0], line_count=count, closing=Buckets(pending=1_000 * count))
    shown = Presentation(head=structs.replace(head, sections=[section]), hash="")

    def lines() -> Iterator[StatementLine]:
        for _ in itertools.repeat(None, count):
            next(read)
            yield structs.replace(line)

    written, blocks = 0, set()
    for number, piece in enumerate(render(shown, lines, "csv"), 1):
        written += piece.count(b"\r\n")
        assert len(piece) < 100_000
        if number % 50 == 0:
            blocks.add(sys.getallocatedblocks())
            assert next(read) - written - number // 50 < 1_000
    assert written == count + 1
    assert max(blocks) - min(blocks) < 5_000


def test_documents_are_made_without_holding_their_lines() -> None:
    """Eight times the lines, and hardly more memory at the peak."""

    def peak(format: str, count: int) -> int:
        many = samples.Many(count)
        shown = many.presentation()
        tracemalloc.start()
        try:
            for _ in render(shown, many, format):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    for format, few in (("csv", 600), ("html", 300), ("xlsx", 100)):
        peak(format, 10)  # what is loaded once
        assert peak(format, 8 * few) < peak(format, few) + 100_000, format


def test_a_payout_s_id_can_be_found_and_copied_from_the_pdf() -> None:
    """All of its letters in a row, in the list of payouts and in the lines: nothing invisible between them."""
    id_ = payout_id("shop", "2026-03-EUR-sepa-1", "mila")
    line, payout = samples.month_lines()[0], samples.month()[0].payouts[0]
    shown, lines = alone(structs.replace(line, reference=id_), payouts=[structs.replace(payout, payout_id=id_)])
    assert text_of(made(shown, lines, "pdf")).count(id_) == 2


@pytest.mark.parametrize("format", ["csv", "xlsx", "html", "pdf"])
def test_a_statement_that_does_not_add_up_becomes_no_document(format: str) -> None:
    """A lost line, a changed amount or a miscounted late line is an error, never a document that looks right."""
    shown, lines = samples.month()
    changed = [structs.replace(lines[0], amount=lines[0].amount + 1), *lines[1:]]
    punctual = [structs.replace(line, late=False) for line in lines]
    stranger = [*lines, samples.line(99_000, "CommissionAccrued", 1, "USD")]
    for wrong in (lines[1:], changed, punctual, stranger):
        with pytest.raises(StatementMismatch):
            made(shown, wrong, format)


# ---- XLSX


def test_the_workbook_reads_back_with_numbers_dates_and_the_currencies_formats() -> None:
    """Amounts are numbers with the decimals of ISO 4217, dates are dates of the statement's zone, texts stay texts."""
    shown, lines = samples.month("de")
    book = openpyxl.load_workbook(io.BytesIO(made(shown, lines, "xlsx")))
    assert book.sheetnames == ["Übersicht", "Posten"]
    assert book.properties.created == samples.APRIL.replace(tzinfo=None)
    rows = list(book["Posten"].iter_rows(min_row=2))
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert (row[0].value, row[1].value, row[6].value) == (line.position, line.line_no, line.reference)
        assert Decimal(str(row[9].value)).scaleb(EXPONENTS[line.currency]) == line.amount
        local = line.effective_at.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
        assert abs((row[2].value - local).total_seconds()) < 1
        assert (row[4].value == "ja") == line.late
        assert {cell.data_type for cell in row} <= {"n", "s", "d", "inlineStr"}
    formats = {row[11].value: row[9].number_format for row in rows}
    assert formats == {"EUR": '#,##0.00 "EUR"', "JPY": '#,##0 "JPY"', "BHD": '#,##0.000 "BHD"'}


def test_the_workbooks_summary_shows_opening_movements_and_closing() -> None:
    """Each column of a currency's block runs from opening to closing."""
    shown, lines = samples.month()
    book = openpyxl.load_workbook(io.BytesIO(made(shown, lines, "xlsx")))
    rows = [[cell.value for cell in row] for row in book["Summary"].iter_rows()]
    start = next(n for n, row in enumerate(rows) if row[0] == "Euro (EUR)")
    block = list(itertools.takewhile(lambda row: row[0] != "Closing", rows[start + 2 :]))
    closing = rows[start + 2 + len(block)]
    section = next(section for section in shown.head.sections if section.currency == "EUR")
    for column, bucket in enumerate(BUCKETS, 2):
        total = sum(Decimal(str(row[column])) for row in block if row[column] is not None)
        assert total == Decimal(str(closing[column])) == Decimal(getattr(section.closing, bucket)) / 100
    assert ["SHA-256", shown.hash] in [row[:2] for row in rows]
    assert any(row[0] == samples.LONG_PAYOUT and row[5:9] == [99, 0, -14.85, 84.15] for row in rows)


# ---- HTML


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_stands_alone_and_is_well_formed(language: str) -> None:
    """No script, nothing to load, every element closed, every table named, every heading cell with a scope."""
    document = month("html", language)
    page = Page(document)
    assert ("html", "lang", language) in page.attributes
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "base", "form", "image", "use"}
    assert not [found for found in page.attributes if found[1] in ("src", "href", "action") or found[1][:2] == "on"]
    assert b"url(" not in document
    assert b"@import" not in document
    addresses = set(re.findall(rb'https?://[^"<\s]*', document)) - {b"http://www.w3.org/2000/svg"}
    assert addresses == {b"http://evil.example&quot;,&quot;free&quot;)"}  # a reference, shown as text
    assert page.tags["caption"] == page.tags["table"]
    assert page.tags["th"] == sum(1 for tag, name, _ in page.attributes if (tag, name) == ("th", "scope"))


def test_hostile_names_are_shown_and_never_run() -> None:
    """Markup in names, references, ids and periods stays text, in HTML, in the chart and in typst."""
    line = samples.line(1, "CommissionAccrued", 500, reference=HOSTILE)
    line = structs.replace(line, event=HOSTILE, source=HOSTILE)
    payout = StatementPayout(
        amount=1, currency="EUR", initiated_on=datetime(2026, 3, 1, tzinfo=UTC).date(), payout_id=HOSTILE,
        status=HOSTILE, invoice_number=HOSTILE,
    )  # fmt: skip
    shown, lines = alone(
        line,
        affiliate_name=HOSTILE,
        program_name=HOSTILE,
        payouts=[payout],
        year=[YearMonth(currency="EUR", earned=1, paid=0, period=HOSTILE)],
    )
    shown = structs.replace(shown, head=structs.replace(shown.head, affiliate_id=HOSTILE, period=HOSTILE))
    page = Page(made(shown, lines, "html"))
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 8
    document = text_of(made(shown, lines, "pdf"))
    bare = HOSTILE.replace(" ", "")
    assert document.replace(" ", "").count(bare) >= 6
    assert "root:" not in document
    name = file_name(shown, "pdf")
    assert set(name) <= {*string.ascii_letters, *string.digits, *"._-"}


def test_late_lines_are_marked_with_their_own_date() -> None:
    """A line of 17 February on March's statement says when it happened and when it was recorded; others say nothing."""
    html = month("html").decode()
    rows = [row for row in re.findall(r"<tr role=.*?</tr>", html, re.S) if 'class="late"' in row]
    assert len(rows) == 3
    assert "Feb 17, 2026" in rows[0]
    assert "late, recorded Mar 1, 2026" in rows[0]
    document = text_of(month("pdf", "de"))
    assert document.count("nachträglich, erfasst am 01.03.2026") == 3
    assert "17.02.2026" in document
    assert "из них 3 поздние" in Page(month("html", "ru")).text


def test_a_negative_closing_and_open_disputes_are_told() -> None:
    """What was taken back beyond the payable, and each disputed line with its words, or where else it stands."""
    for document in (Page(month("html")).text, text_of(month("pdf"))):
        assert "16,001 JPY more was taken back than was payable" in document
        assert "46200.0 Mar 23, 2026 Reversed" in document
        assert "−23.80 EUR Open" in document
        assert re.search(r"39001\.1 ?on another statement", document)


def test_payouts_show_tax_and_what_was_transferred() -> None:
    """Net plus VAT less withholding is what the bank was told to pay."""
    for document in (Page(month("html")).text, text_of(month("pdf"))):
        assert re.search(r"SB-2026-000117 ?1,234.56 234.57 ?1,469.13 EUR", document)
        assert re.search(r"SB-2026-000131 ?99.00 ?−14.85 84.15 EUR", document)
        assert "Being checked" in document
    shown, lines = samples.month()
    for language, heading in (("en", "Credit note"), ("de", "Storno-Nr.")):
        back = structs.replace(shown.payouts[0], status="returned", credit_note_number="SB-2026-000140")
        told = structs.replace(shown, payouts=[back], language=language)
        for document in (Page(made(told, lines, "html")).text, text_of(made(told, lines, "pdf"))):
            assert heading in document
            assert re.search(r"SB-2026-000117 ?SB-2026-000140", document), "beside the invoice that it cancels"
    assert "Credit note" not in Page(month("html")).text, "no empty column"
    assert "There was no payout" in Page(made(structs.replace(shown, payouts=[]), lines, "html")).text


# ---- PDF


SAYS = {
    "en": ("Commission statement", "March 1, 2026 to March 31, 2026", "Commission → Pending", "1,893.85", "Page 2 of"),
    "de": (
        "Provisionsabrechnung",
        "1. März 2026 bis 31. März 2026",
        "Provision → Vorgemerkt",
        "1.893,85",
        "Seite 2 von",
    ),
    "pt": ("Extrato de comissões", "1 de março de 2026 a 31 de", "Comissão → Pendente", "1.893,85", "Página 2 de"),
    "ru": ("Отчёт о комиссионном", "1 марта 2026 г. – 31 марта", "Комиссия → В ожидании", "1 893,85", "Страница 2 из"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pdf_reads_in_its_language_and_is_archival(language: str) -> None:
    """Words, dates, numbers and page numbers come out as text; fonts are inside; PDF/A-2a and PDF/UA-1 are declared."""
    document = month("pdf", language)
    text = text_of(document)
    for words_of in SAYS[language]:
        assert words_of in text
    assert "Blumenhaus Отличный Магазин" in text
    assert "Mila Ångström-Fernández" in text
    reader = pypdf.PdfReader(io.BytesIO(document))
    metadata = reader.trailer["/Root"]["/Metadata"].get_data()
    assert b"<pdfaid:part>2</pdfaid:part>" in metadata
    assert b"<pdfuaid:part>1</pdfuaid:part>" in metadata
    assert reader.metadata is not None
    assert reader.metadata.creation_date == samples.APRIL
    heading = words.word("from_and_to", language)
    assert all(heading in page.extract_text() for page in reader.pages[1:3])


def test_too_many_lines_are_summed_by_day_and_refer_to_the_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums are those of the lines, the late ones apart, and a paper of a year's days is cut to months."""
    shown, lines = samples.month()
    monkeypatch.setattr(pdf, "LINES_MOST", 58)
    text = text_of(made(shown, lines, "pdf"))
    assert "Lines by day and kind" in text
    assert "This statement has 59 lines, too many to print" in text
    assert "CSV" in text
    assert "1 Feb 17, 2026 Commission Late Commission → Pending +12.49 EUR" in text
    assert "marketplace-order" not in text
    monkeypatch.setattr(pdf, "LINES_MOST", 20)
    text = text_of(made(shown, lines, "pdf"))
    assert "Lines by month and kind" in text
    assert "3 February 2026 Commission Late Commission → Pending +139.26 EUR" in text
    assert "9 March 2026 Commission Commission → Pending +77,400 JPY" in text


def test_a_name_that_no_font_has_still_gives_a_pdf() -> None:
    """Chinese or emoji in a name cost the archival format, not the statement."""
    shown, lines = alone(samples.line(1, "CommissionAccrued", 500), affiliate_name="漢字 😀")
    assert "5.00 EUR" in text_of(made(shown, lines, "pdf"))


# ---- numbers, words, chart


def test_decimals_are_those_of_iso_4217_in_every_language() -> None:
    """JPY has none, BHD three, and LAK two although CLDR prints none; so for all currencies there are."""
    assert numbers.money(9999, "LAK", "en") == "99.99\u00a0LAK"
    assert numbers.money(123456, "JPY", "en") == "123,456\u00a0JPY"
    assert numbers.number(-1234567, "BHD", "de") == "−1.234,567"
    assert numbers.number(123456789, "EUR", "ru") == "1\u00a0234\u00a0567,89"
    assert numbers.number(10**13, "BHD", "pt", signed=True) == "+10.000.000.000,000"
    for currency, places in EXPONENTS.items():
        for language in LANGUAGES:
            shown = numbers.number(12_345_678, currency, language)
            assert re.sub(r"\D", "", shown) == "12345678"
            assert len(re.split(r"[.,]", shown)[-1] if places else "") == places
        assert numbers.excel_format(currency).count("0") == places + 1


def test_every_word_exists_in_four_languages() -> None:
    """No gap, no forgotten brace, and every plural form that a language has."""
    tables = (words.WORDS, words.EVENTS, words.ACCOUNTS, words.STATUSES, words.DISPUTE_STATUSES)
    for key, forms in itertools.chain.from_iterable(table.items() for table in tables):
        assert all(form.strip() for form in forms), key
        assert len({frozenset(re.findall(r"{\w+}", form)) for form in forms}) == 1, key
    for forms_of in words.PLURALS.values():
        for language in LANGUAGES:
            assert {numbers.plural_category(n, language) for n in range(200)} <= forms_of[language].keys()
    assert [words.plural("lines", n, "ru") for n in (1, 2, 5, 21)] == ["1 строка", "2 строки", "5 строк", "21 строка"]
    assert words.language_of("pt-BR") == "pt"
    assert words.language_of("zh") == "en"


def test_every_event_that_moves_an_affiliates_money_has_a_name() -> None:
    """A new posting rule must bring its words; a topic without them is still shown, in its technical words."""
    moving = {event.__name__ for event in postings.RULES if event is not BankFeeBooked}
    assert moving <= words.EVENTS.keys()
    assert {"open", "answered"} <= words.DISPUTE_STATUSES.keys() >= {*dispute.STATUSES}
    assert words.event_name("LoyaltyBonusGranted", "de") == "Loyalty bonus granted"
    assert words.place_name("tax:vat", "pt") == "IVA"


def test_periods_are_named_and_end_on_their_last_day() -> None:
    """Months, weeks and custom periods; a clock change inside changes nothing, a cut within a day shows its time."""
    _, lines = samples.month()
    for changes, expected in (
        ({}, "March 2026 (March 1, 2026 to March 31, 2026)"),
        ({"starts_at": None}, "March 2026 (From the beginning to March 31, 2026)"),
        ({"period": "2026-W09"}, "Week 9, 2026 (March 1, 2026 to March 31, 2026)"),
        ({"period": "launch", "zone": "UTC"}, "launch (February 28, 2026, 11:00 PM to March 31, 2026, 10:00 PM)"),
    ):
        head = samples.head(lines, {}, **changes)
        page = Page(made(Presentation(head=head, hash=""), lines, "html"))
        assert expected in page.text.replace("\u202f", " ")


def test_the_chart_shows_twelve_pairs_of_bars_without_colour() -> None:
    """Earned is solid and paid is outlined; a month below zero hangs below the line; no month is lost."""
    months = [month for month in samples.year() if month.currency == "EUR"]
    drawn = chart.svg(months, "en")
    found = re.findall(r'<rect x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)" fill="(#\w+)"', drawn)[2:]
    solid = [(float(y), float(height)) for y, height, fill in found if fill != "#fff"]
    outlined = [bar for bar in found if bar[2] == "#fff"]
    earned = [month.earned for month in months if month.earned]
    assert len(solid) == len(earned)
    assert len(outlined) == sum(1 for month in months if month.paid)
    base, scale = solid[0][0] + solid[0][1], max(height for _, height in solid) / max(earned)
    for (y, height), amount in zip(solid, earned, strict=True):
        assert abs((y + height if amount > 0 else y) - base) < 0.2
        assert abs(height - abs(amount) * scale) < 0.2
    assert re.findall(r">(\w\w\w)</text>", drawn)[:12] == [
        "Apr",
        "May",
        "Jun",
        "Jul",
        "Aug",
        "Sep",
        "Oct",
        "Nov",
        "Dec",
        "Jan",
        "Feb",
        "Mar",
    ]


def test_a_year_of_nothing_or_of_huge_sums_is_drawn() -> None:
    """Zeros, only losses and ten trillion minor units: no division by zero, nothing outside the frame."""
    for earned, paid in ((0, 0), (-5, 0), (10**13, 1), (1, 10**13)):
        drawn = chart.svg([YearMonth(currency="BHD", earned=earned, paid=paid, period="2026-01")] * 12, "ru")
        for y, height in re.findall(r'<rect x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn):
            assert float(y) + float(height) <= chart.HEIGHT


# ---- the door


def test_formats_have_a_type_and_a_name_and_others_are_refused() -> None:
    """An unknown format is refused before anything is read."""
    shown, _ = samples.month()
    assert file_name(shown, "xlsx") == "statement-shop-mila-2026-03-v1.xlsx"
    assert content_type("pdf") == "application/pdf"

    def never() -> Iterator[StatementLine]:
        raise AssertionError("read the lines")

    with pytest.raises(ValueError, match="json, csv, xlsx, html, pdf"):
        render(shown, never, "docx")
    with pytest.raises(ValueError, match="json, csv, xlsx, html, pdf"):
        file_name(shown, "../x")


def test_the_language_asked_for_wins() -> None:
    """A request's language overrides the presentation's; an unknown one is English."""
    shown, lines = samples.month("de")
    assert 'lang="pt"' in made(shown, lines, "html", "pt-PT").decode()
    assert 'lang="en"' in made(shown, lines, "html", "xx").decode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_empty_statement_is_a_document_too(language: str) -> None:
    """No section, no line, no name: every format is still made, and says so."""
    head = samples.head([], {})
    shown = Presentation(head=head, hash=digest(head, ()), language=language)
    assert words.word("no_lines", language) in Page(made(shown, [], "html")).text
    assert words.word("no_lines", language) in text_of(made(shown, [], "pdf"))
    assert made(shown, [], "csv").count(b"\r\n") == 1
    assert openpyxl.load_workbook(io.BytesIO(made(shown, [], "xlsx"))).worksheets[1].max_row == 1
