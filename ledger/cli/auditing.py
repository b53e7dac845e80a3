"""Verbs that print registers: a year's invoice numbers, and who decided what."""

from __future__ import annotations

import click

from ledger.cli.common import json_option, local_day, major, print_json, print_table, program_option
from ledger.projections import decisions as trails
from ledger.projections import invoices as papers
from ledger.projections import programs
from ledger.service import open_service
from ledger.store.log import last_position

PAGE = 1000


@click.command()
@click.argument("year", type=int)
@program_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; amounts in major units.")
def invoices(year: int, program: str, as_json: bool, as_csv: bool) -> int:
    """List YEAR's self-billing invoices and credit notes by number. Exit code 1 if a number is missing."""
    if as_json and as_csv:
        raise click.UsageError("give either --json or --csv")
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        events = papers.series(cur, id_, year)
        found = list(papers.register(cur, id_, events, programs.state(cur, id_, program).zone))
    last, gaps = papers.last_number(events), papers.gaps(events)
    missing = [f"{gap.first} to {gap.last}" for gap in gaps] + [one.number for one in found if one.kind == "missing"]
    if as_json:
        print_json({"year": year, "last_number": last, "gaps": gaps, "items": found})
    elif as_csv:
        for line in papers.csv_file(found):
            click.echo(line, nl=False)
    elif not last:
        click.echo(f"{year} has no numbers yet")
    else:
        table = [
            (
                one.number,
                one.kind.replace("_", " "),
                one.issued_on.isoformat(),
                one.payout_id,
                one.affiliate_id,
                one.currency,
                *(
                    major(amount, one.currency) if one.currency else "-"
                    for amount in (one.amount, one.vat_amount, one.withholding_amount)
                ),
                one.cancels or "-",
            )
            for one in found
        ]
        headings = ("number", "kind", "day", "payout", "affiliate", "", "net", "VAT", "withheld", "cancels")
        print_table(headings, table, right=(6, 7, 8))
        click.echo(f"numbers 1 to {last:,}, " + (f"MISSING: {', '.join(missing)}" if missing else "no gap"))
    return 1 if missing else 0


@click.command()
@program_option
@json_option
def decisions(program: str, as_json: bool) -> int:
    """List what one person proposed and another decided, with both names. Exit code 1 if it was one person."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        zone = programs.state(cur, id_, program).zone
        found: list[trails.Trail] = []
        while some := trails.page(cur, id_, found[-1].position if found else 0, PAGE):
            found += some
    alike = sum(one.same_person for one in found)
    if as_json:
        print_json([one.document() for one in found])
        return 1 if alike else 0
    table = [
        (
            f"{one.position:,}",
            one.kind.replace("_", " "),
            one.record_id + (f" version {one.version}" if one.version is not None else ""),
            one.decision,
            one.proposed_by,
            local_day(one.proposed_at, zone),
            one.decided_by or "",
            local_day(one.decided_at, zone) if one.decided_at else "",
            "YES" if one.same_person else "no",
        )
        for one in found
    ]
    headings = ("position", "what", "which", "decision", "proposed by", "on", "decided by", "on", "same person")
    print_table(headings, table, right=(0,))
    said = f"{alike:,} by the person who proposed them" if alike else "none by the person who proposed it"
    click.echo(f"{len(found):,} decisions, {said}")
    return 1 if alike else 0


COMMANDS = (invoices, decisions)
