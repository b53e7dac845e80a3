"""Verbs about money: approving what is due, balances, the trial balance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from ledger.application import Progress
from ledger.cli.common import (
    Instant,
    PositionOrInstant,
    Ticker,
    json_option,
    major,
    meta,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.projections import books
from ledger.service import open_service
from ledger.store.log import last_position


def _work_off(what: str, work: Iterator[Progress]) -> int:
    done = 0
    with Ticker(what) as ticker:
        for step in work:
            done = step.done
            ticker.show(done)
    return done


@click.command("approve-due")
@program_option
@click.option("--now", type=Instant(), required=True, metavar="INSTANT", help="What has matured by then is approved.")
@operator_option
def approve_due(program: str, now: datetime, by: str | None) -> None:
    """Approve every pending commission whose hold has ended. Safe to interrupt and to run again."""
    with open_service() as service:
        _exists(service.ledger, program)
        done = _work_off("approved", service.ledger.approve_due(program, now, meta(by)))
    click.echo(f"{done:,} commissions approved, as of {now:%Y-%m-%d %H:%M:%S} UTC")


@click.command("attribute-waiting")
@program_option
@click.option("--now", type=Instant(), required=True, metavar="INSTANT", help="Waits that end by then are decided.")
@operator_option
def attribute_waiting(program: str, now: datetime, by: str | None) -> None:
    """Try again to attribute the conversions that wait for their click. Safe to interrupt and to run again."""
    with open_service() as service:
        _exists(service.ledger, program)
        done = _work_off("attributed", service.ledger.attribute_waiting(program, now, meta(by)))
    click.echo(f"{done:,} conversions decided, as of {now:%Y-%m-%d %H:%M:%S} UTC")


def _exists(ledger: Any, program: str) -> None:
    with ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")


_as_of_option = click.option(
    "--as-of",
    type=PositionOrInstant(),
    metavar="POSITION|INSTANT",
    help="As the books stood then: after a position of the log, or at an instant.",
)
_effective_option = click.option(
    "--effective", type=Instant(), metavar="INSTANT", help="Count only what had happened before then."
)


@click.command()
@program_option
@_as_of_option
@_effective_option
@json_option
def balances(program: str, as_of: int | datetime | None, effective: datetime | None, as_json: bool) -> None:
    """Show what every affiliate is owed and was paid."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        point = books.AsOf(books.as_of_position(cur, id_, as_of), effective)
        rows = books.all_owed(books.account_balances(cur, id_, point))
    if as_json:
        print_json(rows)
        return
    print_balances(rows)


def print_balances(rows: list[dict[str, Any]], most: int | None = None, total: bool = True) -> None:
    """A table in major units, with a total a currency. most: only that many rows, of those owed most."""
    fields = books.BALANCE_FIELDS
    shown = sorted(rows, key=lambda r: -(r["pending"] + r["held"] + r["payable"]))[:most] if most else rows
    table = [(row["affiliate_id"], row["currency"], *(major(row[f], row["currency"]) for f in fields)) for row in shown]
    if len(shown) < len(rows):
        table.append((f"… {len(rows) - len(shown)} more", *[""] * 6))
    for currency in sorted({row["currency"] for row in rows}) if total else ():
        sums = (sum(row[f] for row in rows if row["currency"] == currency) for f in fields)
        table.append(("TOTAL", currency, *(major(s, currency) for s in sums)))
    print_table(("affiliate", "", *(f.replace("_", " ") for f in fields)), table, right=range(2, 7))


@click.command("trial-balance")
@click.option("--program", "-p", metavar="ID", help="Of this program; without it, of all programs together.")
@_as_of_option
@_effective_option
@json_option
def trial_balance(program: str | None, as_of: int | datetime | None, effective: datetime | None, as_json: bool) -> None:
    """Show every account. Debits are above zero, credits below, and each currency sums to zero."""
    with open_service() as service:
        totals: dict[tuple[str, str], int] = {}
        for name in [program] if program else _programs(service.pool):
            with service.ledger.reading(name) as (cur, id_):
                last_position(cur, id_, "books")
                point = books.AsOf(books.as_of_position(cur, id_, as_of), effective)
                for row in books.trial_balance(cur, id_, point):
                    account = (row["account"], row["currency"])
                    totals[account] = totals.get(account, 0) + row["amount"]
    rows = [{"account": a, "currency": c, "amount": totals[a, c]} for a, c in sorted(totals)]
    if as_json:
        print_json(rows)
        return
    print_trial_balance(rows)


def print_trial_balance(rows: list[dict[str, Any]]) -> None:
    """A table in major units with the sum a currency."""
    table = [(row["account"], row["currency"], major(row["amount"], row["currency"])) for row in rows]
    for currency in sorted({row["currency"] for row in rows}):
        total = sum(row["amount"] for row in rows if row["currency"] == currency)
        table.append(("SUM", currency, major(total, currency)))
    print_table(("account", "", "amount"), table, right=(2,))


def _programs(pool: Any) -> list[str]:
    with pool.connection() as conn:
        return [name for (name,) in conn.execute("SELECT program FROM programs ORDER BY program")]


COMMANDS = (approve_due, attribute_waiting, balances, trial_balance)
