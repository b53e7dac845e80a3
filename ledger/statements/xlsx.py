"""A statement as an XLSX workbook: a summary and all lines, amounts as numbers, the same bytes each time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from ledger.domain.statement import Section
from ledger.statements import numbers
from ledger.statements.content import facts, file_stem, kinds_of, line_name, overview_amounts, period_name, zone_of
from ledger.statements.document import BUCKETS, StatementLine
from ledger.statements.presentation import Lines, Movements, Presentation, YearMonth, change_of_owed, movements
from ledger.statements.words import dispute_status, event_name, language_of, payout_status, place_name, word

LINES_PER_SHEET = 1_000_000  # a sheet ends at row 1,048,576
_EXACT = 10**15  # a spreadsheet keeps 15 digits
_PIECE = 64 * 1024
_COLUMNS = (
    ("position", 12),
    ("line", 7),
    ("happened_at", 17),
    ("recorded_at", 17),
    ("late", 14),
    ("what", 24),
    ("reference", 34),
    ("source", 18),
    ("target", 18),
    ("amount", 20),
    ("change_of_owed", 20),
    ("currency", 10),
)


class _Formats:
    """The workbook's formats, made once each."""

    def __init__(self, workbook: xlsxwriter.Workbook) -> None:
        self._workbook = workbook
        self._money: dict[tuple[str, bool], Format] = {}
        self.title = workbook.add_format({"bold": True, "font_size": 16, "font_color": "#1d3557"})
        self.heading = workbook.add_format({"bold": True, "font_size": 12, "font_color": "#1d3557"})
        self.header = workbook.add_format(
            {"bold": True, "bottom": 2, "text_wrap": True, "valign": "bottom", "bg_color": "#f3f5f8"}
        )
        self.header_right = workbook.add_format(
            {"bold": True, "bottom": 2, "text_wrap": True, "valign": "bottom", "bg_color": "#f3f5f8", "align": "right"}
        )
        self.strong = workbook.add_format({"bold": True})
        self.instant = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm", "align": "left"})
        self.day = workbook.add_format({"num_format": "yyyy-mm-dd", "align": "left"})
        self.count = workbook.add_format({"num_format": "#,##0"})

    def money(self, currency: str, *, strong: bool = False) -> Format:
        """The currency's number format, by its ISO decimals."""
        key = currency, strong
        if key not in self._money:
            code = numbers.excel_format(currency)
            self._money[key] = self._workbook.add_format({"num_format": code, "bold": strong})
        return self._money[key]


def _write_money(sheet: Worksheet, row: int, column: int, amount: int, currency: str, form: Format) -> None:
    """Minor units as a number of major units; as text where a spreadsheet would round it."""
    if abs(amount) >= _EXACT:
        sheet.write_string(row, column, numbers.number(amount, currency, "en"), form)
    else:
        sheet.write_number(row, column, Decimal(amount).scaleb(-numbers.decimals(currency)), form)


class _Summary:
    """Writes the summary sheet from top to bottom, which constant memory demands."""

    def __init__(self, sheet: Worksheet, formats: _Formats, language: str) -> None:
        self._sheet = sheet
        self._formats = formats
        self._language = language
        self._row = 0

    def text(self, *cells: str, form: Format | None = None) -> None:
        """A row of texts."""
        for column, cell in enumerate(cells):
            self._sheet.write_string(self._row, column, cell, form)
        self._row += 1

    def headers(self, *keys: str, left: int = 1) -> None:
        """A row of column headings, the first `left` of them flush left."""
        for column, key in enumerate(keys):
            form = self._formats.header if column < left else self._formats.header_right
            self._sheet.write_string(self._row, column, word(key, self._language), form)
        self._row += 1

    def heading(self, text: str) -> None:
        """A heading after an empty row."""
        self._row += 1
        self.text(text, form=self._formats.heading)

    def amounts(
        self, label: str, count: int | None, amounts: Sequence[int | None], currency: str, *, strong: bool = False
    ) -> None:
        """A label, a count and amounts of one currency; None leaves a cell empty."""
        self._sheet.write_string(self._row, 0, label, self._formats.strong if strong else None)
        column = 1
        if count is not None:
            self._sheet.write_number(self._row, 1, count, self._formats.count)
        form = self._formats.money(currency, strong=strong)
        for amount in amounts:
            column += 1
            if amount is not None:
                _write_money(self._sheet, self._row, column, amount, currency, form)
        self._row += 1

    def month(self, month: YearMonth) -> None:
        """A month of the year's chart."""
        sheet, form = self._sheet, self._formats.money(month.currency)
        sheet.write_string(self._row, 0, numbers.month_name(month.period, self._language))
        sheet.write_string(self._row, 1, month.currency)
        for column, amount in enumerate((month.earned, month.paid), 2):
            _write_money(sheet, self._row, column, amount, month.currency, form)
        self._row += 1

    def payouts(self, shown: Presentation) -> None:
        """The payouts of the period."""
        language = self._language
        self.heading(word("payouts", language))
        if not shown.payouts:
            self.text(word("no_payouts", language))
            return
        amounts = ("net", "vat", "withholding", "transferred")
        self.headers("payout", "initiated_on", "status", "invoice", "credit_note", *amounts, left=5)
        for payout in shown.payouts:
            sheet, row, form = self._sheet, self._row, self._formats.money(payout.currency)
            sheet.write_string(row, 0, payout.payout_id)
            sheet.write_datetime(row, 1, payout.initiated_on, self._formats.day)
            sheet.write_string(row, 2, payout_status(payout.status, language))
            sheet.write_string(row, 3, payout.invoice_number)
            sheet.write_string(row, 4, payout.credit_note_number)
            parts = payout.amount, payout.vat_amount, -payout.withholding_amount, payout.transferred
            for column, amount in enumerate(parts, 5):
                _write_money(sheet, row, column, amount, payout.currency, form)
            self._row += 1


def _section(summary: _Summary, section: Section, moved: Movements, language: str) -> None:
    currency = section.currency
    summary.heading(numbers.currency_name(currency, language))
    summary.headers("movement", "count", *BUCKETS[:-1], "paid_in_all")

    def edge(key: str, buckets: object) -> None:
        summary.amounts(word(key, language), None, [getattr(buckets, b) for b in BUCKETS], currency, strong=True)

    edge("opening", section.opening)
    for topic in kinds_of(currency, moved):
        effect = moved.kinds[currency, topic]
        changes = [effect.buckets[bucket] or None for bucket in BUCKETS]
        summary.amounts(event_name(topic, language), effect.count, changes, currency)
    edge("closing", section.closing)
    if section.closing.payable < 0:
        owed = numbers.money(-section.closing.payable, currency, language)
        summary.text(word("negative", language, amount=owed))


def _summarise(summary: _Summary, shown: Presentation, moved: Movements, formats: _Formats) -> None:
    head, language = shown.head, shown.language
    summary.text(f"{word('statement', language)} · {period_name(head.period, language)}", form=formats.title)
    for label, value in facts(shown):
        summary.text(label, value)
    summary.text(word("hash", language), shown.hash)
    summary.heading(word("overview", language))
    summary.headers(
        "currency", "count", "owed_opening", "net_commission", "other_changes", "paid_in_period", "owed_closing",
        "payable_closing",
    )  # fmt: skip
    for section in head.sections:
        summary.amounts(section.currency, section.line_count, overview_amounts(section, moved), section.currency)
    for section in head.sections:
        _section(summary, section, moved, language)
    if shown.disputes:
        summary.heading(word("disputes", language))
        summary.headers("line", "status", left=2)
        for dispute in shown.disputes:
            summary.text(line_name(dispute.position, dispute.line_no), dispute_status(dispute.status, language))
    summary.payouts(shown)
    if shown.year:
        summary.heading(word("year", language))
        summary.headers("month", "currency", "earned", "paid", left=2)
        for month in shown.year:
            summary.month(month)
    summary.heading(word("check", language))
    summary.text(word("check_how", language, file=f"{file_stem(head)}.json"))


def _line_sheet(workbook: xlsxwriter.Workbook, name: str, formats: _Formats, language: str) -> Worksheet:
    sheet = workbook.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_footer("&C&P / &N")
    for column, (key, width) in enumerate(_COLUMNS):
        sheet.set_column(column, column, width)
        form = formats.header_right if key in ("amount", "change_of_owed") else formats.header
        sheet.write_string(0, column, word(key, language), form)
    return sheet


def _write_line(
    sheet: Worksheet, row: int, line: StatementLine, zone: ZoneInfo, formats: _Formats, language: str
) -> None:
    money = formats.money(line.currency)
    sheet.write_number(row, 0, line.position)
    sheet.write_number(row, 1, line.line_no)
    # A sheet's times have no zone: they are those of the statement's own, named on the summary
    sheet.write_datetime(row, 2, line.effective_at.astimezone(zone).replace(tzinfo=None), formats.instant)
    sheet.write_datetime(row, 3, line.recorded_at.astimezone(zone).replace(tzinfo=None), formats.instant)
    sheet.write_string(row, 4, word("yes", language) if line.late else "")
    sheet.write_string(row, 5, event_name(line.event, language))
    sheet.write_string(row, 6, line.reference)
    sheet.write_string(row, 7, place_name(line.source, language))
    sheet.write_string(row, 8, place_name(line.target, language))
    _write_money(sheet, row, 9, line.amount, line.currency, money)
    _write_money(sheet, row, 10, change_of_owed(line.source, line.target, line.amount), line.currency, money)
    sheet.write_string(row, 11, line.currency)


def _write_lines(workbook: xlsxwriter.Workbook, shown: Presentation, lines: Lines, formats: _Formats) -> None:
    language, zone = shown.language, zone_of(shown.head)
    name = word("sheet_lines", language)
    sheet, row, sheets = _line_sheet(workbook, name, formats, language), 0, 1
    for line in lines():
        if row == LINES_PER_SHEET:
            sheet.autofilter(0, 0, row, len(_COLUMNS) - 1)
            sheets += 1
            sheet, row = _line_sheet(workbook, f"{name} {sheets}", formats, language), 0
        row += 1
        _write_line(sheet, row, line, zone, formats, language)
    sheet.autofilter(0, 0, row, len(_COLUMNS) - 1)


def render_xlsx(presentation: Presentation, lines: Lines) -> Iterator[bytes]:
    """The file in pieces; asks for the lines twice. Raises StatementMismatch before the first piece."""
    shown = msgspec.structs.replace(presentation, language=language_of(presentation.language))
    moved = movements(shown, lines)
    # Rows go through files: the directory takes them with it, also when a reader hangs up half-way
    with tempfile.TemporaryDirectory(prefix="statement-") as rows, tempfile.TemporaryFile() as made:
        options: dict[str, Any] = {
            "constant_memory": True,
            "tmpdir": rows,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        }
        workbook = xlsxwriter.Workbook(made, options)
        created: datetime = shown.head.ends_at.replace(tzinfo=None)
        workbook.set_properties({"title": file_stem(shown.head), "created": created})
        formats = _Formats(workbook)
        sheet = workbook.add_worksheet(word("sheet_summary", shown.language))
        sheet.set_column(0, 0, 34)
        sheet.set_column(1, 7, 20)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        _summarise(_Summary(sheet, formats, shown.language), shown, moved, formats)
        _write_lines(workbook, shown, lines, formats)
        workbook.close()
        made.seek(0)
        while piece := made.read(_PIECE):
            yield piece
