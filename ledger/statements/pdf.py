"""A statement as PDF/A-2a and PDF/UA-1 by typst: its own fonts, the data as JSON, the same bytes each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import structs

from ledger.statements.content import Column, Content, PrintedLine, content, printed_lines, summed_lines
from ledger.statements.presentation import Lines, Movements, Presentation, movements
from ledger.statements.words import plural, word

# 45 pages, 1.5 s and 260 MB in the typesetter. Above it nobody reads lines on paper: they are summed by day and kind,
# and the CSV file has each of them.
LINES_MOST = 2_000
LIMIT_SECONDS = 120
_PIECE = 64 * 1024
_TYPESETTER = Path(__file__).with_name("typesetting.py")


class TypesettingFailed(RuntimeError):
    """The typesetter ended without a PDF. Only the kind of its error is told: its words may quote the statement."""


class _Document(Content, frozen=True, kw_only=True):
    """What the template reads."""

    page: str
    printed: list[PrintedLine]


def _document(presentation: Presentation, moved: Movements, lines: Lines) -> _Document:
    text = content(presentation, moved)
    language, head, table = text.language, presentation.head, text.lines
    if moved.line_count <= LINES_MOST:
        printed = list(printed_lines(head, lines, language))
    else:
        title, printed = summed_lines(head, lines, language, LINES_MOST)
        count, reference = Column(word("count", language), True), word("reference", language)
        columns = [count, *(column for column in table.columns[1:] if column.label != reference)]
        note = word("too_many", language, lines=plural("lines", moved.line_count, language))
        note += " " + word("signs_note", language)
        table = structs.replace(table, title=word(title, language), columns=columns, note=note)
    fields = {name: getattr(text, name) for name in text.__struct_fields__} | {"lines": table}
    return _Document(**fields, page=word("page", language), printed=printed)


def _typeset(data: bytes, timestamp: int) -> bytes:
    """-I: the typesetter imports nothing of ours, and no variable of the environment changes what it does."""
    command = [sys.executable, "-I", str(_TYPESETTER), str(timestamp)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=LIMIT_SECONDS, check=False)
    if done.returncode:
        kind = done.stderr.decode(errors="replace").strip().rpartition("\n")[2].partition(":")[0]
        raise TypesettingFailed(f"the typesetter ended with code {done.returncode} ({kind[:60]})")
    return done.stdout


def render_pdf(presentation: Presentation, lines: Lines) -> Iterator[bytes]:
    """The file in pieces; asks for the lines twice. Its date is the end of the period, never the clock.

    Raises StatementMismatch, TypesettingFailed or subprocess.TimeoutExpired before the first piece.
    """
    moved = movements(presentation, lines)
    data = msgspec.json.encode(_document(presentation, moved, lines))
    made = _typeset(data, int(presentation.head.ends_at.timestamp()))
    for start in range(0, len(made), _PIECE):
        yield made[start : start + _PIECE]
