"""Reading an order export line by line: what a line says, checked, or where it is wrong. Nothing is held."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn
from zoneinfo import ZoneInfo

import msgspec

from ledger.domain import money
from ledger.domain.conversion import QUANTITY_MAX
from ledger.domain.errors import InvalidInput
from ledger.domain.event import check_not_ahead
from ledger.domain.ids import AMOUNT_MAX, check_external_id, check_pseudonym, check_slug
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import Mapping

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
# A reversal's id is "<refund invoice>:<order>", of at most 128 characters.
INVOICE_MAX = 63
NUMBER_MAX = 10**12


class Line(NamedTuple):
    """A line of an export. kind: 'sale', 'refund' or 'neither'; quantity: as a number of pieces, above zero for a
    sale or refund; amount: minor units of a sale line; fact: JSON of the mapped columns, None for a sale."""

    line_no: int
    invoice: str
    kind: str
    sku: str
    customer_id: str | None
    quantity: int
    price: Decimal
    amount: int
    occurred_at: datetime
    affiliate_id: str
    fact: str | None


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file's content, unpacked where it is gzip: so that packing it anew makes no other file.
    Raises ImportRefused."""
    digest = hashlib.sha256()
    with _opened(path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file. Raises ImportRefused for what cannot be read."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            raw.seek(0)
            if packed:
                with gzip.open(raw) as stream:
                    yield stream  # type: ignore[misc]  # GzipFile reads like any binary file
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise ImportRefused(f"{path}: the gzip file is damaged or incomplete: {problem}") from None
    except OSError as problem:
        raise ImportRefused(f"{path}: {problem.strerror or problem}") from None


def read_lines(path: Path, mapping: Mapping, currency: str, now: datetime | None = None) -> Iterator[Line]:
    """Every line of an export, in order. currency: ISO 4217, in whose major units prices are; now: what is more than a
    day later is refused.

    Raises ImportRefused naming file, line (the heading's is 1) and column, with what would be right.
    """
    reader = _Reader(path, mapping, currency, now)
    with _opened(path) as stream:
        encoding = mapping.file.encoding.lower().replace("_", "-")
        text = io.TextIOWrapper(
            stream, encoding="utf-8-sig" if encoding in ("utf-8", "utf8") else encoding, errors="strict", newline=""
        )
        try:
            yield from reader.lines(text)
        finally:
            text.detach()


class _Reader:
    """Turns rows of text into Lines; repeated texts (dates, prices, names) are understood once."""

    def __init__(self, path: Path, mapping: Mapping, currency: str, now: datetime | None) -> None:
        self._path, self._mapping, self._now = path, mapping, now
        self._places = money.exponent("currency", currency)
        self._zone = ZoneInfo(mapping.file.zone)
        self._line_no = 1
        self._instant = lru_cache(maxsize=10_000)(self._parse_instant)
        self._price = lru_cache(maxsize=10_000)(self._parse_price)
        self._affiliate = lru_cache(maxsize=10_000)(self._parse_affiliate)

    def _refuse(self, problem: str, column: str = "") -> NoReturn:
        where = f"{self._path}, line {self._line_no}" + (f", column {column}" if column else "")
        raise ImportRefused(f"{where}: {problem}")

    def lines(self, text: io.TextIOWrapper) -> Iterator[Line]:
        """See read_lines."""
        # strict: an open quotation mark would otherwise swallow the rest of the file as one field
        rows = csv.reader(text, delimiter=self._mapping.file.delimiter, strict=True)
        try:
            heading = next(rows, None)
            if heading is None:
                self._refuse("the file is empty; its first line must name the columns")
            at = self._places_of(heading)
            width = len(heading)
            before = rows.line_num
            for row in rows:
                self._line_no, before = before + 1, rows.line_num
                if not row:
                    continue  # an empty line, as some programs leave at the end
                if len(row) != width:
                    self._refuse(f"has {len(row)} columns where the heading names {width}")
                yield self._line(row, at)
        except csv.Error as problem:
            self._line_no = rows.line_num or 1
            self._refuse(f"is not well-formed CSV: {problem}")
        except UnicodeDecodeError as problem:
            self._line_no = rows.line_num + 1
            self._refuse(f"or shortly after: is not {self._mapping.file.encoding}: {problem.reason}")

    def _places_of(self, heading: list[str]) -> dict[str, int]:
        """Where each mapped column stands, by our name; 'marker' is the refund marker's."""
        named = {**self._mapping.columns.named(), "marker": self._mapping.refund.column}
        for column in self._mapping.headings():
            if heading.count(column) != 1:
                how = "is missing" if column not in heading else "is there twice"
                self._refuse(f"column {column!r} {how}; the file's columns are: {', '.join(heading)}")
        return {name: heading.index(column) for name, column in named.items()}

    def _line(self, row: list[str], at: dict[str, int]) -> Line:
        columns, marker = self._mapping.columns, self._mapping.refund
        invoice = self._invoice(row[at["order_id"]])
        sku = self._text(row[at["sku"]], columns.sku)
        customer_id = self._customer(row[at["customer_id"]]) if "customer_id" in at else None
        quantity = self._quantity(row[at["quantity"]])
        price = self._price(row[at["price"]])
        occurred_at = self._instant(row[at["occurred_at"]])
        named = row[at["affiliate_id"]] if "affiliate_id" in at else self._mapping.constants.affiliate_id or ""
        affiliate_id = self._affiliate(named)
        mark = row[at["marker"]]
        refund = mark.startswith(marker.prefix) if marker.prefix else mark == marker.equals
        if not refund and quantity > 0 and price >= 0:
            amount = money.line_amount(Decimal(quantity), price, self._places)
            if amount > AMOUNT_MAX:
                self._refuse(f"quantity × price is above {AMOUNT_MAX} minor units", columns.price)
            kind, fact = "sale", None
        else:
            kind, amount = ("refund" if refund and quantity < 0 and price > 0 else "neither"), 0
            fact = self._fact(row, at)
        pieces = -quantity if kind == "refund" else quantity
        return Line(
            self._line_no, invoice, kind, sku, customer_id, pieces, price, amount, occurred_at, affiliate_id, fact
        )

    def _fact(self, row: list[str], at: dict[str, int]) -> str:
        """The mapped columns as they were read; others may hold personal data and are never kept."""
        kept = {name: row[at[name]] for name in self._mapping.columns.named()}
        if any("\x00" in text for text in kept.values()):
            self._refuse("holds a NUL character")
        return msgspec.json.encode(kept).decode()

    def _text(self, text: str, column: str) -> str:
        if not text:
            return text
        try:
            return check_external_id(column, text)
        except InvalidInput as problem:
            self._refuse(problem.message.partition(": ")[2], column)

    def _invoice(self, text: str) -> str:
        column = self._mapping.columns.order_id
        if not text or len(text) > INVOICE_MAX:
            self._refuse(f"must have 1-{INVOICE_MAX} characters", column)
        return self._text(text, column)

    def _customer(self, text: str) -> str | None:
        if not text.strip():
            return None
        column = self._mapping.columns.customer_id or ""
        try:
            return check_pseudonym(column, text)
        except InvalidInput as problem:
            self._refuse(problem.message.partition(": ")[2], column)

    def _number(self, text: str, column: str) -> Decimal:
        plain = text.strip()
        if self._mapping.file.decimal_point == ",":
            plain = plain.replace(".", "").replace(",", ".")
        try:
            value = Decimal(plain)
        except InvalidOperation:
            self._refuse(f"{text!r} is no number such as 49{self._mapping.file.decimal_point}90", column)
        if not value.is_finite() or abs(value) > NUMBER_MAX or "_" in plain:
            self._refuse(f"{text!r} is no number up to {NUMBER_MAX}", column)
        return value

    def _quantity(self, text: str) -> int:
        column = self._mapping.columns.quantity
        value = self._number(text, column)
        if value != value.to_integral_value():
            self._refuse(f"{text!r} is no whole number of pieces", column)
        if abs(value) > QUANTITY_MAX:
            self._refuse(f"{text!r} is not from -{QUANTITY_MAX} to {QUANTITY_MAX} pieces", column)
        return int(value)

    def _parse_price(self, text: str) -> Decimal:
        value = self._number(text, self._mapping.columns.price)
        if value.as_tuple().exponent < -12:  # type: ignore[operator]  # finite, so a number
            self._refuse(f"{text!r} has more than 12 decimals", self._mapping.columns.price)
        return value

    def _parse_instant(self, text: str) -> datetime:
        form, column = self._mapping.file.date_format, self._mapping.columns.occurred_at
        try:
            found = datetime.strptime(text.strip(), form)  # noqa: DTZ007 - the zone comes next
            instant = (found if found.tzinfo else found.replace(tzinfo=self._zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            self._refuse(f"{text!r} is no date of the form {form}", column)
        try:
            check_not_ahead(column, instant, self._now or instant)
        except InvalidInput as problem:
            self._refuse(f"{problem.message.partition(': ')[2]}, as {text!r} is", column)
        return instant

    def _parse_affiliate(self, text: str) -> str:
        column = self._mapping.columns.affiliate_id or "affiliate_id"
        if not text.strip():
            return ""
        try:
            return check_slug(column, slug(text) if self._mapping.affiliate.slug else text.strip())
        except InvalidInput as problem:
            self._refuse(f"{problem.message.partition(': ')[2]}, not {text!r}", column)


def slug(name: str) -> str:
    """'United Kingdom' → 'united-kingdom': lower case, runs of other characters become a hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
