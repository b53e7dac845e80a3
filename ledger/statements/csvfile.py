"""A statement's lines as CSV (RFC 4180, UTF-8): one row a line, for machines and spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from ledger.domain.money import major_units
from ledger.statements.document import StatementLine
from ledger.statements.presentation import Lines, Movements, Presentation, change_of_owed

COLUMNS = (
    "position",
    "line_no",
    "effective_at",
    "recorded_at",
    "late",
    "event",
    "reference",
    "source",
    "target",
    "currency",
    "amount",
    "owed_change",
)
_ROWS = 500
# What makes a spreadsheet read a cell as a formula (OWASP, CSV injection), full-width twins included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# … and what makes a second cell of it where cells are split at semicolons.
_SECOND_CELL = re.compile(r";(?=\s*[=+\-@＝＋－＠])")


def harmless(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula."""
    text = _SECOND_CELL.sub(",", text)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _row(line: StatementLine) -> tuple[object, ...]:
    """Amounts are decimal major units with a point; times are UTC."""
    owed_change = change_of_owed(line.source, line.target, line.amount)
    return (
        line.position,
        line.line_no,
        _utc(line.effective_at),
        _utc(line.recorded_at),
        "true" if line.late else "false",
        harmless(line.event),
        harmless(line.reference),
        harmless(line.source),
        harmless(line.target),
        line.currency,
        major_units(line.amount, line.currency),
        major_units(owed_change, line.currency),
    )


def render_csv(presentation: Presentation, lines: Lines) -> Iterator[bytes]:
    """The file in pieces. Raises StatementMismatch before the last piece, so that a wrong file never looks whole."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    moved = Movements()
    for number, line in enumerate(moved.passing(lines()), 1):
        writer.writerow(_row(line))
        if number % _ROWS == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    moved.check(presentation.head)
    yield buffer.getvalue().encode()
