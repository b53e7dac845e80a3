"""SEPA credit transfers: a pain.001.001.09 file. The same orders always make the same bytes.

Written by hand, since the library at hand puts the clock and a random message id in the file, and doubles its transfers
when it is exported again. Source of the rules: ISO 20022 pain.001.001.09 and EPC132-08, the customer-to-PSP guidelines.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import cast
from xml.sax.saxutils import escape

from ledger.domain.errors import InvalidInput
from ledger.domain.money import major_units
from ledger.payouts.orders import FileHeader, Part, Payer, PaymentOrder, PayoutFileError, SepaPayee, order_error
from ledger.payouts.payees import check_details
from ledger.payouts.text import identifier, latin

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
AMOUNT_MAX = 99_999_999_999  # EPC132-08, AT-T002: 0.01 to 999,999,999.99 euro
NAME_MAX, REMITTANCE_MAX = 70, 140


def render(header: FileHeader, orders: Sequence[PaymentOrder]) -> list[Part]:
    """One file of one payment information block. Raises PayoutFileError naming the affiliate, if it is one's order.

    BtchBookg is false: the bank then books each transfer on a line of its own, which reconciliation can match.
    """
    if header.currency != "EUR":
        raise PayoutFileError("currency: must be EUR for SEPA")
    if header.payer is None:
        raise PayoutFileError("payer: must be given for SEPA")
    message_id = identifier(header.run_id, 33)
    totals = f"<NbOfTxs>{len(orders)}</NbOfTxs><CtrlSum>{_euro(sum(o.amount for o in orders))}</CtrlSum>"
    created = header.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    payer = _payer(header.payer)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<Document xmlns="{NAMESPACE}"><CstmrCdtTrfInitn>',
        f"<GrpHdr><MsgId>{message_id}</MsgId><CreDtTm>{created}</CreDtTm>{totals}"
        f"<InitgPty><Nm>{payer['name']}</Nm></InitgPty></GrpHdr>",
        f"<PmtInf><PmtInfId>{message_id}-1</PmtInfId><PmtMtd>TRF</PmtMtd><BtchBookg>false</BtchBookg>{totals}"
        f"<PmtTpInf><SvcLvl><Cd>SEPA</Cd></SvcLvl></PmtTpInf>"
        f"<ReqdExctnDt><Dt>{header.execution_on.isoformat()}</Dt></ReqdExctnDt>"
        f"<Dbtr><Nm>{payer['name']}</Nm></Dbtr><DbtrAcct><Id><IBAN>{payer['iban']}</IBAN></Id></DbtrAcct>"
        f"<DbtrAgt><FinInstnId>{payer['agent']}</FinInstnId></DbtrAgt><ChrgBr>SLEV</ChrgBr>",
    ]
    lines += [_transfer(header, order) for order in orders]
    lines.append("</PmtInf></CstmrCdtTrfInitn></Document>\n")
    return [Part("sepa.xml", "\n".join(lines).encode(), orders)]


def _payer(payer: Payer) -> dict[str, str]:
    try:
        found = check_details("sepa", {"name": payer.name, "iban": payer.iban, "bic": payer.bic}, "EUR")
    except InvalidInput as wrong:
        raise PayoutFileError(f"payer: {wrong.message}") from None
    # The debtor's agent must be there; the creditor's is left out when nobody knows it.
    agent = f"<BICFI>{found['bic']}</BICFI>" if "bic" in found else "<Othr><Id>NOTPROVIDED</Id></Othr>"
    return {"name": _text(found["name"], NAME_MAX), "iban": found["iban"], "agent": agent}


def _transfer(header: FileHeader, order: PaymentOrder) -> str:
    payee = cast(SepaPayee, order.payee)
    if order.amount > AMOUNT_MAX:
        raise order_error(order.affiliate_id, "a SEPA transfer is at most 999999999.99 EUR")
    try:
        found = check_details("sepa", {"name": payee.name, "iban": payee.iban, "bic": payee.bic}, order.currency)
    except InvalidInput as wrong:
        raise order_error(order.affiliate_id, wrong.message) from None
    bic = found.get("bic")
    remittance = _text(f"{order.payout_id} {header.remittance}", REMITTANCE_MAX)
    agent = f"<CdtrAgt><FinInstnId><BICFI>{bic}</BICFI></FinInstnId></CdtrAgt>" if bic else ""
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{escape(order.payout_id)}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="EUR">{_euro(order.amount)}</InstdAmt></Amt>{agent}'
        f"<Cdtr><Nm>{_text(found['name'], NAME_MAX)}</Nm></Cdtr>"
        f"<CdtrAcct><Id><IBAN>{found['iban']}</IBAN></Id></CdtrAcct>"
        f"<RmtInf><Ustrd>{remittance}</Ustrd></RmtInf></CdtTrfTxInf>"
    )


def _text(text: str, limit: int) -> str:
    return escape(latin(text, limit))


def _euro(amount: int) -> str:
    return major_units(amount, "EUR")
