"""Payment orders to be rendered, and a file as its reader sees it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import sepaxml
from lxml import etree

from ledger.payouts.orders import (
    FileHeader,
    Payee,
    Payer,
    PaymentOrder,
    SepaPayee,
)

IBANS = [
    "DE89370400440532013000", "FR1420041010050500013M02606", "NL91ABNA0417164300", "ES9121000418450200051332",
    "PT50000201231234567890154", "BE68539007547034", "AT611904300234573201", "IT60X0542811101000000123456",
]  # fmt: skip
PAYER = Payer(name="Shop GmbH & Söhne", iban="DE02120300000000202051", bic="BYLADEM1001")
HEADER = FileHeader(
    run_id="acme/2026-09/EUR/sepa/1",
    created_at=datetime(2026, 10, 1, 9, 30, 15, 123456, UTC),
    execution_on=date(2026, 10, 2),
    currency="EUR",
    payer=PAYER,
    remittance="Commission acme 2026-09",
)
NS = {"p": "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"}


def sepa_order(number: int, amount: int = 4990, **more: Any) -> PaymentOrder:
    payee = {"name": f"Affiliate {number}", "iban": IBANS[number % len(IBANS)], "bic": ""} | {
        k: more.pop(k) for k in ("name", "iban", "bic") if k in more
    }
    return order(number, SepaPayee(**payee), amount, **more)


def order(number: int, payee: Payee, amount: int = 4990, **more: Any) -> PaymentOrder:
    fields = {"payout_id": f"PO{number:05}", "affiliate_id": f"aff-{number}", "amount": amount, "currency": "EUR"}
    return PaymentOrder(**(fields | more), payee=payee)


@cache
def schema() -> etree.XMLSchema:
    """The official XSD, as the sepaxml package ships it."""
    return etree.XMLSchema(etree.parse(str(Path(sepaxml.__file__).parent / "schemas" / "pain.001.001.09.xsd")))


def transfers(content: bytes) -> list[dict[str, str]]:
    """A second reader, by another XML library than check's: what each transfer of a valid file says."""
    root = etree.fromstring(content)
    schema().assertValid(root)

    def text(node: Any, path: str) -> str:
        found = node.find("/".join(f"p:{step}" for step in path.split("/")), NS)
        return "" if found is None else found.text

    return [
        {
            "id": text(tx, "PmtId/EndToEndId"),
            "amount": text(tx, "Amt/InstdAmt"),
            "name": text(tx, "Cdtr/Nm"),
            "iban": text(tx, "CdtrAcct/Id/IBAN"),
            "bic": text(tx, "CdtrAgt/FinInstnId/BICFI"),
            "text": text(tx, "RmtInf/Ustrd"),
        }
        for tx in root.iterfind(".//p:CdtTrfTxInf", NS)
    ]
