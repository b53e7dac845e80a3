"""MT940, the SWIFT account statement, with the German (?20), SEPA (EREF+) and Dutch (/EREF/) forms of field 86.

The mt-940 library reads fields and signs. What it would do silently is prevented here: it drops a line whose type is
missing, joins several statements, gives the statement's own field 86 to its last line, signs RC as money received
unless told otherwise, finds a wrong year when value and booking date are far apart, and logs what it cannot read.
Sources: SWIFT Standards MT, category 9; DFÜ agreement, annex 3 (field 86).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from mt940 import Options
from mt940.models import Amount, Balance, Transaction, Transactions

from ledger.payouts.bank import KIND_OF_GVC, KIND_OF_SWIFT, BankLine, BankStatement, Head, Kind, Reading, text_of

# its messages quote whole lines, which are personal
logging.getLogger("mt940").setLevel(logging.CRITICAL + 1)

_FIELD = re.compile(r":((?:13|20|21|25|28|34|60|61|62|64|65|86|90)[A-Z]?|NS):")
_BALANCE = re.compile(r"[DC](\d{6})([A-Z]{3})\d{1,14},\d*", re.ASCII)
_LINE = re.compile(
    r"(?P<value>\d{6})(?P<entry>\d{4}|\s{4})?(?P<mark>R?[DC])[A-Z]?\s?(?P<amount>\d{1,14},\d*)"
    r"(?P<type>[A-Z][A-Z0-9]{3})(?P<customer>.*?)(?://(?P<bank>.*))?",
    re.ASCII,
)
_SLUGS = {
    "60": "opening_balance",
    "60F": "final_opening_balance",
    "60M": "intermediate_opening_balance",
    "62": "closing_balance",
    "62F": "final_closing_balance",
    "62M": "intermediate_closing_balance",
}
_CHARGES = re.compile(r"/CHGS/([A-Z]{3})(\d{1,14},\d*)", re.ASCII)
_GERMAN = re.compile(r"(\d{3})([^0-9A-Za-z\s])(?=\d\d)", re.ASCII)
_KEYWORD = re.compile(r"(EREF|KREF|MREF|CRED|DEBT|COAM|OAMT|SVWZ|ABWA|ABWE|PURP|MDAT|IBAN|BIC)\+")
_SLASH = re.compile(
    r"/(EREF|REMI|MARF|CSID|CNTP|PURP|ULTC|ULTD|ULTB|IBAN|BIC|NAME|ADDR|ISDT|TRTP|TRCD|RTRN|SVCL|PREF|CREF|NRTX|OCMT"
    r"|CHGS|EXCH|BENM|ORDP)/"
)
_END_TO_END_MAX = 35  # ISO 20022 Max35Text


class _Field(NamedTuple):
    """A field of a statement: where it begins, its tag such as '61', and its text with line breaks."""

    line_no: int
    tag: str
    text: str


class _Details(NamedTuple):
    """What field 86 says. end_to_end_id None: it says several things, or something too long."""

    end_to_end_id: str | None
    gvc: str
    returned: bool
    text: str


def read_mt940(data: bytes, name: str) -> list[BankStatement]:
    """Every statement of an MT940 file. Raises BankFileError naming the line and what would be right."""
    reading = Reading(name)
    notes: list[str] = []
    try:
        data.decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        # the format names no encoding; ids and amounts are ASCII in either
        encoding = "iso-8859-1"
        notes.append("the file is not UTF-8, so its texts were read as ISO 8859-1")
    messages = list(_messages(reading, text_of(reading, data, encoding)))
    if not messages:
        reading.refuse("holds no statement (:20:)")
    return [_Statement(reading, number, fields).read(notes) for number, fields in enumerate(messages, start=1)]


def _messages(reading: Reading, text: str) -> Iterator[list[_Field]]:
    """The fields of each statement, without the SWIFT envelope and what banks write between statements."""
    fields: list[_Field] = []
    for line_no, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip()
        if line.startswith("{") and "{4:" in line:
            line = line.partition("{4:")[2]
        match = _FIELD.match(line)
        ended = line == "-" or line.startswith("-}")
        if fields and (ended or (match and match[1] == "20")):
            yield fields
            fields = []
        if ended or not line.strip():
            continue
        if match and (fields or match[1] == "20"):
            fields.append(_Field(line_no, match[1], line[match.end() :]))
        elif match:
            reading.refuse("stands before the statement's first field, :20:", f"line {line_no}")
        elif fields:
            last = fields[-1]
            fields[-1] = last._replace(text=f"{last.text}\n{line}")
    if fields:
        yield fields


class _Statement:
    """One statement of a file while it is being read."""

    def __init__(self, reading: Reading, number: int, fields: list[_Field]) -> None:
        self._reading, self._fields = reading, fields
        self._where = f"statement {number} (line {fields[0].line_no})"
        self._notes: list[str] = []

    def read(self, notes: list[str]) -> BankStatement:
        """The whole statement. Raises BankFileError."""
        lines = [field for field in self._fields if field.tag[:2] == "61"]
        matches = [self._match(field) for field in lines]
        opening, closing = self._balance("60"), self._balance("62")
        account = self._one("25")
        if account is None:
            self._reading.refuse("names no account (:25:)", self._where)
        parsed = self._parse()
        if len(parsed) != len(lines):
            self._reading.refuse(f"has {len(lines)} lines (:61:), but {len(parsed)} could be read", self._where)
        head = self._head(account, opening, closing, parsed)
        read = [
            self._line(head, field, match, transaction)
            for field, match, transaction in zip(lines, matches, parsed, strict=True)
        ]
        return self._reading.statement(head, read, [*notes, *self._notes], self._where)

    def _one(self, tag: str) -> _Field | None:
        """A field that a statement has at most once, with whatever letter. Raises BankFileError."""
        found = [field for field in self._fields if field.tag[:2] == tag]
        if len(found) > 1:
            self._reading.refuse(f":{found[1].tag}: is given twice in one statement", f"line {found[1].line_no}")
        return found[0] if found else None

    def _balance(self, tag: str) -> tuple[_Field, date, str] | None:
        """A balance's field, day and currency. Raises BankFileError."""
        field = self._one(tag)
        if field is None:
            return None
        match = _BALANCE.fullmatch(field.text.strip()) if field.tag in _SLUGS else None
        day = _day(match[1]) if match else None
        if match is None or day is None:
            self._reading.refuse(
                f":{field.tag}: must be C or D, a date, a currency and an amount such as C260131EUR1000,00",
                f"line {field.line_no}",
            )
        return field, day, self._reading.currency(match[2], f"line {field.line_no}")

    def _match(self, field: _Field) -> re.Match[str]:
        first, *rest = field.text.split("\n")
        match = _LINE.fullmatch(first)
        if match is None or len(rest) > 1 or len(match["amount"]) > 15:
            self._reading.refuse(
                "a line (:61:) must be a date, C/D/RC/RD, an amount with a comma and a type, such as "
                "2601310131D100,50NTRFREF//BANKREF, and at most one more line",
                f"line {field.line_no}",
            )
        # the library would say neither which date nor which line
        if _day(match["value"]) is None and match["value"][2:4] != "02":
            self._reading.refuse("the value date must be a day, written YYMMDD", f"line {field.line_no}")
        entry = (match["entry"] or "").strip()
        if entry and _day(f"24{entry}") is None:
            self._reading.refuse("the booking date must be a day, written MMDD", f"line {field.line_no}")
        return match

    def _parse(self) -> Transactions:
        """What the library makes of the fields that are ours to read."""
        kept: list[str] = []
        began = ended = False
        for field in self._fields:
            began, ended = began or field.tag[:2] == "61", ended or field.tag[:2] == "62"
            # a field 86 before the first line or after the closing balance tells of the statement, not of a booking
            if field.tag[:2] in ("20", "25", "28", "60", "61", "62") or (field.tag == "86" and began and not ended):
                kept.append(f":{field.tag}:{field.text}")
        parsed = Transactions(processors={"post_transaction_details": []}, options=Options.all())
        try:
            parsed.parse("\n".join(kept))
        except (RuntimeError, ValueError, ArithmeticError, LookupError):
            # the library's message quotes the line
            self._reading.refuse("is no MT940: a date, a number (:28C:) or a reference is malformed", self._where)
        return parsed

    def _head(
        self,
        account: _Field,
        opening: tuple[_Field, date, str] | None,
        closing: tuple[_Field, date, str] | None,
        parsed: Transactions,
    ) -> Head:
        given = [balance for balance in (opening, closing) if balance is not None]
        if not given:
            interim = any(field.tag[:2] in ("34", "90") for field in self._fields)
            self._reading.refuse(
                "is an interim report (MT942), whose lines may still change; fetch the MT940"
                if interim
                else "has no balance (:60F:, :62F:), so its currency is not known",
                self._where,
            )
        currencies = {currency for _, _, currency in given}
        if len(currencies) != 1:
            self._reading.refuse("must have one currency, but its balances have two", self._where)
        number, reference = self._one("28"), self._one("20")
        names = [field.text.strip() for field in (reference, number) if field is not None]
        return Head(
            statement_id=" ".join(name for name in names if name),
            account=account.text.strip(),
            currency=currencies.pop(),
            opening_amount=self._balance_amount(opening, parsed),
            closing_amount=self._balance_amount(closing, parsed),
            balance_days=[closing[1]] if closing else [],
        )

    def _balance_amount(self, balance: tuple[_Field, date, str] | None, parsed: Transactions) -> int | None:
        if balance is None:
            return None
        field, _, currency = balance
        found: Balance = parsed.data[_SLUGS[field.tag]]
        if not isinstance(found.amount, Amount):
            self._reading.refuse("the balance has no amount", f"line {field.line_no}")
        return self._minor(found.amount, currency, field)

    def _minor(self, amount: Amount, currency: str, field: _Field) -> int:
        """The library's signed Decimal in minor units."""
        return self._reading.amount(f"{amount.amount:f}", currency, f"line {field.line_no}")

    def _line(self, head: Head, field: _Field, match: re.Match[str], transaction: Transaction) -> BankLine:
        where = f"line {field.line_no}"
        amount = self._minor(transaction.data["amount"], head.currency, field)
        if amount and (match["mark"] in ("D", "RC")) != (amount < 0):
            self._reading.refuse(f"the direction of {match['mark']} is not clear", where)
        value_on, booking_on = self._days(field, match, transaction, head)
        details = _details(str(transaction.data.get("transaction_details") or ""))
        if details.end_to_end_id is None:
            self._notes.append(f"{where}: the end-to-end id (EREF) is not clear, so none was read")
        customer = match["customer"].strip()
        supplement = field.text.partition("\n")[2].strip()
        return self._reading.line(
            where,
            account=head.account,
            booking_on=booking_on,
            value_on=value_on,
            amount=amount,
            currency=head.currency,
            end_to_end_id=details.end_to_end_id or "",
            bank_reference=(match["bank"] or "").strip() or ("" if customer == "NONREF" else customer),
            kind=_kind(match, details),
            text="; ".join(part for part in (details.text, supplement) if part),
            charges=self._charges(head.currency, supplement, where),
        )

    def _days(self, field: _Field, match: re.Match[str], transaction: Transaction, head: Head) -> tuple[date, date]:
        """Value and booking date; the latter has no year of its own. Raises BankFileError."""
        where = f"line {field.line_no}"
        entry = (match["entry"] or "").strip()
        value_on = _day(match["value"])
        if value_on is None and match["value"][2:4] == "02" and entry:
            # banks that count 30 days a month give values of 30 February; the library takes the month's last day
            given = transaction.data["date"]
            value_on = date(given.year, given.month, given.day)
            self._notes.append(f"{where}: the value date is {match['value']}, taken as {value_on}")
        if value_on is None:
            self._reading.refuse("the value date must be a day, written YYMMDD", where)
        if not entry:
            return value_on, value_on
        near = head.balance_days[0] if head.balance_days else value_on
        candidates = [_day(f"{year % 100:02}{entry}") for year in (near.year - 1, near.year, near.year + 1)]
        days = [day for day in candidates if day is not None]
        if not days:
            self._reading.refuse("the booking date must be a day, written MMDD", where)
        return value_on, min(days, key=lambda day: abs(day - near))

    def _charges(self, currency: str, supplement: str, where: str) -> int:
        """Charges that the bank names in the line itself; what stands in field 86 may be anybody's text."""
        total = 0
        for its_currency, amount in _CHARGES.findall(supplement):
            if its_currency == currency:
                total += self._reading.amount(amount.replace(",", ".").rstrip("."), currency, where)
            else:
                self._notes.append(f"{where}: charges in {its_currency} are not counted")
        return total


def _day(text: str) -> date | None:
    """YYMMDD → date of this century, or None."""
    try:
        return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError:
        return None


def _kind(match: re.Match[str], details: _Details) -> Kind:
    if match["mark"] in ("RC", "RD"):
        return "return" if match["mark"] == "RD" else "other"
    if details.returned:
        return "return"
    return KIND_OF_GVC.get(details.gvc) or KIND_OF_SWIFT.get(match["type"][1:], "other")


def _details(raw: str) -> _Details:
    """Field 86. Its lines are cut anywhere, so they are joined without anything between."""
    joined = "".join(raw.split("\n"))
    german = _GERMAN.match(joined)
    if german:
        parts = re.split(re.escape(german[2]) + r"(\d\d)", joined[3:])
        sub = list(zip(parts[1::2], parts[2::2], strict=True))
        purpose = "".join(value for code, value in sub if code[0] == "2" or "60" <= code <= "65")
        name = "".join(value for code, value in sub if code in ("32", "33"))
        booking = "".join(value for code, value in sub if code == "00")
        text = "; ".join(part for part in (purpose, name, booking) if part)
        return _Details(_keyword_id(purpose), german[1], False, text)
    text = " ".join(raw.split("\n"))
    if "/EREF/" not in joined:
        return _Details(_keyword_id(joined), "", "/RTRN/" in joined.partition("/REMI/")[0], text)
    return _Details(_only(_values(_SLASH, joined)), "", "/RTRN/" in joined.partition("/REMI/")[0], text)


def _keyword_id(purpose: str) -> str | None:
    """What stands after EREF+. After SVWZ+ comes the payer's own text, in which anybody may write EREF+."""
    return _only(_values(_KEYWORD, purpose.partition("SVWZ+")[0]))


def _values(code: re.Pattern[str], text: str) -> set[str]:
    """What stands after each EREF, up to the next code."""
    found = list(code.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {text[match.end() : end].strip("/ ") for match, end in zip(found, ends, strict=False) if match[1] == "EREF"}


def _only(ids: set[str]) -> str | None:
    """The one id there is, '' if there is none, None if it is not clear."""
    if not ids:
        return ""
    (one, *others) = ids
    return None if others or len(one) > _END_TO_END_MAX else one
