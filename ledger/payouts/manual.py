"""Payouts that a person makes by hand: one CSV list that says whom, how much, how, and under which reference."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import cast

from ledger.domain.money import major_units
from ledger.payouts.orders import FileHeader, ManualPayee, Part, PaymentOrder
from ledger.payouts.text import cell

COLUMNS = ("payout_id", "affiliate_id", "amount", "currency", "execution_on", "instructions", "remittance")


def render(header: FileHeader, orders: Sequence[PaymentOrder]) -> list[Part]:
    """One file, manual.csv."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    remittance = cell(header.remittance)
    for order in orders:
        writer.writerow(
            (
                order.payout_id,
                cell(order.affiliate_id),
                major_units(order.amount, order.currency),
                order.currency,
                header.execution_on.isoformat(),
                cell(cast(ManualPayee, order.payee).instructions),
                remittance,
            )
        )
    return [Part("manual.csv", out.getvalue().encode(), orders)]
