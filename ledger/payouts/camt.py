"""camt.053, the ISO 20022 account statement, in every version from 001.02 on and whatever its namespace.

Source: ISO 20022 message definition BankToCustomerStatement; the German profile (DFÜ agreement, annex 3) for
proprietary codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from io import BytesIO
from typing import NamedTuple, NoReturn
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import iterparse  # type: ignore[import-untyped]

from ledger.domain.errors import InvalidInput
from ledger.payouts.bank import (
    KIND_OF_GVC,
    KIND_OF_SWIFT,
    BankLine,
    BankStatement,
    Head,
    Kind,
    Reading,
)

_OTHER_MESSAGES = {
    "BkToCstmrAcctRpt": "is an intraday report (camt.052), whose entries may still change; fetch the camt.053",
    "BkToCstmrDbtCdtNtfctn": "is a notification of single bookings (camt.054); fetch the camt.053",
}
_STATEMENT = ["Document", "BkToCstmrStmt", "Stmt"]
_DEPTH_MAX = 64
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(Z|[+-]\d\d:\d\d|T\d\d:\d\d.*)?", re.ASCII)
# Entries that are no bookings (yet): they come again as BOOK.
_NOT_BOOKED = {"PDNG", "INFO", "FUTR"}
_RETURNS = {"RRTN", "RPCR"}
_FEES = {"CHRG", "FEES", "COMM", "COME", "COMI", "COMT"}
# Issued and received credit transfers, ordinary and real-time.
_TRANSFERS = {"ICDT", "RCDT", "IRCT", "RRCT"}


def read_camt(data: bytes, name: str) -> list[BankStatement]:
    """Every statement of a camt.053 file. Raises BankFileError naming the statement and entry, and what would be
    right. Document types, entities and external references are refused before anything is expanded."""
    reading = Reading(name)
    try:
        statements = list(_statements(reading, data))
    except DefusedXmlException:
        reading.refuse("holds a document type or entity, which no bank statement has; do not trust this file")
    except ParseError as problem:
        line_no, column = getattr(problem, "position", (0, 0))
        reading.refuse("is not well-formed XML, or not in the encoding it names", f"line {line_no}, column {column}")
    except (LookupError, ValueError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        reading.refuse("names an encoding that is not known; UTF-8 would be right", "line 1")
    if not statements:
        reading.refuse("holds no statement (Stmt)")
    return statements


def _statements(reading: Reading, data: bytes) -> Iterator[BankStatement]:
    """Statements one by one; an entry is forgotten once it is read, so that a large file needs little memory."""
    path: list[str] = []
    statement: _Statement | None = None
    count = 0
    for event, element in iterparse(BytesIO(data), events=("start", "end"), forbid_dtd=True):
        if event == "start":
            element.tag = element.tag.rpartition("}")[2]
            path.append(element.tag)
            _check_path(reading, path)
            if path == _STATEMENT:
                count += 1
                statement = _Statement(reading, element, count)
        else:
            if statement is not None and path[:-1] == _STATEMENT and element.tag == "Ntry":
                statement.add(element)
            elif statement is not None and path == _STATEMENT:
                yield statement.finish()
                statement = None
                element.clear()
            path.pop()


def _check_path(reading: Reading, path: list[str]) -> None:
    """Raises BankFileError where the XML is something else."""
    if len(path) > _DEPTH_MAX:
        reading.refuse(f"elements stand more than {_DEPTH_MAX} deep, which no bank statement has")
    if path == ["Document"] or path[:2] == _STATEMENT[:2]:
        return
    if len(path) <= 2:
        reading.refuse(_OTHER_MESSAGES.get(path[-1], "is XML, but no camt.053 (Document/BkToCstmrStmt)"))


def _text(element: Element | None, path: str = ".") -> str:
    """The text at a path, without blanks around it; '' if there is none."""
    found = None if element is None else element.find(path)
    return (found.text or "").strip() if found is not None else ""


def _true(element: Element, path: str) -> bool:
    return _text(element, path) in ("true", "1")


class _Charge(NamedTuple):
    """amount: minor units, above zero what the bank took. included: inside the entry's amount; None: not said."""

    amount: int
    included: bool | None


class _Statement:
    """One Stmt while it is being read."""

    def __init__(self, reading: Reading, element: Element, number: int) -> None:
        self._reading, self._element, self._number = reading, element, number
        self._lines: list[BankLine] = []
        self._notes: list[str] = []
        self._count = self._unbooked = 0
        self._known: Head | None = None
        self._where = f"statement {number}"

    def _refuse(self, problem: str) -> NoReturn:
        self._reading.refuse(problem, self._where)

    def _head(self) -> Head:
        """Account, currency and balances, which all stand before the first entry."""
        if self._known is None:
            account = _text(self._element, "Acct/Id/IBAN") or _text(self._element, "Acct/Id/Othr/Id")
            if not account:
                self._refuse("names no account (Acct/Id/IBAN or Acct/Id/Othr/Id)")
            balances = self._balances()
            currencies = {currency for _, currency, _ in balances.values()}
            if named := _text(self._element, "Acct/Ccy"):
                currencies.add(named)
            if len(currencies) != 1:
                self._refuse("must have one currency (Acct/Ccy and that of its balances)")
            opening = balances.get("OPBD") or balances.get("PRCD")
            closing = balances.get("CLBD")
            self._known = Head(
                statement_id=_text(self._element, "Id"),
                account=account,
                currency=self._reading.currency(currencies.pop(), self._where),
                opening_amount=opening[0] if opening else None,
                closing_amount=closing[0] if closing else None,
                balance_days=[closing[2]] if closing else [],
            )
        return self._known

    def _balances(self) -> dict[str, tuple[int, str, date]]:
        """Code → signed amount, currency, date; of the balances that are of booked entries."""
        found: dict[str, tuple[int, str, date]] = {}
        for balance in self._element.findall("Bal"):
            code = _text(balance, "Tp/CdOrPrtry/Cd")
            if code in ("OPBD", "PRCD", "CLBD"):
                self._where = f"statement {self._number}, balance {code}"
                if code in found:
                    self._refuse("is given twice")
                amount, currency = self._money(balance)
                found[code] = amount * self._sign(balance), currency, self._date(balance, "Dt")
        self._where = f"statement {self._number}"
        return found

    def _money(self, parent: Element, path: str = "Amt") -> tuple[int, str]:
        """An amount without its sign, and its currency."""
        element = parent.find(path)
        if element is None:
            self._refuse(f"has no amount ({path})")
        currency = self._reading.currency(element.get("Ccy", ""), self._where)
        text = _text(element)
        if text.startswith(("-", "+")):
            self._refuse(f"{path} must have no sign; CdtDbtInd says the direction")
        return self._reading.amount(text, currency, self._where), currency

    def _sign(self, element: Element, path: str = "CdtDbtInd") -> int:
        text = _text(element, path)
        if text not in ("CRDT", "DBIT"):
            self._refuse(f"{path} must be CRDT or DBIT")
        return 1 if text == "CRDT" else -1

    def _date(self, element: Element, path: str) -> date:
        """The day of a Dt or DtTm, as the bank wrote it, in the bank's own zone."""
        match = _DATE.fullmatch(_text(element, f"{path}/Dt") or _text(element, f"{path}/DtTm"))
        try:
            if match:
                return date.fromisoformat(match[1])
        except ValueError:
            pass
        self._refuse(f"{path} must hold a date such as 2026-01-31")

    def add(self, entry: Element) -> None:
        """Read an entry and forget it. Raises BankFileError naming it."""
        head = self._head()
        self._count += 1
        reference = _text(entry, "AcctSvcrRef") or _text(entry, "NtryRef")
        self._where = f"statement {self._number}, entry {self._count}" + (f" ({reference})" if reference else "")
        status = _text(entry, "Sts/Cd") or _text(entry, "Sts")
        if status in _NOT_BOOKED:
            self._unbooked += 1
        elif status == "BOOK":
            self._lines += self._booked(head, entry, reference)
        else:
            self._refuse("the status (Sts) must be BOOK, PDNG, INFO or FUTR")
        self._element.remove(entry)
        self._where = f"statement {self._number}"

    def _booked(self, head: Head, entry: Element, reference: str) -> Iterator[BankLine]:
        """An entry's lines: one for each of its transactions."""
        amount, currency = self._money(entry)
        if currency != head.currency:
            self._refuse(f"is in {currency}, but the account is in {head.currency}")
        sign = self._sign(entry)
        booking_on = self._date(entry, "BookgDt")
        value_on = self._date(entry, "ValDt") if entry.find("ValDt") is not None else None
        transactions = entry.findall("NtryDtls/TxDtls")
        batch = _text(entry, "NtryDtls/Btch/NbOfTxs")
        if len(transactions) < 2 and batch not in ("", "0", "1"):
            self._notes.append(f"{self._where}: a batch of {batch} without its payments, so none can be matched")
        shares = self._shares(head, sign * amount, transactions)
        charges = self._charges_of(head.currency, sign * amount, entry, list(zip(shares, transactions, strict=False)))
        for at, share in enumerate(shares):
            own = transactions[at] if transactions else None
            yield self._reading.line(
                self._where,
                account=head.account,
                booking_on=booking_on,
                value_on=value_on,
                amount=share,
                currency=head.currency,
                end_to_end_id=_text(own, "Refs/EndToEndId"),
                bank_reference=_text(own, "Refs/AcctSvcrRef") or reference,
                kind=_kind(entry, own, share),
                text=_told(entry, own),
                charges=charges[at],
            )

    def _shares(self, head: Head, amount: int, transactions: list[Element]) -> list[int]:
        """What each transaction moved; together exactly the entry's amount (minor units)."""
        if not transactions:
            return [amount]
        if len(transactions) == 1:
            self._check_single(head, amount, transactions[0])
            return [amount]
        shares = []
        for at, transaction in enumerate(transactions, start=1):
            # version 02 has no Amt of its own
            path = next(
                (
                    path
                    for path in ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt")
                    if transaction.find(path) is not None
                ),
                "Amt",
            )
            share, currency = self._money(transaction, path)
            if currency != head.currency:
                self._refuse(f"transaction {at} is given in {currency} only, but the account is in {head.currency}")
            own = transaction.find("CdtDbtInd") is not None
            shares.append(share * (self._sign(transaction) if own else (1 if amount > 0 else -1)))
        if sum(shares) != amount:
            self._refuse(
                f"its {len(shares)} transactions (TxDtls) add up to {sum(shares)} minor units, but the entry is "
                f"{amount}; ask the bank for the complete statement"
            )
        return shares

    def _check_single(self, head: Head, amount: int, transaction: Element) -> None:
        """Raises BankFileError where an entry's only transaction has another amount, and charges do not say why."""
        if transaction.find("Amt") is None:
            return
        share, currency = self._money(transaction)
        charges = abs(sum(record.amount for record in self._charge_records(head.currency, transaction)))
        if currency == head.currency and abs(share - abs(amount)) not in (0, charges):
            self._refuse(f"its transaction (TxDtls) is {share} minor units, but the entry is {amount}")

    def _charges_of(
        self, currency: str, amount: int, entry: Element, transactions: list[tuple[int, Element]]
    ) -> list[int]:
        """The charges inside each transaction's amount; those told of the entry as a whole stand with its first."""
        own = [self._charges(currency, share, transaction) for share, transaction in transactions] or [0]
        if not any(own):
            own[0] = self._charges(currency, amount, entry, transactions[0][1] if transactions else entry)
        return own

    def _charges(self, currency: str, amount: int, holder: Element, detail: Element | None = None) -> int:
        """The charges inside an amount (minor units). detail: where the amount before charges may stand."""
        records = list(self._charge_records(currency, holder))
        unsaid = sum(record.amount for record in records if record.included is None)
        inside = sum(record.amount for record in records if record.included)
        if not unsaid:
            return inside
        if self._reveals(currency, amount, inside + unsaid, holder if detail is None else detail):
            return inside + unsaid
        self._notes.append(f"{self._where}: charges are told, but not whether the amount includes them")
        return inside

    def _charge_records(self, currency: str, holder: Element) -> Iterator[_Charge]:
        """Version 02 has charges one by one, later ones a total with records."""
        for charge in holder.findall("Chrgs"):
            records = charge.findall("Rcrd") or ([charge] if charge.find("Amt") is not None else [])
            for record in records:
                amount, its_currency = self._money(record)
                if its_currency != currency:
                    self._notes.append(f"{self._where}: charges in {its_currency} are not counted")
                    continue
                if record.find("CdtDbtInd") is not None and self._sign(record) > 0:
                    amount = -amount
                said = record.find("ChrgInclInd") is not None
                yield _Charge(amount, _true(record, "ChrgInclInd") if said else None)

    def _reveals(self, currency: str, amount: int, charges: int, detail: Element) -> bool:
        """Whether the amount before charges, where it is given, differs from the booked one by just these charges."""
        for path in ("AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt"):
            if detail.find(path) is not None:
                before, its_currency = self._money(detail, path)
                if its_currency == currency and abs(amount + charges) == before != abs(amount):
                    return True
        return False

    def finish(self) -> BankStatement:
        """The whole statement. Raises BankFileError if its balances disagree with its lines."""
        if self._unbooked:
            self._notes.append(f"{self._unbooked} entries that are not booked yet were left out")
        return self._reading.statement(self._head(), self._lines, self._notes, self._where)


def _kind(entry: Element, own: Element | None, amount: int) -> Kind:
    """What a booking is, by return information, then the ISO bank transaction code, then a proprietary one."""
    if own is not None and own.find("RtrInf") is not None:
        return "return"
    code = own.find("BkTxCd") if own is not None else None
    if code is None:
        code = entry.find("BkTxCd")
    family, sub = _text(code, "Domn/Fmly/Cd"), _text(code, "Domn/Fmly/SubFmlyCd")
    if sub in _RETURNS or _true(entry, "RvslInd"):
        # a reversed credit is nobody's payment and nobody's return
        return "return" if amount > 0 or sub in _RETURNS else "other"
    if sub in _FEES:
        return "fee"
    # 'NTRF+116+…' in Germany, 'NTRF' elsewhere
    swift, _, rest = _text(code, "Prtry/Cd").partition("+")
    proprietary = KIND_OF_GVC.get(rest[:3]) or KIND_OF_SWIFT.get(swift[1:4], "other")
    return "payment" if family in _TRANSFERS and proprietary == "other" else proprietary


def _told(entry: Element, own: Element | None) -> str:
    """Remittance, counterparty and the bank's own words."""
    found: list[str] = []
    if own is not None:
        found += [_text(line) for line in own.findall("RmtInf/Ustrd")]
        found += [_text(line) for line in own.findall("RmtInf/Strd/CdtrRefInf/Ref")]
        found += [_text(own, f"RltdPties/{who}") for who in ("Dbtr/Nm", "Dbtr/Pty/Nm", "Cdtr/Nm", "Cdtr/Pty/Nm")]
        found += [_text(own, "RtrInf/Rsn/Cd"), *(_text(line) for line in own.findall("RtrInf/AddtlInf"))]
        found.append(_text(own, "AddtlTxInf"))
    found.append(_text(entry, "AddtlNtryInf"))
    return "; ".join(part for part in found if part)
