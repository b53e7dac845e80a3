"""Reports for auditors, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ledger.reports.report import Head


class ReportListed(Struct):
    """A report that can be asked for. takes: which of period, from, until, days and offer it understands."""

    report: str
    rule: str
    takes: list[str]
    columns: list[str]


class Reports(Struct):
    """Every report."""

    items: list[ReportListed]


class ReportDocument(Struct):
    """A report. rows have the fields that columns names, in that order; amounts are minor units."""

    head: Head
    columns: list[str]
    rows: list[dict[str, Any]]
