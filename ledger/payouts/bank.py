"""Bank statements as the ledger sees them, whatever format they came in; a line's id; what every reader checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec
from msgspec import Struct

from ledger.domain import money
from ledger.domain.errors import InvalidInput

if TYPE_CHECKING:
    from ledger.payouts.bankcsv import BankCsvMapping

FILE_MAX = 64 << 20
ID_MAX = 128
TEXT_MAX = 2_000
Kind = Literal["payment", "return", "fee", "other"]
Format = Literal["auto", "camt", "mt940", "csv"]
# ISO 20022 wants an end-to-end id in every payment; whoever has none writes this (EPC implementation guidelines).
NOT_PROVIDED = frozenset({"NOTPROVIDED", "NOT PROVIDED", "NOT-PROVIDED", "NONREF", "NOREF"})
# German Geschäftsvorfallcodes (DFÜ agreement, annex 3), only those that leave no doubt.
KIND_OF_GVC: dict[str, Kind] = {
    **dict.fromkeys(("116", "117", "118", "166", "168", "177", "191"), "payment"),
    "159": "return",
    "808": "fee",
}
# SWIFT transaction type identification codes (MT940 field 61, subfield 6) without their first letter.
KIND_OF_SWIFT: dict[str, Kind] = {"TRF": "payment", "RTI": "return", "CHG": "fee", "COM": "fee"}


class BankFileError(InvalidInput):
    """A bank's file cannot be read: the message names the file, the place in it, and what would be right."""

    def __init__(self, name: str, problem: str, where: str = "") -> None:
        """where: a line or an entry, such as 'line 7'."""
        super().__init__("file", problem)
        self.message = f"{name}, {where}: {problem}" if where else f"{name}: {problem}"
        self.args = (self.message,)


class BankLine(Struct, frozen=True, kw_only=True):
    """One booking on our account. amount: minor units, below zero for money that left it. charges: minor units that
    the bank took and that are inside amount (a payment of 100.00 with charges of 1.50 is -101.50). end_to_end_id: ''
    without one. text: as the bank gave it, at most 2,000 characters; it may be personal, so seal it."""

    line_id: str
    booking_on: date
    value_on: date | None
    amount: int
    currency: str
    end_to_end_id: str
    bank_reference: str
    kind: Kind
    text: str
    charges: int = 0


class BankStatement(Struct, frozen=True, kw_only=True):
    """What a file says of one account in one currency. account: as in the file. Amounts: minor units. notes: what
    was left out or could not be checked, for people."""

    statement_id: str
    account: str
    currency: str
    opening_amount: int | None
    closing_amount: int | None
    booked_from: date | None
    booked_until: date | None
    lines: list[BankLine]
    notes: list[str] = []


class Head(Struct, frozen=True, kw_only=True):
    """What a statement says of itself. balance_days: the dates of its balances."""

    statement_id: str
    account: str
    currency: str
    opening_amount: int | None = None
    closing_amount: int | None = None
    balance_days: Sequence[date] = ()


class Reading:
    """One file being read: its name for errors, and the line ids given so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._given: Counter[bytes] = Counter()

    def refuse(self, problem: str, where: str = "") -> NoReturn:
        """Raises BankFileError."""
        raise BankFileError(self.name, problem, where)

    def amount(self, text: str, currency: str, where: str) -> int:
        """'49.90' EUR → 4990; exact, or refused. Raises BankFileError."""
        try:
            return money.minor_units("amount", text, currency)
        except InvalidInput as problem:
            self.refuse(problem.message, where)

    def currency(self, code: str, where: str) -> str:
        """A currency's code, checked. Raises BankFileError."""
        if code not in money.EXPONENTS:
            self.refuse("currency: must be an ISO 4217 currency code such as EUR", where)
        return code

    def line(
        self,
        where: str,
        *,
        account: str,
        booking_on: date,
        amount: int,
        currency: str,
        end_to_end_id: str,
        bank_reference: str,
        kind: Kind,
        text: str,
        value_on: date | None = None,
        charges: int = 0,
    ) -> BankLine:
        """A line with its id. Raises BankFileError for an id that none can be."""
        end_to_end_id = self._checked("end-to-end id", end_to_end_id, where)
        if end_to_end_id.upper() in NOT_PROVIDED:
            end_to_end_id = ""
        bank_reference = self._checked("bank reference", bank_reference, where)
        text = " ".join(text.split())
        return BankLine(
            line_id=self._line_id(account, booking_on, amount, currency, end_to_end_id, bank_reference),
            booking_on=booking_on,
            value_on=value_on,
            amount=amount,
            currency=currency,
            end_to_end_id=end_to_end_id,
            bank_reference=bank_reference,
            kind=kind,
            text=text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…",
            charges=charges,
        )

    def _checked(self, what: str, value: str, where: str) -> str:
        value = " ".join(value.split())
        if len(value) > ID_MAX or not value.isprintable():
            self.refuse(f"the {what} must have at most {ID_MAX} printable characters", where)
        return value

    def _line_id(
        self, account: str, booking_on: date, amount: int, currency: str, end_to_end_id: str, bank_reference: str
    ) -> str:
        """40 hexadecimal digits, the same in every file that tells of this booking.

        Lines alike in all of this are told apart by their number within the file: that is all a bank tells us.
        """
        identity = ["".join(account.split()).upper(), booking_on, amount, currency, end_to_end_id, bank_reference]
        key = msgspec.json.encode(identity)
        ordinal = self._given[key]
        self._given[key] += 1
        return sha256(msgspec.json.encode([*identity, ordinal]) if ordinal else key).hexdigest()[:40]

    def statement(self, head: Head, lines: list[BankLine], notes: list[str], where: str) -> BankStatement:
        """A whole statement. Raises BankFileError if opening + lines is not closing."""
        notes = list(notes)
        if head.opening_amount is not None and head.closing_amount is not None:
            moved = sum(line.amount for line in lines)
            if head.opening_amount + moved != head.closing_amount:
                told = [
                    money.major_units(amount, head.currency)
                    for amount in (head.opening_amount, moved, head.opening_amount + moved, head.closing_amount)
                ]
                self.refuse(
                    f"opening balance {told[0]} + booked lines {told[1]} = {told[2]}, but the closing balance is "
                    f"{told[3]} {head.currency}: the file is incomplete or was changed; fetch it again",
                    where,
                )
        else:
            notes.append("the sum of the lines was not checked: the file does not give both balances")
        days = [line.booking_on for line in lines]
        return BankStatement(
            statement_id=head.statement_id,
            account=head.account,
            currency=head.currency,
            opening_amount=head.opening_amount,
            closing_amount=head.closing_amount,
            booked_from=min(days or head.balance_days, default=None),
            booked_until=max([*days, *head.balance_days], default=None),
            lines=lines,
            notes=notes,
        )


def read_statement(
    source: Path | str | bytes,
    format: Format = "auto",
    mapping: BankCsvMapping | Path | None = None,
    name: str = "",
) -> list[BankStatement]:
    """Every statement of a bank's file. source: a path, or the file's bytes. mapping: what a CSV's columns mean (a
    mapping or its TOML file). name: what errors call the file, by default its own name.

    Raises BankFileError naming file, place and what would be right; nothing is guessed.
    """
    # the readers import this module's contract
    from ledger.payouts.bankcsv import load_bank_mapping, read_csv
    from ledger.payouts.camt import read_camt
    from ledger.payouts.mt940 import read_mt940

    name = name or ("statement" if isinstance(source, bytes) else Path(source).name)
    data = _bytes_of(source, name)
    found = _format_of(data, name, mapping is not None) if format == "auto" else format
    if found == "camt":
        return read_camt(data, name)
    if found == "mt940":
        return read_mt940(data, name)
    if mapping is None:
        raise BankFileError(name, "a CSV file needs a mapping that says what its columns mean")
    return read_csv(data, name, load_bank_mapping(mapping) if isinstance(mapping, Path) else mapping)


def _bytes_of(source: Path | str | bytes, name: str) -> bytes:
    """A file's content, which may not be too large. Raises BankFileError."""
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(FILE_MAX + 1)
        except OSError as problem:
            raise BankFileError(name, problem.strerror or "cannot be read") from None
    if len(data) > FILE_MAX:
        raise BankFileError(name, f"is larger than {FILE_MAX >> 20} MiB; ask the bank for shorter periods")
    if not data.strip():
        raise BankFileError(name, "is empty")
    return data


def _format_of(data: bytes, name: str, mapped: bool) -> Format:
    """The format that a file's first bytes show. Raises BankFileError."""
    start = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise BankFileError(name, "is packed (ZIP or gzip); unpack it first")
    if start.startswith((b"<", b"\xff\xfe<\x00", b"\xfe\xff\x00<")):
        return "camt"
    if start.startswith((b":20:", b"{1:")) or b"\n:20:" in start:
        return "mt940"
    if mapped:
        return "csv"
    raise BankFileError(name, "is neither camt.053 (XML) nor MT940; a CSV file needs a mapping")


def text_of(reading: Reading, data: bytes, encoding: str) -> str:
    """A file's text. Raises BankFileError where it is not in that encoding, or is no text at all."""
    try:
        text = data.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
    except UnicodeError as problem:
        line_no = data.count(b"\n", 0, getattr(problem, "start", 0)) + 1
        reading.refuse(f"is not {encoding}", f"line {line_no}")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.isprintable() and any(_is_control(char) for char in line):
            reading.refuse(f"holds a control character, so it is no {encoding} text", f"line {number}")
    return text


def _is_control(char: str) -> bool:
    code = ord(char)
    return (code < 0x20 and char not in "\t\r") or 0x7F <= code < 0xA0
