"""Wise batch payments: CSV files with a header row, at most 1,000 payments each.

Three templates, each in files of its own: to an IBAN, to an Australian account, and by e-mail, where Wise asks the
payee for the account. Source: wise.com/help, "How do I fill in my batch template?" (columns; amountCurrency 'target':
the payee receives the exact amount, the fee is ours) and wise.com, "Everything you need to know about the batch
payments tool" (1,000 transfers a file). The payout id is the payment reference.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import cast

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.money import major_units
from ledger.payouts.orders import FileHeader, Part, PaymentOrder, WisePayee, order_error
from ledger.payouts.payees import check_details
from ledger.payouts.text import cell

ROWS_MAX = 1_000
COLUMNS = (
    "name", "recipientEmail", "paymentReference", "receiverType",
    "amountCurrency", "amount", "sourceCurrency", "targetCurrency",
)  # fmt: skip
TEMPLATES: dict[str, tuple[str, ...]] = {"iban": ("IBAN",), "bsb": ("bsbCode", "accountNumber"), "email": ()}


def render(header: FileHeader, orders: Sequence[PaymentOrder]) -> list[Part]:
    """The files wise-iban-1.csv, wise-bsb-1.csv, wise-email-1.csv … Raises PayoutFileError naming the affiliate."""
    by_template: dict[str, list[tuple[PaymentOrder, list[str]]]] = {name: [] for name in TEMPLATES}
    for order in orders:
        template, row = _row(order)
        by_template[template].append((order, row))
    parts = []
    for name, pairs in by_template.items():
        for number, start in enumerate(range(0, len(pairs), ROWS_MAX), 1):
            chunk = pairs[start : start + ROWS_MAX]
            out = StringIO()
            writer = csv.writer(out, lineterminator="\r\n")
            writer.writerow(COLUMNS + TEMPLATES[name])
            writer.writerows(row for _, row in chunk)
            parts.append(Part(f"wise-{name}-{number}.csv", out.getvalue().encode(), [order for order, _ in chunk]))
    return parts


def _row(order: PaymentOrder) -> tuple[str, list[str]]:
    details = msgspec.structs.asdict(cast(WisePayee, order.payee))
    try:
        found = check_details("wise", details, order.currency)
    except InvalidInput as wrong:
        raise order_error(order.affiliate_id, wrong.message) from None
    amount = major_units(order.amount, order.currency)
    row = [
        cell(found["name"]), found.get("email", ""), order.payout_id, found["receiver_type"],
        "target", amount, order.currency, order.currency,
    ]  # fmt: skip
    if "iban" in found:
        return "iban", [*row, found["iban"]]
    if "bsb_code" in found:
        return "bsb", [*row, found["bsb_code"], found["account_number"]]
    return "email", row
