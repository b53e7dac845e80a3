"""Periods, statements and a year's totals, as the OpenAPI document describes them. Amounts are minor units."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from api.documents.problems import Position
from ledger.domain.statement import Section
from ledger.presenting import Change
from ledger.projections.tax_totals import TaxTotal
from ledger.statements.document import StatementHead, StatementLine
from ledger.statements.presentation import OpenDispute


class PeriodListed(Struct):
    """A version of a closed period. starts_at: null for the first, which everything earlier belongs to as well;
    cut_position: the last position of the log that its statements know. closing: statements are being issued."""

    period: str
    version: int
    status: Literal["closing", "closed"]
    starts_at: datetime | None
    ends_at: datetime
    closed_at: datetime
    cut_position: Position
    statement_count: int
    line_count: int


class Periods(Struct):
    """A page of closed periods, newest first, every version."""

    items: list[PeriodListed]
    next: str | None


class PeriodTotal(Struct):
    """What all statements of a period add up to in a currency and bucket: above zero owed or paid. movement: closing
    less opening."""

    currency: str
    bucket: str
    opening: int
    movement: int
    closing: int


class PeriodDocument(PeriodListed):
    """A version of a closed period. late_count: lines of what happened before it began; digest: SHA-256 (hex) of the
    statements' hashes in the order of affiliate ids, each followed by a line feed; '' and no totals while closing."""

    late_count: int
    digest: str
    totals: list[PeriodTotal]
    position: Position


class StatementListed(Struct):
    """A version of a statement. hash: SHA-256 (hex) of its canonical JSON; sections: its figures by currency."""

    period: str
    version: int
    ends_at: datetime
    hash: str
    line_count: int
    sections: list[Section]
    position: Position


class Statements(Struct):
    """A page of an affiliate's statements, newest first, every version."""

    items: list[StatementListed]
    next: str | None


class CanonicalStatement(Struct):
    """What is hashed: RFC 8785 JSON, no spaces, keys in order."""

    head: StatementHead
    lines: list[StatementLine]


class StatementEnvelope(Struct):
    """A statement with its hash. statement: the canonical bytes, unchanged."""

    hash: str
    version: int
    open_disputes: list[OpenDispute]
    statement: CanonicalStatement


class StatementVersion(Struct):
    """A version and its hash."""

    version: int
    hash: str


class StatementDifference(Struct):
    """Two versions of a statement. before: null where there was none yet; changes: what it closes with otherwise;
    lines: those that were added, in their order (none is ever taken away)."""

    affiliate_id: str
    period: str
    before: StatementVersion | None
    after: StatementVersion
    changes: list[Change]
    lines: list[StatementLine]


class TaxYear(Struct):
    """What was paid to affiliates in a year, by the bank's booking days in the program's zone."""

    year: int
    zone: str
    items: list[TaxTotal]
