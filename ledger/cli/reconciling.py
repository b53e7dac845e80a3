"""Verbs that compare: the merchant's export with the books, and what becomes of the differences."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ledger import reads
from ledger.cli.common import (
    Instant,
    Ticker,
    json_option,
    major,
    meta,
    note,
    operator,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.domain.breaks import ALL_TYPES, CAUSES, PERSONS_RESOLUTIONS, STATUSES, AssignBreak, ResolveBreak, key
from ledger.domain.errors import NotFound
from ledger.imports.mapping import load_mapping
from ledger.imports.reconcile import Report, Settings, reconcile_orders
from ledger.projections import breaks as listing
from ledger.service import Service, open_service
from ledger.store.log import last_position


@click.group()
def reconcile() -> None:
    """Compare the books with what others say; every difference becomes a break."""


@reconcile.command("orders")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@program_option
@click.option(
    "--mapping",
    "mapping_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the file calls its columns, as in examples/online-retail.toml.",
)
@click.option(
    "--from", "since", type=Instant(), metavar="INSTANT", help="Compare from here; else the file's first line."
)
@click.option("--to", "until", type=Instant(), metavar="INSTANT", help="… to before here; else past its last line.")
@click.option("--dry-run", is_flag=True, help="Only show the differences: open and resolve no breaks.")
@operator_option
@json_option
def reconcile_orders_verb(
    file: Path,
    program: str,
    mapping_file: Path,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Compare the merchant's export FILE (CSV, plain or gzip) with the recorded conversions.

    Nothing is imported. Each difference becomes a break; breaks of earlier runs that are gone are resolved as vanished.
    The same again changes nothing; interrupted, the same command finds the rest.
    """
    settings = Settings(program, file, load_mapping(mapping_file), operator(by), since, until, not dry_run)
    with open_service() as service, Ticker() as ticker:
        report = reconcile_orders(service.ledger, settings, ticker.say)
    if as_json:
        print_json(report)
        return
    _print_report(report, dry_run)


def _print_report(report: Report, dry_run: bool) -> None:
    click.echo(
        f"{report.orders_there:,} orders in the file, {report.orders_here:,} in the books,"
        f" from {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    )
    if report.differences:
        rows = [
            (
                one.type,
                f"{one.count:,}",
                major(one.expected, one.currency),
                major(one.found, one.currency),
                one.currency,
            )
            for one in report.differences
        ]
        print_table(("difference", "count", "books", "file", ""), rows, right=(1, 2, 3))
        for one in report.differences:
            for first in one.first:
                click.echo(f"  {first.detail()}")
            if one.count > len(one.first):
                click.echo(f"  … {one.count - len(one.first):,} more of {one.type}")
    else:
        click.echo("no differences")
    if report.known:
        note(f"{report.known:,} more are kept as exceptions already")
    if not dry_run:
        click.echo(f"breaks: {report.opened:,} opened or changed, {report.vanished:,} vanished")


@click.command("breaks")
@program_option
@click.option("--status", type=click.Choice(STATUSES), default="open", show_default=True, help="Which ones.")
@click.option("--type", "type_", type=click.Choice(ALL_TYPES), help="Only those of a type.")
@json_option
def breaks(program: str, status: str, type_: str | None, as_json: bool) -> None:
    """List breaks, oldest first, with age and owner; and how old what is open has become."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        now = service.ledger.clock()
        found = [one.document() for one in listing.every(cur, id_, now, status, type_)]
        ageing = listing.ageing(cur, id_, now)
    if as_json:
        print_json({"items": found, "ageing": ageing})
        return
    _print_breaks(found, status)
    if status == "open" and ageing:
        click.echo("")
        _print_ageing(ageing)


def _print_breaks(found: list[dict[str, Any]], status: str) -> None:
    """What was settled also says how, why and by whom."""
    settled = ("resolution", "cause", "resolved_by") if status == "resolved" else ()
    rows = [
        (
            one["break_id"],
            f"{one['age_days']}",
            one["owner"] or "-",
            # a bank line that names no payout refers to itself
            "-" if re.fullmatch(r"[0-9a-f]{40}|", one["reference"]) else one["reference"],
            *("-" if one[n] is None else major(one[n], one["currency"]) for n in ("expected_amount", "found_amount")),
            one["currency"],
            *(one[name] for name in settled),
            one["detail"],
        )
        for one in found
    ]
    headings = (
        "break",
        "days",
        "owner",
        "payout or order",
        "expected",
        "found",
        "",
        *(n.replace("_", " ") for n in settled),
    )
    print_table((*headings, "what"), rows, right=(1, 4, 5))


def _whole_id(service: Service, program: str, given: str) -> str:
    """A break's id from its beginning. Raises NotFound, and click.UsageError for the beginning of several."""
    with reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        if look.record(key(given)) is not None:
            return given
        found = [one.record_id for one in look.records("break", given, 2) if one.record_id.startswith(given)]
    if not found:
        raise NotFound(f"break {given} does not exist")
    if len(found) > 1:
        raise click.UsageError(f"several breaks begin with {given}, such as {' and '.join(found)}: give more of the id")
    return found[0]


def _print_ageing(ageing: list[dict[str, Any]]) -> None:
    """A row a source, type and currency; a column an age, each count with its sum."""
    ages = [name for name, _ in listing.BUCKETS]
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in ageing:
        amount = f" ({major(row['amount'], row['currency'])})" if row["currency"] else ""
        where = (row["source"], row["type"], row["currency"])
        cells.setdefault(where, {})[row["age"]] = f"{row['count']:,}{amount}"
    table = [(*where, *(by_age.get(age, "-") for age in ages)) for where, by_age in cells.items()]
    print_table(("source", "type", "", *(f"{age} days" for age in ages)), table, right=range(3, 7))


@click.group("break")
def break_() -> None:
    """Assign and resolve breaks."""


@break_.command("assign")
@click.argument("break_id")
@click.argument("owner")
@program_option
@operator_option
def break_assign(break_id: str, owner: str, program: str, by: str | None) -> None:
    """Make OWNER, a staff id, look after BREAK_ID (or a beginning that only one has)."""
    with open_service() as service:
        break_id = _whole_id(service, program, break_id)
        service.ledger.execute(program, AssignBreak(break_id=break_id, owner=owner), meta(by))
    click.echo(f"break {break_id} belongs to {owner}")


@break_.command("resolve")
@click.argument("break_id")
@program_option
@click.option("--as", "resolution", type=click.Choice(PERSONS_RESOLUTIONS), required=True, help="What became of it.")
@click.option("--cause", type=click.Choice(CAUSES), required=True, help="Where it came from.")
@click.option("--reason", required=True, help="Why, in your words; stored encrypted.")
@operator_option
def break_resolve(break_id: str, program: str, resolution: str, cause: str, reason: str, by: str | None) -> None:
    """Settle BREAK_ID (or a beginning that only one has).

    Found again, it is opened again, unless exactly this difference was accepted."""
    with open_service() as service:
        break_id = _whole_id(service, program, break_id)
        command = ResolveBreak(break_id=break_id, resolution=resolution, cause=cause, reason=reason)
        service.ledger.execute(program, command, meta(by))
    click.echo(f"break {break_id} is resolved: {resolution}")


COMMANDS = (reconcile, breaks, break_)
