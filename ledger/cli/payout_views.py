"""Verbs that look at payout runs and payouts, and how a run is shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from ledger import payruns, reads, threeway
from ledger.application import CommissionLedger
from ledger.cli.common import json_option, local_day, major, note, print_json, print_table, program_option
from ledger.domain import restore
from ledger.domain.payout_run import PayoutRunApproved, PayoutRunRejected, key_of
from ledger.projections import invoices, programs
from ledger.projections import payouts as rows
from ledger.projections.payouts import PayoutRow
from ledger.service import open_service
from ledger.store.log import Rows, last_position
from ledger.threeway import ThreeWay

PAGE = 1000
STATUSES = ("proposed", "excluded", "initiated", "unknown", "settled", "failed", "returned")
RUN_STATUSES = ("begun", "nothing_to_pay", "proposed", "approved", "rejected", "initiating", "initiated")
# What a code in the books says to people.
WHY = {
    "affiliate_suspended": "the affiliate is suspended",
    "no_payout_method": "no payout method is in force",
    "in_open_run": "another open run pays them",
    "below_minimum": "less than the minimum, or taken back since",
    "no_tax_profile": "tax rules are in force, but no tax profile",
    "no_tax_rule": "no tax rule fits the tax profile",
    "by_hand": "by hand",
    "payout_method_changed": "the payout method has changed",
    "payable_fell": "reversals left too little",
    "paid_already": "the bank says that it was paid already",
}
run_argument = click.argument("run_id", metavar="RUN")


def there(ledger: CommissionLedger, program: str) -> None:
    """Raises UnknownProgram."""
    with ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")


# --- a run -----------------------------------------------------------------------------------------------


def run_document(ledger: CommissionLedger, program: str, run_id: str) -> dict[str, Any]:
    """A run: its cut, what was proposed and decided, its payouts by status, its files. Raises NotFound."""
    there(ledger, program)
    state = payruns.load_run(ledger, program, run_id)
    with reads.reading(ledger, program) as look:
        decided = _decided(look, run_id)
        totals = [one._asdict() for one in rows.run_totals(look.cur, look.program_id, run_id)]
    begun, proposed = state.begun, state.proposed
    fields = ("run_id", "period", "currency", "method", "attempt", "cut_position", "ends_at", "proposed_by")
    return {
        **{field: getattr(begun, field) for field in fields},
        "status": state.status,
        "payout_count": proposed.payout_count if proposed else 0,
        "amount": proposed.amount if proposed else 0,
        "transfer_amount": proposed.transfer_amount if proposed else 0,
        "hash": proposed.hash if proposed else "",
        "left_out_count": len(state.left_out),
        **decided,
        "execution_on": state.initiation.execution_on if state.initiation else None,
        "totals": totals,
        "files": state.files,
    }


def _decided(look: reads.Look, run_id: str) -> dict[str, Any]:
    """Who approved or rejected a run, and why it was rejected."""
    stream = key_of(run_id)
    found: dict[str, Any] = {"decided_by": "", "decided_at": None, "reason": None}
    for event in look.events([stream]):
        body = event.body
        if isinstance(body, PayoutRunApproved | PayoutRunRejected) and body.run_id == run_id:
            found |= {"decided_by": event.actor, "decided_at": event.recorded_at}
            if isinstance(body, PayoutRunRejected):
                found["reason"] = look.unseal("program", stream, f"reason.{run_id}", body.reason)
    return found


def left_out_document(ledger: CommissionLedger, program: str, run_id: str) -> list[dict[str, Any]]:
    """Who is owed money and is not paid by a run, and why."""
    found = payruns.left_out(ledger, program, run_id)
    return [{"affiliate_id": who, "amount": amount, "reason": why} for who, amount, why in found]


def tell_if_blocked(ledger: CommissionLedger, program: str) -> None:
    """Say on stderr that payouts wait for a person after a restore."""
    with reads.reading(ledger, program) as look:
        found = look.record(restore.KEY)
    if found is not None and found.state.matched is None:
        note(
            "the books were restored from a backup: payouts are blocked until"
            f" `ledger bank-matched -p {program} --reason …`"
        )


def payout_documents(cur: Rows, program_id: UUID, found: list[PayoutRow], now: datetime) -> list[dict[str, Any]]:
    """Payouts as they stand, each with the credit notes that cancelled an invoice of it."""
    notes = invoices.credit_notes(cur, program_id, ((row.payout_id, row.initiated_at) for row in found), now)
    return [
        row._asdict() | {"transfer_amount": row.transfer_amount, "credit_notes": notes.get(row.payout_id, [])}
        for row in found
    ]


def print_run(run: dict[str, Any]) -> None:
    """A run's head, its payouts by status, its files."""
    currency = run["currency"]
    click.echo(f"run {run['run_id']}: {run['status'].replace('_', ' ')}")
    click.echo(
        f"  {run['period']}, {currency}, {run['method']}: the log up to position {run['cut_position']:,}, what happened"
        f" before {run['ends_at']:%Y-%m-%d %H:%M} UTC"
    )
    said = [f"proposed by {run['proposed_by']}"]
    if run["decided_by"]:
        said.append(f"{'rejected' if run['status'] == 'rejected' else 'approved'} by {run['decided_by']}")
    if run["execution_on"]:
        said.append(f"to be paid on {run['execution_on']}")
    click.echo(f"  {', '.join(said)}")
    if run["reason"]:
        click.echo(f"  because: {run['reason']}")
    if run["hash"]:
        click.echo(
            f"  {run['payout_count']:,} payouts, {major(run['amount'], currency)} {currency};"
            f" to transfer {major(run['transfer_amount'], currency)} {currency}"
        )
        click.echo(f"  hash {run['hash']}")
    if run["totals"]:
        columns = ("amount", "vat_amount", "withholding_amount", "transfer_amount", "fee_amount")
        table = [
            (one["status"], f"{one['payout_count']:,}", *(major(one[name], currency) for name in columns))
            for one in run["totals"]
        ]
        headings = ("payouts", "count", "amount", "VAT", "withheld", "transfer", "bank fees")
        print_table(headings, table, right=range(1, 7))
    for one in run["files"]:
        click.echo(f"file {one.name}: {one.count:,} payments, {major(one.control_sum, currency)} {currency}")
        click.echo(f"  SHA-256 {one.sha256}")


def print_left_out(found: list[dict[str, Any]], currency: str) -> None:
    """How many are left out for which reason, and what they are owed."""
    if not found:
        return
    sums: dict[str, tuple[int, int]] = {}
    for one in found:
        count, amount = sums.get(one["reason"], (0, 0))
        sums[one["reason"]] = (count + 1, amount + one["amount"])
    table = [
        (f"{count:,}", f"{major(amount, currency)} {currency}", WHY.get(why, why))
        for why, (count, amount) in sorted(sums.items())
    ]
    print_table(("left out", "owed", "because"), table, right=(0, 1))


def _print_payouts(found: Iterator[PayoutRow], zone: str) -> None:
    table = [
        (
            row.payout_id,
            row.run_id,
            row.affiliate_id,
            row.currency,
            # a star catches the eye where reversals since the cut left less than it says is owed
            major(row.owed_amount, row.currency) + ("*" if row.owed_amount != row.amount else " "),
            major(row.amount, row.currency),
            major(row.transfer_amount, row.currency),
            row.status,
            row.invoice_number or "-",
            local_day(row.ended_at, zone) if row.ended_at else WHY.get(row.reason, row.reason) or "-",
        )
        for row in found
    ]
    headings = ("payout", "run", "affiliate", "", "owed ", "amount", "transfer", "status", "invoice", "ended, or why")
    print_table(headings, table, right=(4, 5, 6))
    if any("*" in row[4] for row in table):
        click.echo("* owed at the cut; less is paid, because commissions were taken back since")


@click.command("show")
@run_argument
@program_option
@click.option("--payouts", "with_payouts", is_flag=True, help="Also each payout.")
@click.option("--left-out", "with_left_out", is_flag=True, help="Also each affiliate that is left out, and why.")
@json_option
def show(run_id: str, program: str, with_payouts: bool, with_left_out: bool, as_json: bool) -> None:
    """Show RUN: what was proposed, with its hash, who decided, and what became of its payouts."""
    with open_service() as service:
        document = run_document(service.ledger, program, run_id)
        tell_if_blocked(service.ledger, program)
        left_out = left_out_document(service.ledger, program, run_id)
        found = list(payruns.all_payouts(service.ledger, program, run_id)) if with_payouts else []
        with service.ledger.reading(program) as (cur, id_):
            zone = programs.state(cur, id_, program).zone
            documents = payout_documents(cur, id_, found, service.ledger.clock()) if as_json else []
    if as_json:
        more: dict[str, Any] = {"payouts": documents} if with_payouts else {}
        if with_left_out:
            more["left_out"] = left_out
        print_json(document | more)
        return
    print_run(document)
    if with_left_out:
        currency = document["currency"]
        table = [(one["affiliate_id"], major(one["amount"], currency), WHY[one["reason"]]) for one in left_out]
        print_table(("left out", f"owed ({currency})", "because"), table, right=(1,))
    else:
        print_left_out(left_out, document["currency"])
    if with_payouts:
        _print_payouts(iter(found), zone)


@click.command("runs")
@program_option
@click.option("--status", type=click.Choice(RUN_STATUSES), help="Only those.")
@json_option
def runs(program: str, status: str | None, as_json: bool) -> None:
    """List payout runs."""
    found: list[rows.RunRow] = []
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        while some := rows.runs(cur, id_, found[-1].run_id if found else "", PAGE, status):
            found += some
    if as_json:
        print_json([one._asdict() for one in found])
        return
    table = [(one.run_id, one.period, one.status.replace("_", " "), f"{one.cut_position:,}") for one in found]
    print_table(("run", "period", "status", "cut at position"), table, right=(3,))


@click.command("list")
@program_option
@click.option("--status", type=click.Choice(STATUSES), help="Only those.")
@click.option("--affiliate", "affiliate_id", metavar="ID", help="Only this one's.")
@json_option
def list_(program: str, status: str | None, affiliate_id: str | None, as_json: bool) -> None:
    """List payouts of all runs."""
    found: list[PayoutRow] = []
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        zone = programs.state(cur, id_, program).zone
        while some := rows.page(cur, id_, found[-1].payout_id if found else "", PAGE, status, affiliate_id):
            found += some
        documents = payout_documents(cur, id_, found, service.ledger.clock()) if as_json else []
    if as_json:
        print_json(documents)
        return
    _print_payouts(iter(found), zone)


# --- three ways --------------------------------------------------------------------------------------------

_COMPARED = {
    "files": ("sent", "files"),
    "settled": ("left the account, fees included", "bank"),
    "returned": ("came back", "bank"),
}


@click.command("three-way")
@run_argument
@program_option
@json_option
def three_way(run_id: str, program: str, as_json: bool) -> int:
    """Compare what the books say of RUN with its files, made and read again, and with the bank's lines.

    Exit code 1 if anything differs.
    """
    with open_service() as service:
        there(service.ledger, program)
        found = threeway.of_run(service.ledger, program, run_id)
    if as_json:
        print_json(_three_way_document(found))
    else:
        _print_three_way(found)
    return 1 if _what_differs(found) else 0


def _what_differs(found: ThreeWay) -> list[str]:
    """What does not agree, for people; empty when everything does."""
    currency = found.run.begun.currency
    said = []
    for one in found.differences:
        if one.difference:
            what, other = _COMPARED[one.name]
            way = "more" if one.difference > 0 else "less"
            said.append(f"{what}: {major(abs(one.difference), currency)} {currency} {way} by the {other}")
    if found.apart:
        said.append(f"{len(found.apart)} payouts with another sum at the bank")
    if found.file_problem:
        said.append("the files could not be compared")
    if changed := [file.name for file in found.files if not file.as_rendered]:
        said.append(f"{len(changed)} files with other bytes than were rendered first")
    if found.open_breaks:
        said.append(f"{len(found.open_breaks)} open breaks")
    return said


def _three_way_document(found: ThreeWay) -> dict[str, Any]:
    return {
        "run_id": found.run.begun.run_id,
        "currency": found.run.begun.currency,
        "status": found.run.status,
        "ledger": [one._asdict() for one in found.ledger],
        "files": found.files,
        "file_problem": found.file_problem,
        "bank": [one._asdict() for one in found.bank],
        "in_transit_amount": found.in_transit_amount,
        "differences": [one._asdict() | {"difference": one.difference} for one in found.differences],
        "apart": found.apart,
        "open_breaks": [one.document() for one in found.open_breaks],
    }


def _print_three_way(found: ThreeWay) -> None:
    begun = found.run.begun
    currency = begun.currency
    click.echo(f"run {begun.run_id}: {found.run.status.replace('_', ' ')}, in {currency}")
    table = [
        (
            *_COMPARED[one.name],
            *(major(n, currency) for n in (one.expected_amount, one.found_amount, one.difference)),
        )
        for one in found.differences
    ]
    headings = ("what", "held against", "books say", "they say", "difference")
    print_table(headings, table, right=(2, 3, 4))
    click.echo(f"on its way, not seen at the bank: {major(found.in_transit_amount, currency)} {currency}")
    if found.apart:
        click.echo(f"payouts of which books and bank say different sums: {', '.join(found.apart)}")
    for file in found.files:
        said = "the bytes rendered first" if file.as_rendered else "NOT the bytes rendered first"
        click.echo(f"file {file.name}: {file.count:,} payments read again, {said}")
    if found.file_problem:
        click.echo(f"the files could not be compared: {found.file_problem}")
    if found.open_breaks:
        print_table(
            ("open break", "days", "owner", "what"),
            [(b.break_id, str(b.age_days), b.state.owner or "-", b.state.detail) for b in found.open_breaks],
            right=(1,),
        )
    differs = _what_differs(found)
    click.echo(f"NOT EQUAL: {'; '.join(differs)}" if differs else "books, files and bank agree")


COMMANDS = (show, runs, list_, three_way)
