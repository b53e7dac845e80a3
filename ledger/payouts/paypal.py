"""PayPal mass payment: CSV files without a header row, at most 5,000 payments each, one currency.

Columns: recipient's e-mail, amount, currency, customer id (our payout id), note, wallet.
Source: docs.paypal.ai, "Send payouts using the web UI" (the customer id has at most 30 characters and no spaces, the
note at most 400; the decimal sign is the one of the country of the account that uploads, and PayPal checks it).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import cast

from ledger.domain.errors import InvalidInput
from ledger.domain.money import EXPONENTS, major_units
from ledger.payouts.orders import FileHeader, Part, PaymentOrder, PayPalPayee, order_error
from ledger.payouts.payees import PAYPAL_WHOLE, check_details
from ledger.payouts.text import cell

ROWS_MAX = 5_000
ID_MAX, NOTE_MAX = 30, 400


def render(header: FileHeader, orders: Sequence[PaymentOrder]) -> list[Part]:
    """The files paypal-1.csv, paypal-2.csv … Raises PayoutFileError naming the affiliate."""
    parts: list[Part] = []
    for start in range(0, len(orders), ROWS_MAX):
        chunk = orders[start : start + ROWS_MAX]
        out = StringIO()
        csv.writer(out, lineterminator="\r\n").writerows(_row(header, order) for order in chunk)
        parts.append(Part(f"paypal-{len(parts) + 1}.csv", out.getvalue().encode(), chunk))
    return parts


def _row(header: FileHeader, order: PaymentOrder) -> list[str]:
    if len(order.payout_id) > ID_MAX or " " in order.payout_id:
        raise order_error(order.affiliate_id, f"PayPal takes a payout_id of at most {ID_MAX} characters, no spaces")
    if order.currency in PAYPAL_WHOLE and order.amount % 10 ** EXPONENTS[order.currency]:
        raise order_error(order.affiliate_id, f"PayPal takes {order.currency} without decimals")
    try:
        email = check_details("paypal", {"email": cast(PayPalPayee, order.payee).email}, order.currency)["email"]
    except InvalidInput as wrong:
        raise order_error(order.affiliate_id, wrong.message) from None
    amount = major_units(order.amount, order.currency)
    if order.currency in PAYPAL_WHOLE:
        amount = amount.partition(".")[0]
    if header.decimal_comma:
        amount = amount.replace(".", ",")
    note = cell(f"{order.payout_id} {header.remittance}")[:NOTE_MAX]
    return [email, amount, order.currency, order.payout_id, note, "PAYPAL"]
