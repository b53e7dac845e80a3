"""One door to a statement's documents: a format's name to its bytes, its content type and its file name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct, structs

from ledger.statements.content import file_stem
from ledger.statements.csvfile import render_csv
from ledger.statements.document import canonical
from ledger.statements.html import render_html
from ledger.statements.pdf import render_pdf
from ledger.statements.presentation import Lines, Presentation
from ledger.statements.words import language_of
from ledger.statements.xlsx import render_xlsx


def render_json(presentation: Presentation, lines: Lines) -> Iterator[bytes]:
    """The canonical form itself: its SHA-256 is the statement's hash."""
    return canonical(presentation.head, lines())


class Format(Struct, frozen=True):
    """A document's media type (RFC 6838), and how it is made."""

    content_type: str
    render: Callable[[Presentation, Lines], Iterator[bytes]]


FORMATS: dict[str, Format] = {
    "json": Format("application/json", render_json),
    "csv": Format("text/csv; charset=utf-8; header=present", render_csv),
    "xlsx": Format("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", render_xlsx),
    "html": Format("text/html; charset=utf-8", render_html),
    "pdf": Format("application/pdf", render_pdf),
}


def _format(name: str) -> Format:
    try:
        return FORMATS[name]
    except KeyError:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}") from None


def content_type(format: str) -> str:
    """The media type of a format. Raises ValueError when there is no such format."""
    return _format(format).content_type


def file_name(presentation: Presentation, format: str) -> str:
    """'statement-shop-mila-2026-03-v1.pdf': letters, digits and '._-' only. Raises ValueError for an unknown format."""
    _format(format)
    return f"{file_stem(presentation.head)}.{format}"


def render(presentation: Presentation, lines: Lines, format: str, language: str | None = None) -> Iterator[bytes]:
    """The document in pieces; language overrides the presentation's.

    Raises ValueError at once for an unknown format. Raises StatementMismatch when the first piece is asked for (CSV:
    the last) and the lines do not lead from opening to closing.
    """
    made = _format(format)
    shown = structs.replace(presentation, language=language_of(language or presentation.language))
    return made.render(shown, lines)
