"""A statement as one self-contained HTML page: no script, nothing loaded from elsewhere, everything escaped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from html import escape
from importlib.resources import files

from ledger.statements.content import Content, Table, content, printed_lines
from ledger.statements.presentation import Lines, Presentation, movements

_ROWS = 200
# A second wall behind the escaping: even if markup slipped through, nothing could run, load or be sent.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"


@lru_cache
def _css() -> str:
    return (files("ledger.statements") / "templates" / "statement.css").read_text(encoding="utf-8")


def _e(text: str) -> str:
    """Escaped for text and for quoted attributes."""
    return escape(text, quote=True)


def _classes(*names: str) -> str:
    joined = " ".join(name for name in names if name)
    return f' class="{joined}"' if joined else ""


def _head_row(table: Table) -> str:
    cells = (f'<th scope="col"{_classes("n" if c.numeric else "")}>{_e(c.label)}</th>' for c in table.columns)
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _table(table: Table, *, look: str = "", alert: bool = False) -> str:
    """A table that scrolls sideways by itself on a narrow screen; look: its class; alert: its note is a warning."""
    parts = []
    if table.rows:
        parts.append(
            f'<div class="scroll" role="region" tabindex="0" aria-label="{_e(table.title)}"><table{_classes(look)}>'
        )
        parts.append(f"<caption>{_e(table.title)}</caption>{_head_row(table)}<tbody>")
        for row in table.rows:
            first, *rest = row.cells
            cells = [f'<th scope="row">{_e(first)}</th>']
            for column, cell in zip(table.columns[1:], rest, strict=True):
                kind = "n" if column.numeric else "ref" if column.long else "nb"
                cells.append(f'<td class="{kind}">{_e(cell)}</td>')
            parts.append(f"<tr{_classes('s' if row.strong else '')}>{''.join(cells)}</tr>")
        parts.append("</tbody></table></div>")
    if table.note:
        parts.append(f'<p class="{"alert" if alert else "note"}">{_e(table.note)}</p>')
    return "".join(parts)


def _titled(table: Table) -> str:
    """A table under a heading of its own, which then needs no visible caption twice."""
    return f"<section><h2>{_e(table.title)}</h2>{_table(table).replace('<caption>', '<caption hidden>')}</section>"


def _before_lines(page: Content) -> str:
    parts = [
        f'<!DOCTYPE html>\n<html lang="{page.language}"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_e(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_e(page.title)} · {_e(page.affiliate)} · {_e(page.subtitle)}</title>",
        f"<style>{_css()}</style></head><body>",
        f"<header><h1>{_e(page.title)} · {_e(page.subtitle)}</h1><p>{_e(page.program)}</p></header><main><dl>",
        *(f"<dt>{_e(label)}</dt><dd>{_e(value)}</dd>" for label, value in page.facts),
        "</dl>",
        _titled(page.overview),
        *(_table(section, look="roll", alert=True) for section in page.sections),
        _titled(page.disputes) if page.disputes else "",
        _titled(page.payouts),
    ]
    if page.years:
        parts.append(f"<section><h2>{_e(page.year_title)}</h2>")
        parts += (f'<div class="year">{year.svg}<div>{_table(year.table)}</div></div>' for year in page.years)
        parts.append("</section>")
    parts.append(f'<section><h2>{_e(page.lines.title)}</h2><p class="note">{_e(page.lines.note)}</p>')
    return "\n".join(parts)


def _lines(page: Content, presentation: Presentation, lines: Lines) -> Iterator[str]:
    """The table of lines in pieces. Roles are spelled out: the phone's layout makes browsers forget a table's."""
    yield f'<table class="lines" role="table"><caption hidden>{_e(page.lines.title)}</caption>'
    yield f"{_head_row(page.lines)}<tbody>"
    rows: list[str] = []
    for line in printed_lines(presentation.head, lines, page.language):
        late = f' <span class="late">{_e(line.late)}</span>' if line.late else ""
        rows.append(
            f'<tr role="row"><th scope="row" role="rowheader" class="id">{_e(line.name)}</th>'
            f'<td role="cell" class="date nb">{_e(line.date)}</td>'
            f'<td role="cell" class="what">{_e(line.what)}{late}</td>'
            f'<td role="cell" class="ref">{_e(line.reference)}</td><td role="cell" class="path">{_e(line.path)}</td>'
            f'<td role="cell" class="n">{_e(line.amount)}</td></tr>\n'
        )
        if len(rows) == _ROWS:
            yield "".join(rows)
            rows.clear()
    yield "".join(rows) + "</tbody></table>"


def render_html(presentation: Presentation, lines: Lines) -> Iterator[bytes]:
    """The page in pieces; asks for the lines twice. Raises StatementMismatch before the first piece."""
    moved = movements(presentation, lines)
    page = content(presentation, moved)
    yield _before_lines(page).encode()
    if moved.line_count:
        for piece in _lines(page, presentation, lines):
            yield piece.encode()
    end = (
        f"</section><section><h2>{_e(page.check_title)}</h2><p>SHA-256: <code>{_e(page.hash)}</code></p>"
        f"<p>{_e(page.check_how)}</p></section></main></body></html>\n"
    )
    yield end.encode()
