"""The verb that reads what the bank says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from ledger import banking, reads
from ledger.banking import Imported
from ledger.cli.common import (
    Ticker,
    json_option,
    major,
    meta,
    note,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.cli.reconciling import reconcile
from ledger.domain import breaks
from ledger.domain.breaks import BreakState
from ledger.payouts import payees
from ledger.payouts.bank import BankStatement, Format, read_statement
from ledger.service import open_service
from ledger.store.log import last_position

OUTCOMES = ("settled", "confirmed", "returned", "fee", "break")


@reconcile.command("bank")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@program_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(get_args(Format)),
    default="auto",
    show_default=True,
    help="camt.053, MT940 or CSV.",
)
@click.option(
    "--mapping",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What a CSV's columns mean, as in examples/bank-csv.toml.",
)
@operator_option
@json_option
def reconcile_bank(
    file: Path, program: str, format_: Format, mapping: Path | None, by: str | None, as_json: bool
) -> int:
    """Match the lines of the bank statement FILE with payouts: exact matches settle or return them, fees are booked.

    What does not match becomes a break and moves no money. The same line again, in whichever file, changes nothing;
    interrupted, the same command goes on. Exit code 1 if a line was refused.
    """
    who = meta(by)
    statements = read_statement(file, format_, mapping)
    with open_service() as service:
        with reads.reading(service.ledger, program) as look:
            last_position(look.cur, look.program_id, "books")
        with Ticker("lines") as ticker:
            done = banking.import_statements(
                service.ledger, program, statements, who, lambda progress: ticker.show(progress.done, progress.total)
            )
        with reads.reading(service.ledger, program) as look:
            found = [_break(look, break_id) for one in done for break_id in one.break_ids]
    for statement in statements:
        for remark in statement.notes:
            note(f"{_account(statement)}: {remark}")
    refused = [line for one in done for line in one.refused]
    if as_json:
        print_json({"statements": [one._asdict() for one in done], "breaks": found})
    else:
        _print(statements, done, found)
    for line_id, why in refused:
        note(f"{_place(statements, line_id)} was refused: {why}")
    return 1 if refused else 0


def _break(look: reads.Look, break_id: str) -> dict[str, Any]:
    record = look.record(breaks.key(break_id))
    assert record is not None
    state: BreakState = record.state
    return {
        "break_id": break_id,
        "type": state.opened.type,
        "status": state.status,
        "detail": state.detail,
        "reference": state.opened.reference,
        "expected_amount": state.expected_amount,
        "found_amount": state.found_amount,
        "currency": state.currency,
    }


def _place(statements: Sequence[BankStatement], line_id: str) -> str:
    """How a person finds a line again in the file."""
    for statement in statements:
        for number, line in enumerate(statement.lines, start=1):
            if line.line_id == line_id:
                return (
                    f"booking {number:,} of {_account(statement)}, of {line.booking_on},"
                    f" {major(line.amount, line.currency)} {line.currency}"
                )
    return f"line {line_id}"


def _account(statement: BankStatement) -> str:
    """An account as people may see it: banks name it by an IBAN, or by a number of their own."""
    return f"{payees.mask('sepa', {'iban': ''.join(statement.account.split())})['iban']} {statement.currency}"


def _print(statements: Sequence[BankStatement], done: list[Imported], found: list[dict[str, Any]]) -> None:
    table = [
        (
            _account(statement),
            f"{statement.booked_from or '-'}",
            f"{statement.booked_until or '-'}",
            f"{one.line_count:,}",
            *(f"{one.outcomes.get(name, 0):,}" for name in OUTCOMES),
            f"{len(one.refused):,}",
            f"{one.unchanged:,}",
        )
        for statement, one in zip(statements, done, strict=True)
    ]
    headings = ("account", "from", "to", "lines", *OUTCOMES, "refused", "known before")
    print_table(headings, table, right=range(3, len(headings)))
    if found:
        rows = [
            (
                one["break_id"],
                one["status"],
                one["reference"] if one["reference"] != one["break_id"].rpartition(":")[2] else "-",
                _amount(one, "expected_amount"),
                _amount(one, "found_amount"),
                one["currency"],
                one["detail"],
            )
            for one in found
        ]
        print_table(("break", "", "payout", "expected", "found", "", "what"), rows, right=(3, 4))
    if not any(one.refused for one in done) and all(one.unchanged == one.line_count for one in done):
        click.echo("everything was recorded before: nothing changed")


def _amount(one: dict[str, Any], name: str) -> str:
    return "-" if one[name] is None else major(one[name], one["currency"])


COMMANDS = ()
