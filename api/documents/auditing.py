"""Registers for auditors, as the OpenAPI document describes them. Amounts are minor units."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from msgspec import Struct

from api.documents.problems import Position
from ledger.projections.invoices import Span


class InvoiceDocument(Struct):
    """A self-billing invoice, or a credit note that cancels one (cancels: its number). amount: the commission, net;
    amount, vat_amount and withholding_amount are below zero on a credit note. sequence: from 1 in each year; missing:
    no payout has the number."""

    number: str
    sequence: int
    kind: Literal["invoice", "credit_note", "missing"]
    payout_id: str
    affiliate_id: str
    currency: str
    amount: int
    vat_amount: int
    withholding_amount: int
    cancels: str
    issued_on: date
    position: Position


class Invoices(Struct):
    """A page of a year's invoices and credit notes, in the order of numbers. last_number: how far the whole year has
    come; gaps: numbers up to it that nothing took, none unless somebody tampered."""

    year: int
    last_number: int
    gaps: list[Span]
    items: list[InvoiceDocument]
    next: str | None


class DecisionDocument(Struct):
    """What one person proposed and another decided. record_id: '' for the program's tax rules; version: of a payout
    method, tax rules or terms. same_person: whether one person did both, which the ledger refuses."""

    position: Position
    kind: Literal["adjustment", "dispute", "erasure", "payout_method", "payout_run", "simulation", "tax_rules", "terms"]
    record_id: str
    version: int | None
    decision: Literal["approved", "rejected"]
    proposed_by: str
    proposed_at: datetime
    proposed_position: Position
    decided_by: str
    decided_at: datetime
    same_person: bool


class Decisions(Struct):
    """A page of decisions, in the order of the log."""

    items: list[DecisionDocument]
    next: str | None
