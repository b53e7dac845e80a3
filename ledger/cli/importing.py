"""Verbs that read files."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.common import Ticker, json_option, major, note, operator, operator_option, print_json, program_option
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings, import_orders
from ledger.imports.recording import Totals
from ledger.service import open_service
from ledger.store.log import currency_of


@click.group("import")
def import_() -> None:
    """Import a merchant's files."""


@import_.command("orders")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@program_option
@click.option("--offer", required=True, metavar="ID", help="The offer on whose terms the orders pay.")
@click.option(
    "--mapping",
    "mapping_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the file calls its columns, as in examples/online-retail.toml.",
)
@click.option("--enrol-affiliates", is_flag=True, help="Enrol and approve the affiliates that are not known yet.")
@operator_option
@json_option
def import_orders_verb(
    file: Path, program: str, offer: str, mapping_file: Path, enrol_affiliates: bool, by: str | None, as_json: bool
) -> None:
    """Import the orders and refunds of FILE (CSV, plain or gzip).

    A file with an error is refused whole, naming the line. The same file again changes nothing. Interrupted, the same
    command goes on where it stopped.
    """
    settings = Settings(program, offer, file, load_mapping(mapping_file), enrol_affiliates, operator(by))
    with open_service() as service:
        with service.ledger.reading(program) as (cur, id_):
            currency = settings.mapping.constants.currency or currency_of(cur, id_)
        with Ticker() as ticker:
            totals = import_orders(service.ledger, settings, ticker.say)
    if as_json:
        print_json(totals)
        return
    _print_totals(totals, currency)
    if totals.exceptions:
        note("exceptions are kept in the books: GET /v1/programs/{program}/exceptions lists them, with the lines")


def _print_totals(totals: Totals, currency: str) -> None:
    rows = [
        ("orders", totals.orders, "worth", totals.gross, "commission", totals.commission),
        ("reversals", totals.reversals, "worth", totals.reversed_amount, "taken back", totals.reversed_commission),
    ]
    counts = max(len(f"{row[1]:,}") for row in rows)
    worth = max(len(major(row[3], currency)) for row in rows)
    commission = max(len(major(row[5], currency)) for row in rows)
    for name, count, of, amount, what, part in rows:
        click.echo(
            f"{name:<10} {count:>{counts},}  {of} {major(amount, currency):>{worth}} {currency}"
            f"  {what:<10} {major(part, currency):>{commission}} {currency}"
        )
    for type_, count in sorted(totals.exceptions.items()):
        click.echo(f"exceptions {count:>{counts},}  {type_}")
    if not (totals.orders or totals.exceptions):
        click.echo("the file has no lines")
    elif totals.unchanged:
        click.echo("everything was recorded before: nothing changed")


COMMANDS = (import_,)
