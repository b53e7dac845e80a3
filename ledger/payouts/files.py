"""Payout files: rendered, read back and compared, and written whole or not at all."""

from __future__ import annotations

import csv
import fcntl
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import iterparse  # type: ignore[import-untyped]
from msgspec import Struct

from ledger.domain.money import EXPONENTS
from ledger.payouts import manual, paypal, sepa, wise
from ledger.payouts.orders import (
    FileHeader,
    ManualPayee,
    Part,
    PaymentOrder,
    PayoutFileError,
    SepaPayee,
    WisePayee,
    check_orders,
    is_payout_id,
)
from ledger.payouts.text import identifier

_WRITERS: dict[str, Callable[[FileHeader, Sequence[PaymentOrder]], list[Part]]] = {
    "sepa": sepa.render,
    "paypal": paypal.render,
    "wise": wise.render,
    "manual": manual.render,
}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")
_AMOUNT = re.compile(r"([0-9]+)(?:[.,]([0-9]+))?")


class RenderedFile(Struct, frozen=True, kw_only=True):
    """A file of a run. sha256: hex, of content; count: payments; control_sum: minor units of currency."""

    name: str
    method: str
    currency: str
    content: bytes
    sha256: str
    count: int
    control_sum: int


class Payment(NamedTuple):
    """A payment as read back. account: where the money goes, as the file says it, without spaces, in small letters."""

    payout_id: str
    amount: int
    account: str


def render(header: FileHeader, orders: Sequence[PaymentOrder], method: str) -> list[RenderedFile]:
    """A run's files: the same bytes for the same orders, in whatever order they come. None for no orders.

    Every file has been read back and compared. Raises PayoutFileError.
    """
    check_orders(header, orders, method)
    if not orders:
        return []
    ordered = sorted(orders, key=lambda order: order.payout_id)
    run = identifier(header.run_id, 64)
    files = [
        RenderedFile(
            name=f"{run}-{part.suffix}",
            method=method,
            currency=header.currency,
            content=part.content,
            sha256=sha256(part.content).hexdigest(),
            count=len(part.orders),
            control_sum=sum(order.amount for order in part.orders),
        )
        for part in _WRITERS[method](header, ordered)
    ]
    verify(files, ordered)
    return files


def check(content: bytes, method: str, currency: str) -> tuple[int, int, frozenset[str]]:
    """(payments, sum in minor units, payout ids) that the bytes of a file say. Raises PayoutFileError."""
    payments = read(content, method, currency)
    return len(payments), sum(p.amount for p in payments), frozenset(p.payout_id for p in payments)


def verify(rendered: Sequence[RenderedFile], orders: Sequence[PaymentOrder]) -> None:
    """Read every file back: count, sum, and each payment's id, amount and account must be those of the orders.

    Raises PayoutFileError naming the payouts that differ.
    """
    found: Counter[Payment] = Counter()
    for file in rendered:
        if sha256(file.content).hexdigest() != file.sha256:
            raise PayoutFileError(f"{file.name}: the content is not what its hash says")
        payments = read(file.content, file.method, file.currency)
        found.update(payments)
        if (len(payments), sum(p.amount for p in payments)) != (file.count, file.control_sum):
            raise PayoutFileError(f"{file.name}: count or control sum is not that of its payments")
        if any(order.currency != file.currency for order in orders):
            raise PayoutFileError(f"{file.name}: an order is in another currency than {file.currency}")
    expected = Counter(Payment(o.payout_id, o.amount, _canonical(_account(o))) for o in orders)
    if found != expected:
        wrong = sorted({p.payout_id for p in (found - expected) + (expected - found)})
        named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise PayoutFileError(f"the files do not say what the orders say for {named}", payouts=wrong[:100])


def _account(order: PaymentOrder) -> str:
    payee = order.payee
    if isinstance(payee, SepaPayee):
        return payee.iban
    if isinstance(payee, WisePayee):
        return payee.iban or (payee.bsb_code + payee.account_number) or payee.email
    if isinstance(payee, ManualPayee):
        return order.affiliate_id
    return payee.email


def _canonical(account: str) -> str:
    return "".join(account.split()).casefold()


def read(content: bytes, method: str, currency: str) -> list[Payment]:
    """The payments in a file, from its bytes alone. Raises PayoutFileError, which names rows, not values."""
    if method not in _WRITERS or currency not in EXPONENTS:
        raise PayoutFileError("method or currency: unknown")
    payments = list(_read_sepa(content, currency) if method == "sepa" else _read_csv(content, method, currency))
    ids = {p.payout_id for p in payments}
    if len(ids) != len(payments):
        raise PayoutFileError("a payout is in the file twice")
    if not all(map(is_payout_id, ids)):
        raise PayoutFileError("a payout id in the file is not well formed")
    return payments


def _read_csv(content: bytes, method: str, currency: str) -> Iterator[Payment]:
    try:
        rows = list(csv.reader(StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise PayoutFileError("the file is not CSV in UTF-8") from None
    if method == "paypal":
        names: tuple[str, ...] = ("email", "amount", "currency", "payout_id", "note", "wallet")
        first = 1
    else:
        names = tuple(rows[0]) if rows else ()
        first, rows = 2, rows[1:]
        allowed = [manual.COLUMNS] if method == "manual" else [wise.COLUMNS + more for more in wise.TEMPLATES.values()]
        if names not in allowed:
            raise PayoutFileError("row 1: is not the header of this format")
    for number, values in enumerate(rows, first):
        if len(values) != len(names):
            raise PayoutFileError(f"row {number}: must have {len(names)} cells")
        yield _payment(dict(zip(names, values, strict=True)), method, currency, number)


def _payment(row: dict[str, str], method: str, currency: str, number: int) -> Payment:
    if method == "wise":
        if (row["sourceCurrency"], row["amountCurrency"]) != (row["targetCurrency"], "target"):
            raise PayoutFileError(f"row {number}: must be paid in one currency, the exact amount to the payee")
        named, payout_id = row["targetCurrency"], row["paymentReference"]
        account = row.get("IBAN") or row.get("bsbCode", "") + row.get("accountNumber", "") or row["recipientEmail"]
    else:
        named, payout_id = row["currency"], row["payout_id"]
        account = row["email"] if method == "paypal" else row["affiliate_id"].removeprefix("'")
    if named != currency:
        raise PayoutFileError(f"row {number}: is not in {currency}")
    whole = method == "paypal" and currency in ("HUF", "JPY", "TWD")
    return Payment(payout_id, _minor(row["amount"], currency, f"row {number}", whole), _canonical(account))


def _minor(text: str, currency: str, where: str, whole: bool = False) -> int:
    """'49.90' or '49,90' → 4990. whole: written without decimals, whatever ISO 4217 says."""
    found = _AMOUNT.fullmatch(text)
    places = EXPONENTS[currency]
    if found is None or len(found[2] or "") != (0 if whole else places):
        raise PayoutFileError(f"{where}: the amount is not written in the decimals of {currency}")
    return int(Decimal(f"{found[1]}.{found[2] or 0}").scaleb(places))


def _read_sepa(content: bytes, currency: str) -> Iterator[Payment]:
    """Group header and payment block must say the count and sum that the transfers have."""
    namespace = f"{{{sepa.NAMESPACE}}}"
    count = total = 0
    said: list[tuple[str, str]] = []
    try:
        for _, element in iterparse(BytesIO(content), events=("end",)):
            tag = element.tag.removeprefix(namespace)
            if tag == "CdtTrfTxInf":
                count += 1
                payment = _sepa_payment(element, {"": sepa.NAMESPACE}, currency, f"transfer {count}")
                total += payment.amount
                element.clear()
                yield payment
            elif tag in ("GrpHdr", "PmtInf"):
                said.append((element.findtext(f"{namespace}NbOfTxs", ""), element.findtext(f"{namespace}CtrlSum", "")))
    except (ParseError, DefusedXmlException):
        raise PayoutFileError("the file is not plain, well-formed XML") from None
    if element.tag != f"{namespace}Document" or len(said) != 2:
        raise PayoutFileError("the file is not a pain.001.001.09 of one payment block")
    for number, amount in said:
        if number != str(count) or _minor(amount, currency, "CtrlSum") != total:
            raise PayoutFileError("NbOfTxs or CtrlSum is not that of the transfers")


def _sepa_payment(element: Element, namespaces: dict[str, str], currency: str, where: str) -> Payment:
    amount = element.find("Amt/InstdAmt", namespaces)
    payout_id = element.findtext("PmtId/EndToEndId", "", namespaces)
    iban = element.findtext("CdtrAcct/Id/IBAN", "", namespaces)
    if amount is None or not payout_id or not iban:
        raise PayoutFileError(f"{where}: lacks its amount, end-to-end id or account")
    if amount.get("Ccy") != currency:
        raise PayoutFileError(f"{where}: is not in {currency}")
    return Payment(payout_id, _minor(amount.text or "", currency, where), _canonical(iban))


def write(directory: Path, files: Sequence[RenderedFile]) -> list[Path]:
    """Write the files, readable by the owner only, each whole or not at all, even when the power fails.

    A file that is there with the same bytes is left. Raises PayoutFileError, before anything is written, when one is
    there with other bytes; OSError when the disk is full.
    """
    if any(not _FILE_NAME.fullmatch(f.name) for f in files) or len({f.name for f in files}) != len(files):
        raise PayoutFileError("a file's name is not one that render gives")
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_directory(directory.parent)
    with _locked(directory) as handle:
        missing = [file for file in files if not _there(directory / file.name, file.content)]
        for file in missing:
            _write_one(directory, file)
        # Also when nothing was missing: whoever renamed them may have died before this.
        os.fsync(handle)
    return [directory / file.name for file in files]


def _there(path: Path, content: bytes) -> bool:
    if not os.path.lexists(path):
        return False
    if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
        raise PayoutFileError(f"{path.name} exists already with other content; a payout file is never overwritten")
    return True


def _write_one(directory: Path, file: RenderedFile) -> None:
    part = directory / f".{file.name}.part"  # one name, so that what a killed process left is cleared away
    part.unlink(missing_ok=True)
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(file.content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, directory / file.name)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """One writer at a time in a directory; the lock goes with the process."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
