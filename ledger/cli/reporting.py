"""The verb that makes reports for auditors."""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from ledger.cli.common import Instant, major, print_json, print_table, program_option
from ledger.jobplan import load_plan
from ledger.reports import catalogue
from ledger.reports.report import Asked, Document, make
from ledger.service import open_service

WIDTH = 100  # columns of a report's head
NAME_WIDTH = 24  # of it for the names; a longer one moves its own value only


@click.command("report")
@click.argument("name", type=click.Choice(catalogue.NAMES))
@program_option
@click.option("--period", metavar="PERIOD", help="A closed period, or a month or week, such as 2026-03.")
@click.option("--from", "since", type=Instant(), help="Recorded (or due) at or after this instant.")
@click.option("--until", "--to", "until", type=Instant(), help="Recorded (or due) before this instant.")
@click.option("--offer", metavar="ID", help="channels: only of this offer.")
@click.option(
    "--days", type=int, help="late-entries: more days late than this; job-gaps: the last so many. 31 unless said."
)
@click.option("--format", "form", type=click.Choice(("text", "csv", "json")), default="text", show_default=True)
def report_verb(
    name: str,
    program: str,
    period: str | None,
    since: datetime | None,
    until: datetime | None,
    offer: str | None,
    days: int | None,
    form: str,
) -> int:
    """Make a report for auditors: NAME of completeness, maker-checker, access, duties, terms, late-entries, job-gaps;
    or of what each channel brought and cost: channels (by what occurred from --from on and before --until).

    Each has control totals, the position and the checkpoint that it stands on, and the rule by which its rows were
    found, which stands last as text. Exit code 1 if there is something to look into.
    """
    asked = Asked(period, since, until, days, offer)
    with open_service() as service:
        document = make(service.ledger, program, catalogue.find(name), asked, load_plan())
    if form == "json":
        print_json(document)
    elif form == "csv":
        for piece in catalogue.csv_pieces(document):
            click.echo(piece, nl=False)
    else:
        _print(document)
    return 1 if document.head.finding_count else 0


def _print(document: Document) -> None:
    """The head, the rows, and the rule last: it is the longest, and the same every time."""
    report = catalogue.find(document.head.report)
    totals = {
        name: _major(one) if name in report.money_totals else one for name, one in document.head.control_totals.items()
    }
    lines = catalogue.head_lines(replace(document.head, control_totals=totals), catalogue.readable)
    width = min(max(len(name) for name, _ in lines), NAME_WIDTH)
    for name, value in lines:
        if name != "rule":
            _paragraph(f"{name:{width}}  {value}", width + 2)
    click.echo()
    if report.in_words is not None:
        words = [report.in_words(row) for row in document.rows]
        headings = [heading for heading in (words[0] if words else ()) if any(one[heading] for one in words)]
        right = [n for n, heading in enumerate(headings) if heading not in ("channel", "affiliate", "currency")]
        print_table(headings, [[one[heading] for heading in headings] for one in words], right)
    else:
        columns = [c for c in document.columns if any(row[c] not in (None, "") for row in document.rows)]
        rows = [[_cell(column, row[column]) for column in columns] for row in document.rows]
        print_table([column.replace("_", " ") for column in columns], rows)
    click.echo()
    _paragraph(f"{'rule':{width}}  {document.head.rule}", width + 2)


def _paragraph(text: str, indent: int) -> None:
    broken = textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    click.echo(broken)


def _major(amounts: dict[str, int]) -> dict[str, str]:
    return {currency: major(amount, currency) for currency, amount in amounts.items()}


def _cell(column: str, value: Any) -> str:
    # what an event says is JSON for machines
    return catalogue.readable(msgspec.json.decode(value) if column == "says" else value)


COMMANDS = (report_verb,)
