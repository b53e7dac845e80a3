"""A bank's CSV export, whose columns a small TOML mapping explains."""

from __future__ import annotations

import codecs
import csv
import io
import re
import tomllib
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec
from msgspec import Struct

from ledger.domain import money
from ledger.payouts.bank import BankFileError, BankLine, BankStatement, Head, Kind, Reading, text_of


class FileFormat(Struct, frozen=True, forbid_unknown_fields=True):
    """How the file is written. skip_lines: above the heading. date_format: Python's strptime."""

    encoding: str = "utf-8"
    delimiter: str = ","
    skip_lines: int = 0
    date_format: str = "%Y-%m-%d"
    decimal_separator: str = "."
    thousands_separator: str = ""


class Columns(Struct, frozen=True, forbid_unknown_fields=True):
    """The file's headings. Either amount (signed), or debit and credit (both without a sign)."""

    booking_date: str
    amount: str | None = None
    debit: str | None = None
    credit: str | None = None
    value_date: str | None = None
    currency: str | None = None
    account: str | None = None
    end_to_end_id: str | None = None
    bank_reference: str | None = None
    kind: str | None = None
    charges: str | None = None
    text: list[str] = []


class Constants(Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for every line, where no column says it."""

    currency: str | None = None
    account: str | None = None


class EndToEndPattern(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the id stands within the text columns: a regular expression with one group."""

    pattern: str


class KindValues(Struct, frozen=True, forbid_unknown_fields=True):
    """What the kind column says for each kind; anything else is 'other'."""

    payment: list[str] = []
    return_: list[str] = msgspec.field(default_factory=list, name="return")
    fee: list[str] = []


class BankCsvMapping(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole mapping file."""

    columns: Columns
    file: FileFormat = FileFormat()
    constants: Constants = Constants()
    end_to_end_id: EndToEndPattern | None = None
    kind: KindValues = KindValues()

    def headings(self) -> dict[str, str]:
        """Our name → the file's heading; the text columns are 'text0', 'text1' …"""
        named = {name: heading for name, heading in msgspec.structs.asdict(self.columns).items() if name != "text"}
        named |= {f"text{at}": heading for at, heading in enumerate(self.columns.text)}
        return {name: heading for name, heading in named.items() if heading is not None}


def load_bank_mapping(path: Path) -> BankCsvMapping:
    """Read a mapping file. Raises BankFileError naming the file and the setting."""
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), BankCsvMapping)
    except OSError as problem:
        raise BankFileError(path.name, problem.strerror or "cannot be read") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as problem:
        raise BankFileError(path.name, str(problem)) from None
    for setting, right in _wrong(mapping):
        raise BankFileError(path.name, right, setting)
    return mapping


def _wrong(mapping: BankCsvMapping) -> Iterator[tuple[str, str]]:
    """Settings that cannot be, and what would be right."""
    file, columns, constants = mapping.file, mapping.columns, mapping.constants
    try:
        codecs.lookup(file.encoding)
    except LookupError:
        yield "file.encoding", "must be an encoding that Python knows, such as utf-8 or cp1252"
    if len(file.delimiter) != 1 or file.delimiter in '"\r\n':
        yield "file.delimiter", "must be one character, such as , or ; or a tab"
    if file.skip_lines < 0:
        yield "file.skip_lines", "must be a number of lines"
    if file.decimal_separator not in (".", ","):
        yield "file.decimal_separator", "must be . or ,"
    if file.thousands_separator not in ("", ".", ",", " ", "'", "\u2019", "\u00a0", "\u202f"):
        yield "file.thousands_separator", "must be empty, or one of . , ' or a blank"
    if file.thousands_separator == file.decimal_separator:
        yield "file.thousands_separator", "must differ from the decimal separator"
    try:
        written = datetime(2026, 1, 31).strftime(file.date_format)  # noqa: DTZ001 - a day, not an instant
        read = datetime.strptime(written, file.date_format)  # noqa: DTZ007
    except ValueError:
        read = None
    if read is None or read.date() != date(2026, 1, 31):
        yield "file.date_format", "must be a format of strptime with day, month and year, such as %d.%m.%Y"
    if (columns.amount is None) == (columns.debit is None and columns.credit is None):
        yield "columns", "needs either amount, or debit and credit"
    if (columns.debit is None) != (columns.credit is None):
        yield "columns", "needs both debit and credit"
    for name in ("currency", "account"):
        if (getattr(columns, name) is None) == (getattr(constants, name) is None):
            yield f"columns.{name}", f"or constants.{name} is needed, and only one of them"
    if constants.currency is not None and constants.currency not in money.EXPONENTS:
        yield "constants.currency", "must be an ISO 4217 currency code such as EUR"
    yield from _wrong_pattern(mapping)


def _wrong_pattern(mapping: BankCsvMapping) -> Iterator[tuple[str, str]]:
    if mapping.end_to_end_id is None:
        return
    if mapping.columns.end_to_end_id is not None:
        yield "end_to_end_id.pattern", "is not needed where columns.end_to_end_id is given; give one of them"
    if not mapping.columns.text:
        yield "columns.text", "must name the columns that end_to_end_id.pattern looks into"
    try:
        groups = re.compile(mapping.end_to_end_id.pattern).groups
    except re.error:
        groups = 0
    if groups != 1:
        yield "end_to_end_id.pattern", "must be a regular expression with one group, such as EREF: (\\S+)"


def read_csv(data: bytes, name: str, mapping: BankCsvMapping) -> list[BankStatement]:
    """One statement for each account and currency of a CSV file, in the file's order; without balances.

    Raises BankFileError naming line and column. What a cell holds is never quoted: it may be personal.
    """
    reading = Reading(name)
    return _Table(reading, mapping).statements(text_of(reading, data, mapping.file.encoding))


class _Row(NamedTuple):
    account: str
    currency: str
    line: BankLine


class _Table:
    """The rows of a file, understood by a mapping."""

    def __init__(self, reading: Reading, mapping: BankCsvMapping) -> None:
        self._reading, self._mapping = reading, mapping
        file = mapping.file
        groups = rf"\d{{1,3}}(?:{re.escape(file.thousands_separator)}\d{{3}})+|" if file.thousands_separator else ""
        self._number = re.compile(
            rf"(?P<sign>[+-]?)(?P<whole>{groups}\d+)(?:{re.escape(file.decimal_separator)}(?P<part>\d+))?(?P<after>-?)",
            re.ASCII,
        )
        self._pattern = re.compile(mapping.end_to_end_id.pattern) if mapping.end_to_end_id else None
        self._kinds: dict[str, Kind] = {
            **dict.fromkeys(mapping.kind.payment, "payment"),
            **dict.fromkeys(mapping.kind.return_, "return"),
            **dict.fromkeys(mapping.kind.fee, "fee"),
        }
        self._line_no = 0
        self._at: dict[str, int] = {}
        self._row: list[str] = []
        self._notes: list[str] = []

    def _refuse(self, problem: str, column: str = "") -> NoReturn:
        heading = self._mapping.headings().get(column, "")
        self._reading.refuse(problem, f"line {self._line_no}" + (f", column {heading!r}" if heading else ""))

    def statements(self, text: str) -> list[BankStatement]:
        """See read_csv."""
        lines: dict[tuple[str, str], list[BankLine]] = {}
        for account, currency, line in self._rows(text):
            lines.setdefault((account, currency), []).append(line)
        if not lines:
            self._reading.refuse("holds no line below its heading")
        return [
            self._reading.statement(
                Head(statement_id=f"{account} {currency}", account=account, currency=currency), found, self._notes, ""
            )
            for (account, currency), found in lines.items()
        ]

    def _rows(self, text: str) -> Iterator[_Row]:
        skipped = self._mapping.file.skip_lines
        body = io.StringIO(text, newline="")
        for _ in range(skipped):
            body.readline()
        # strict: an open quotation mark would otherwise swallow the rest of the file as one field
        rows = csv.reader(body, delimiter=self._mapping.file.delimiter, strict=True)
        before = 0
        try:
            heading = next(rows, None)
            self._line_no = skipped + 1
            if heading is None:
                self._refuse("has no heading; the first line must name the columns")
            self._find(heading)
            before = rows.line_num
            for row in rows:
                self._line_no, before = skipped + before + 1, rows.line_num
                if not any(cell.strip() for cell in row):
                    continue  # an empty line, as some banks leave at the end
                if len(row) != len(heading):
                    self._refuse(f"has {len(row)} columns where the heading names {len(heading)}")
                self._row = row
                yield self._understood()
        except csv.Error as problem:
            self._line_no = skipped + before + 1
            self._refuse(f"is not well-formed CSV: {problem}")

    def _find(self, heading: list[str]) -> None:
        titles = [title.strip() for title in heading]
        for name, wanted in self._mapping.headings().items():
            if titles.count(wanted) != 1:
                how = "is missing" if wanted not in titles else "is there twice"
                self._refuse(f"column {wanted!r} {how}; the file's columns are: {', '.join(titles)}")
            self._at[name] = titles.index(wanted)

    def _cell(self, name: str) -> str:
        return self._row[self._at[name]].strip() if name in self._at else ""

    def _understood(self) -> _Row:
        constants = self._mapping.constants
        currency = constants.currency or self._cell("currency")
        if currency not in money.EXPONENTS:
            self._refuse("must be an ISO 4217 currency code such as EUR", "currency")
        account = constants.account or self._cell("account")
        if not account:
            self._refuse("must name the account", "account")
        booking_on = self._date("booking_date")
        line = self._reading.line(
            f"line {self._line_no}",
            account=account,
            booking_on=booking_on,
            value_on=self._date("value_date") if self._cell("value_date") else None,
            amount=self._amount(currency),
            currency=currency,
            end_to_end_id=self._end_to_end_id(),
            bank_reference=self._cell("bank_reference"),
            kind=self._kinds.get(self._cell("kind"), "other"),
            text="; ".join(cell for at in range(len(self._mapping.columns.text)) if (cell := self._cell(f"text{at}"))),
            charges=self._decimal("charges", currency) if self._cell("charges") else 0,
        )
        return _Row(account, currency, line)

    def _date(self, name: str) -> date:
        try:
            return datetime.strptime(self._cell(name), self._mapping.file.date_format).date()  # noqa: DTZ007 - a day
        except ValueError:
            self._refuse(f"must be a date in the form {self._mapping.file.date_format}", name)

    def _amount(self, currency: str) -> int:
        """Signed minor units."""
        if self._mapping.columns.amount is not None:
            return self._decimal("amount", currency)
        out, into = ("" if self._zero(name) else self._cell(name) for name in ("debit", "credit"))
        if bool(out) == bool(into):
            self._refuse("must have an amount in either the debit or the credit column")
        amount = self._decimal("debit" if out else "credit", currency)
        if amount < 0:
            self._refuse("must have no sign; the column says the direction", "debit" if out else "credit")
        return -amount if out else amount

    def _zero(self, name: str) -> bool:
        """Whether a column says 0,00, as some banks write for nothing."""
        return set(self._cell(name)) <= {"0", ".", ","}

    def _decimal(self, name: str, currency: str) -> int:
        file = self._mapping.file
        match = self._number.fullmatch(self._cell(name))
        if match is None or (match["sign"] and match["after"]):
            example = f"1{file.thousands_separator}234{file.decimal_separator}50"
            self._refuse(f"must be a number such as {example} or -{example}", name)
        whole = match["whole"].replace(file.thousands_separator, "") if file.thousands_separator else match["whole"]
        text = f"{match['sign'] or match['after']}{whole}" + (f".{match['part']}" if match["part"] else "")
        return self._reading.amount(text, currency, f"line {self._line_no}, column {self._mapping.headings()[name]!r}")

    def _end_to_end_id(self) -> str:
        if self._pattern is None:
            return self._cell("end_to_end_id")
        texts = (self._cell(f"text{at}") for at in range(len(self._mapping.columns.text)))
        found = {match[1].strip() for text in texts for match in self._pattern.finditer(text) if match[1]}
        if len(found) > 1:
            # somebody's text may hold another payment's id: rather none than a wrong one
            self._notes.append(f"line {self._line_no}: the text holds several end-to-end ids, so none was read")
            return ""
        return found.pop() if found else ""
