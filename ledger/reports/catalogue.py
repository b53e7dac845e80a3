"""Which reports there are, and a report as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from ledger.domain.errors import NotFound
from ledger.reports import channels, completeness, job_gaps, keys, late_entries, maker_checker, terms
from ledger.reports.report import Document, Head, Report
from ledger.statements.csvfile import harmless

REPORTS: dict[str, Report] = {
    report.name: report
    for report in (
        completeness.REPORT, maker_checker.REPORT, keys.ACCESS, keys.DUTY_CONFLICTS, terms.REPORT, late_entries.REPORT,
        job_gaps.REPORT, channels.REPORT,
    )
}  # fmt: skip
NAMES = tuple(REPORTS)


def find(name: str) -> Report:
    """A report by its name. Raises NotFound."""
    report = REPORTS.get(name)
    if report is None:
        raise NotFound(f"there is no report {name}; there are {', '.join(NAMES)}")
    return report


def said(value: Any) -> str:
    """A value as a reader sees it: instants in UTC, lists and objects as JSON, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else str(value)


def readable(value: Any) -> str:
    """The same for a terminal: of an object its names and values, of a list one element after another."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_nested(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(readable(one) for one in value) or "none"
    return said(value)


def _nested(value: Any) -> str:
    if value is None:
        return "-"
    return f"({readable(value)})" if isinstance(value, dict | list) else said(value)


def head_lines(head: Head, said: Callable[[Any], str] = said) -> list[tuple[str, str]]:
    """A report's head, line by line. said: how a value is written."""
    checkpoint = "none: the books were never sealed"
    if head.checkpoint is not None:
        seen = head.checkpoint
        checkpoint = f"size {seen.size}, root {seen.root}, sealed {said(seen.sealed_at)}"
    as_of = f"position {head.as_of_position}" + (f", recorded {said(head.as_of)}" if head.as_of else "")
    return [
        ("report", head.report),
        ("program", head.program),
        ("parameters", "; ".join(f"{name} {said(value)}" for name, value in head.parameters.items()) or "none"),
        ("rule", head.rule),
        ("code version", head.code_version),
        ("generated at", said(head.generated_at)),
        ("as of", as_of),
        ("rows", str(head.row_count)),
        ("to look into", str(head.finding_count)),
        *((f"total: {name.replace('_', ' ')}", said(value)) for name, value in head.control_totals.items()),
        ("checkpoint", checkpoint),
    ]


def csv_pieces(document: Document) -> Iterator[str]:
    """A report as CSV (RFC 4180): its head, a line each in two cells, an empty line, then columns and rows."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    for name, value in head_lines(document.head):
        writer.writerow((name, harmless(value)))
    writer.writerow(())
    writer.writerow(document.columns)
    for number, row in enumerate(document.rows, 1):
        writer.writerow([_cell(row[column]) for column in document.columns])
        if number % 500 == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cell(value: Any) -> object:
    """Numbers stay numbers: a minus before one makes no formula of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return harmless(said(value))
