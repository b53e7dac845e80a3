"""What a payout file is made of: payment orders, who pays, and a header. Every rail's writer takes these."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ledger.domain.errors import InvalidInput, Refusal
from ledger.domain.ids import AMOUNT_MAX
from ledger.domain.money import EXPONENTS

# The SEPA character set, EPC217-08. The first is a letter or digit, so that no spreadsheet takes an id for a formula.
_PAYOUT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9/?:().,'+ -]{0,34}")


class PayoutFileError(Refusal):
    """The payout file cannot be made, or does not say what the orders say."""

    code = "payout_file"


class SepaPayee(Struct, frozen=True, tag="sepa", tag_field="method", kw_only=True):
    """A SEPA account. iban and bic compact; bic may be empty."""

    name: str
    iban: str
    bic: str = ""


class PayPalPayee(Struct, frozen=True, tag="paypal", tag_field="method", kw_only=True):
    """A PayPal account."""

    email: str


class WisePayee(Struct, frozen=True, tag="wise", tag_field="method", kw_only=True):
    """A bank account that Wise pays (iban, or bsb_code and account_number), or only an e-mail that Wise asks for it.

    receiver_type: PERSON or INSTITUTION.
    """

    name: str
    receiver_type: str
    email: str = ""
    iban: str = ""
    bsb_code: str = ""
    account_number: str = ""


class ManualPayee(Struct, frozen=True, tag="manual", tag_field="method", kw_only=True):
    """Somebody whom a person pays by hand, as the instructions say."""

    instructions: str


Payee = SepaPayee | PayPalPayee | WisePayee | ManualPayee
PAYEES: dict[str, type[Payee]] = {
    "sepa": SepaPayee,
    "paypal": PayPalPayee,
    "wise": WisePayee,
    "manual": ManualPayee,
}
METHODS = tuple(PAYEES)


def payee(method: str, details: Mapping[str, str]) -> Payee:
    """The payee that payees.check_details' answer describes. Raises InvalidInput naming only fields."""
    if method not in PAYEES:
        raise InvalidInput("method", f"must be one of {', '.join(METHODS)}")
    try:
        return msgspec.convert({**details, "method": method}, PAYEES[method])
    except msgspec.ValidationError:
        raise InvalidInput("details", f"are not complete for {method}") from None


class Payer(Struct, frozen=True, kw_only=True):
    """The account that SEPA transfers leave. bic may be empty."""

    name: str
    iban: str
    bic: str = ""


class PaymentOrder(Struct, frozen=True, kw_only=True):
    """One payout. payout_id: our end-to-end id, unique, 1-35 of the SEPA character set. amount: minor units > 0, what
    is transferred. Raises PayoutFileError when it is not well formed."""

    payout_id: str
    affiliate_id: str
    amount: int
    currency: str
    payee: Payee

    def __post_init__(self) -> None:
        """Refuse what no bank would take."""
        if not is_payout_id(self.payout_id):
            raise order_error(self.affiliate_id, "payout_id must be 1-35 characters of the SEPA character set")
        if not 0 < self.amount <= AMOUNT_MAX:
            raise order_error(self.affiliate_id, f"amount must be 1-{AMOUNT_MAX} minor units")
        if self.currency not in EXPONENTS:
            raise order_error(self.affiliate_id, "currency must be an ISO 4217 code such as EUR")


class FileHeader(Struct, frozen=True, kw_only=True):
    """What a run's files share.

    run_id: unique for the payer's bank, so with the program's name in it: message id and file names come of it.
    created_at: aware, and kept with the run: with a clock each rendering would be another file. execution_on: the day
    the bank shall pay. remittance: what the payee reads beside the payout id, such as program and period.
    decimal_comma: whether the PayPal account that uploads the file is of a country that writes 5,45.
    Raises PayoutFileError.
    """

    run_id: str
    created_at: datetime
    execution_on: date
    currency: str
    payer: Payer | None = None
    remittance: str = ""
    decimal_comma: bool = False

    def __post_init__(self) -> None:
        """Refuse what would make two renderings differ, or no file at all."""
        if not self.run_id or not self.run_id.isprintable():
            raise PayoutFileError("run_id: must be printable characters")
        if self.created_at.utcoffset() is None:
            raise PayoutFileError("created_at: must have a time zone")
        if self.currency not in EXPONENTS:
            raise PayoutFileError("currency: must be an ISO 4217 code such as EUR")


class Part(NamedTuple):
    """One file of a run: what its name ends with, its bytes, and the orders in it."""

    suffix: str
    content: bytes
    orders: Sequence[PaymentOrder]


def is_payout_id(text: str) -> bool:
    """1-35 of the SEPA character set, no slash at an end nor two together (EPC230-15), no space that a bank drops."""
    return (
        _PAYOUT_ID.fullmatch(text) is not None
        and not text.endswith(("/", " "))
        and "//" not in text
        and "  " not in text
    )


def order_error(affiliate_id: str, message: str) -> PayoutFileError:
    """An error that names the affiliate, and no bank detail."""
    return PayoutFileError(f"affiliate {affiliate_id}: {message}", affiliate_id=affiliate_id)


def check_orders(header: FileHeader, orders: Sequence[PaymentOrder], method: str) -> None:
    """One currency, one method, no payout twice. Raises PayoutFileError naming the affiliate."""
    kind = PAYEES.get(method)
    if kind is None:
        raise PayoutFileError(f"method: must be one of {', '.join(METHODS)}")
    seen: set[str] = set()
    for order in orders:
        if order.currency != header.currency:
            raise order_error(order.affiliate_id, f"the order is in {order.currency}, the file in {header.currency}")
        if type(order.payee) is not kind:
            raise order_error(order.affiliate_id, f"the payee is not of the method {method}")
        if order.payout_id in seen:
            raise order_error(order.affiliate_id, f"payout {order.payout_id} is in the file already")
        seen.add(order.payout_id)
