"""The verb that makes reports for auditors."""

from __future__ import annotations

from datetime import datetime

import click

from ledger.cli.common import Instant, print_json, print_table, program_option
from ledger.jobplan import load_plan
from ledger.reports import catalogue
from ledger.reports.report import Asked, Document, make
from ledger.service import open_service


@click.command("report")
@click.argument("name", type=click.Choice(catalogue.NAMES))
@program_option
@click.option("--period", metavar="PERIOD", help="A closed period, or a month or week, such as 2026-03.")
@click.option("--from", "since", type=Instant(), help="Recorded (or due) at or after this instant.")
@click.option("--until", type=Instant(), help="Recorded (or due) before this instant.")
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
    days: int | None,
    form: str,
) -> int:
    """Make a report for auditors: NAME of completeness, maker-checker, access, duties, terms, late-entries, job-gaps.

    Each begins with the rule by which its rows were found, control totals, the position and the checkpoint that it
    stands on. Exit code 1 if there is something to look into.
    """
    asked = Asked(period, since, until, days)
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
    lines = catalogue.head_lines(document.head)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:{width}}  {value}")
    click.echo()
    columns = [column for column in document.columns if any(row[column] not in (None, "") for row in document.rows)]
    rows = [[catalogue.said(row[column]) for column in columns] for row in document.rows]
    print_table([column.replace("_", " ") for column in columns], rows)


COMMANDS = (report_verb,)
