"""The verb that makes reports for auditors."""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import Any

import click
import msgspec

from ledger.cli.common import Instant, print_json, print_table, program_option
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

    Each begins with the rule by which its rows were found, control totals, the position and the checkpoint that it
    stands on. Exit code 1 if there is something to look into.
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
    lines = catalogue.head_lines(document.head, catalogue.readable)
    width = min(max(len(name) for name, _ in lines), NAME_WIDTH)
    for name, value in lines:
        text, indent = f"{name:{width}}  {value}", " " * (width + 2)
        click.echo(textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))
    click.echo()
    columns = [column for column in document.columns if any(row[column] not in (None, "") for row in document.rows)]
    rows = [[_cell(column, row[column]) for column in columns] for row in document.rows]
    print_table([column.replace("_", " ") for column in columns], rows)


def _cell(column: str, value: Any) -> str:
    # what an event says is JSON for machines
    return catalogue.readable(msgspec.json.decode(value) if column == "says" else value)


COMMANDS = (report_verb,)
