"""Verbs about payout runs: from the proposal to the file, and what became of each payout."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from ledger import payruns, reads
from ledger.application import Progress
from ledger.cli import payout_views
from ledger.cli.common import (
    Ticker,
    json_option,
    major,
    meta,
    note,
    operator_option,
    print_json,
    program_option,
)
from ledger.cli.payout_views import (
    left_out_document,
    print_left_out,
    print_run,
    run_argument,
    run_document,
    tell_if_blocked,
    there,
)
from ledger.domain import money, payout
from ledger.domain.errors import NotFound
from ledger.domain.event import Answer, Command
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout_method import METHODS
from ledger.domain.proposing import DecideRun, ExcludePayout
from ledger.payouts import files
from ledger.service import open_service
from ledger.store.log import last_position


class Day(click.ParamType[date]):
    """A day."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """A date from 2026-03-31."""
        if isinstance(value, date):
            return value
        try:
            return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
        except ValueError:
            self.fail(f"{value!r} is no day such as 2026-03-31", param, ctx)


payout_argument = click.argument("payout_id", metavar="PAYOUT")
reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why, in your words; stored encrypted.")


def _done(answer: Answer, text: str) -> None:
    click.echo(text if answer.outcome == "recorded" else f"{text} (it was so already; nothing changed)")


def _telling(ticker: Ticker) -> Callable[[Progress], None]:
    return lambda progress: ticker.show(progress.done, progress.total)


@click.group()
def payouts() -> None:
    """Pay affiliates: propose a run, have it approved, send it on its way, and say what became of it.

    Whoever proposes a run cannot approve it. Each verb is safe to interrupt: the same again goes on where it stopped.
    """


# --- a run from proposal to file -------------------------------------------------------------------------


@payouts.command("propose")
@program_option
@click.option("--period", required=True, metavar="PERIOD", help="What happened by its end is paid: 2026-03, 2026-W12 …")
@click.option("--currency", required=True, metavar="CODE", help="What is paid in (ISO 4217).")
@click.option("--method", type=click.Choice(METHODS), required=True, help="How the money goes there.")
@click.option(
    "--as-of",
    type=click.IntRange(1),
    metavar="POSITION",
    help="Know only the log up to there. Default: the closed period's cut, else all of it.",
)
@operator_option
@json_option
def propose(
    program: str, period: str, currency: str, method: str, as_of: int | None, by: str | None, as_json: bool
) -> None:
    """Propose who is paid for a period, or come back to the open run. Prints the hash that another person approves."""
    money.exponent("--currency", currency)
    with open_service() as service:
        with Ticker("proposed") as ticker:
            answer = payruns.propose(
                service.ledger,
                program,
                period=period,
                currency=currency,
                method=method,
                meta=meta(by),
                as_of=as_of,
                told=_telling(ticker),
            )
        tell_if_blocked(service.ledger, program)
        run_id = answer.body["run_id"]
        if run_id:
            document = run_document(service.ledger, program, run_id)
            document["left_out"] = left_out_document(service.ledger, program, run_id)
    if not run_id:
        if as_json:
            print_json(answer.body)
        else:
            click.echo(f"nobody is owed anything in {currency} by the end of {period}: there is no run")
        return
    if as_json:
        print_json(document)
        return
    print_run(document)
    print_left_out(document["left_out"], currency)
    if document["status"] == "proposed":
        note(f"another person approves it: ledger payouts approve {run_id} -p {program} --hash {document['hash']}")


@payouts.command("approve")
@run_argument
@program_option
@click.option("--hash", "hash_", required=True, metavar="HASH", help="Of the run as you saw it (`payouts show`).")
@operator_option
def approve(run_id: str, program: str, hash_: str, by: str | None) -> None:
    """Approve exactly the RUN with this hash, as another person than proposed it."""
    with open_service() as service:
        there(service.ledger, program)
        if payruns.load_run(service.ledger, program, run_id).status == "nothing_to_pay":
            raise click.ClickException(
                f"run {run_id} pays nobody: there is nothing to approve; `ledger payouts show {run_id} -p {program}"
                " --left-out` says why"
            )
        command = DecideRun(run_id=run_id, approve=True, hash=hash_)
        answer = service.ledger.execute(program, command, meta(by))
    _done(answer, f"run {run_id} is approved")


@payouts.command("reject")
@run_argument
@program_option
@reason_option
@operator_option
def reject(run_id: str, program: str, reason: str, by: str | None) -> None:
    """Refuse RUN, as another person than proposed it; the next attempt is free."""
    with open_service() as service:
        command = DecideRun(run_id=run_id, approve=False, reason=reason)
        answer = service.ledger.execute(program, command, meta(by))
    _done(answer, f"run {run_id} is rejected")


@payouts.command("exclude")
@payout_argument
@program_option
@reason_option
@operator_option
def exclude(payout_id: str, program: str, reason: str, by: str | None) -> None:
    """Take PAYOUT out of its run before its money leaves; what it pays stays payable."""
    with open_service() as service:
        answer = service.ledger.execute(program, ExcludePayout(payout_id=payout_id, reason=reason), meta(by))
    _done(answer, f"payout {payout_id} is excluded")


@payouts.command("initiate")
@run_argument
@program_option
@click.option("--execution-on", type=Day(), metavar="DAY", help="When the bank shall pay. Default: today.")
@operator_option
@json_option
def initiate(run_id: str, program: str, execution_on: date | None, by: str | None, as_json: bool) -> None:
    """Send an approved RUN on its way: each payout leaves the payable balance, or is excluded with the reason."""
    with open_service() as service:
        with Ticker("initiated") as ticker:
            payruns.initiate(service.ledger, program, run_id, meta(by), execution_on, _telling(ticker))
        document = run_document(service.ledger, program, run_id)
    if as_json:
        print_json(document)
        return
    print_run(document)


@payouts.command("render")
@run_argument
@program_option
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the files go; made if it is not there.",
)
@operator_option
@json_option
def render(run_id: str, program: str, directory: Path, by: str | None, as_json: bool) -> None:
    """Write the files of an initiated RUN to DIR: each whole or not at all, and the same bytes whenever it is done.

    They hold bank details in full: keep DIR to those who upload them.
    """
    with open_service() as service:
        there(service.ledger, program)
        currency = payruns.load_run(service.ledger, program, run_id).begun.currency
        answer, made = payruns.render(service.ledger, program, run_id, meta(by))
        files.write(directory, made)
    facts = [
        {"path": str(directory / f.name), "sha256": f.sha256, "count": f.count, "control_sum": f.control_sum}
        for f in made
    ]
    if as_json:
        print_json({"run_id": run_id, "currency": currency, "files": facts})
        return
    for one in made:
        click.echo(f"{directory / one.name}")
        click.echo(f"  {one.count:,} payments, {major(one.control_sum, currency)} {currency}, SHA-256 {one.sha256}")
    if not made:
        click.echo(f"every payout of run {run_id} was excluded: there is no file")
    elif answer.outcome == "unchanged":
        click.echo("rendered before, the same bytes: nothing changed")


# --- what became of a payout -------------------------------------------------------------------------------


def _decide(program: str, by: str | None, payout_id: str, fee: str | None, command_of: Callable[[int], Command]) -> str:
    """Do it and return the payout's status. command_of: the fee in minor units → the command."""
    with open_service() as service:
        fee_amount = 0
        if fee is not None:
            with reads.reading(service.ledger, program) as look:
                last_position(look.cur, look.program_id, "books")
                found = look.record(payout.key(payout_id))
            if found is None:
                raise NotFound(f"payout {payout_id} does not exist")
            fee_amount = money.minor_units("--fee", fee, found.state.proposed.currency)
        answer = service.ledger.execute(program, command_of(fee_amount), meta(by))
    _done(answer, f"payout {payout_id} is {answer.body['status']}")
    return str(answer.body["status"])


_booked_option = click.option("--booked-on", type=Day(), metavar="DAY", help="The bank's booking day. Default: now.")


@payouts.command("settle")
@payout_argument
@program_option
@reason_option
@_booked_option
@click.option("--fee", metavar="AMOUNT", help="What the bank charged for it, such as 1.50.")
@operator_option
def settle(payout_id: str, program: str, reason: str, booked_on: date | None, fee: str | None, by: str | None) -> None:
    """Say that the bank paid PAYOUT. A bank statement says it better: `ledger reconcile bank`."""
    _decide(program, by, payout_id, fee, lambda fee_amount: DecidePayout(
        payout_id=payout_id, outcome="settle", reason=reason, booked_on=booked_on, fee_amount=fee_amount
    ))  # fmt: skip


@payouts.command("fail")
@payout_argument
@program_option
@reason_option
@_booked_option
@operator_option
def fail(payout_id: str, program: str, reason: str, booked_on: date | None, by: str | None) -> None:
    """Say that PAYOUT never left the bank; its amount is payable again."""
    command = DecidePayout(payout_id=payout_id, outcome="fail", reason=reason, booked_on=booked_on)
    _decide(program, by, payout_id, None, lambda _: command)


@payouts.command("return")
@payout_argument
@program_option
@reason_option
@_booked_option
@operator_option
def return_(payout_id: str, program: str, reason: str, booked_on: date | None, by: str | None) -> None:
    """Say that PAYOUT came back after it was settled; its amount is payable again."""
    command = DecidePayout(payout_id=payout_id, outcome="return", reason=reason, booked_on=booked_on)
    _decide(program, by, payout_id, None, lambda _: command)


@payouts.command("mark-unknown")
@payout_argument
@program_option
@reason_option
@operator_option
def mark_unknown(payout_id: str, program: str, reason: str, by: str | None) -> None:
    """Say that nobody knows whether the bank took PAYOUT. Its money stays in transit; never send it again by hand."""
    command = DecidePayout(payout_id=payout_id, outcome="mark_unknown", reason=reason)
    _decide(program, by, payout_id, None, lambda _: command)


for verb in payout_views.COMMANDS:
    payouts.add_command(verb)

COMMANDS = (payouts,)
