"""A mapping: what a merchant calls the columns of its order export, and how it writes dates, prices and refunds."""

from __future__ import annotations

import codecs
import tomllib
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from ledger.domain import money
from ledger.domain.errors import InvalidInput
from ledger.imports.errors import ImportRefused


class FileFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the file is written. date_format: Python's strptime; zone: of its dates, where they name none."""

    encoding: str = "utf-8"
    delimiter: str = ","
    date_format: str = "%Y-%m-%d %H:%M:%S"
    zone: str = "UTC"
    decimal_point: str = "."


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's headings for what the ledger needs; no other column is ever kept."""

    order_id: str
    sku: str
    quantity: str
    price: str
    occurred_at: str
    customer_id: str | None = None
    affiliate_id: str | None = None

    def named(self) -> dict[str, str]:
        """Our name → the file's heading, for those that the file has."""
        return {name: heading for name, heading in msgspec.structs.asdict(self).items() if heading is not None}


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for every line. currency None: the program's."""

    currency: str | None = None
    affiliate_id: str | None = None


class AffiliateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """slug: the column holds a name, whose slug is the affiliate's id; else it holds the id itself."""

    slug: bool = False


class RefundMarker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line is a refund's if this column begins with prefix, or equals a text."""

    column: str
    prefix: str | None = None
    equals: str | None = None


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole mapping file."""

    columns: Columns
    refund: RefundMarker
    file: FileFormat = FileFormat()
    constants: Constants = Constants()
    affiliate: AffiliateRule = AffiliateRule()

    def meaning(self) -> bytes:
        """What the mapping says, whatever its comments and order: part of an import's identity."""
        return msgspec.json.encode(self, order="sorted")

    def headings(self) -> list[str]:
        """Every heading that the file must have."""
        return list(dict.fromkeys([*self.columns.named().values(), self.refund.column]))


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises ImportRefused naming the file and the setting."""
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Mapping)
        _check(mapping)
    except OSError as problem:
        raise ImportRefused(f"{path}: {problem.strerror or problem}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as problem:
        raise ImportRefused(f"{path}: {problem}") from None
    except InvalidInput as problem:
        raise ImportRefused(f"{path}: {problem.message}") from None
    return mapping


def _check(mapping: Mapping) -> None:
    """Raises InvalidInput naming the setting and what would be right."""
    file = mapping.file
    try:
        codecs.lookup(file.encoding)
    except LookupError:
        raise InvalidInput("file.encoding", "must be an encoding that Python knows, such as utf-8 or cp1252") from None
    if len(file.delimiter) != 1 or file.delimiter in '"\r\n':
        raise InvalidInput("file.delimiter", "must be one character, such as , or ; or a tab")
    if file.decimal_point not in (".", ","):
        raise InvalidInput("file.decimal_point", "must be . or ,")
    if mapping.columns.affiliate_id is None and mapping.constants.affiliate_id is None:
        raise InvalidInput("columns.affiliate_id", "(or constants.affiliate_id) must say who is credited")
    try:
        ZoneInfo(file.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput("file.zone", "must be a time zone's name, such as UTC or Europe/Vienna") from None
    try:
        written = datetime(2026, 1, 31, 12).strftime(file.date_format)  # noqa: DTZ001 - a form, not an instant
        datetime.strptime(written, file.date_format)  # noqa: DTZ007
    except ValueError:
        raise InvalidInput("file.date_format", "must be a format of strptime, such as %d.%m.%Y %H:%M") from None
    if (mapping.refund.prefix is None) == (mapping.refund.equals is None):
        raise InvalidInput("refund", "needs either prefix or equals")
    if not (mapping.refund.prefix or mapping.refund.equals):
        raise InvalidInput("refund", "prefix or equals must not be empty")
    if mapping.columns.affiliate_id is not None and mapping.constants.affiliate_id is not None:
        raise InvalidInput("constants.affiliate_id", "is given as a column already")
    if mapping.constants.currency is not None:
        money.exponent("constants.currency", mapping.constants.currency)
