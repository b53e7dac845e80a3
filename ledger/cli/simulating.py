"""Verbs about what would be: simulate other terms or another model of attribution, and apply what was approved."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ledger import simulations
from ledger.cli import json_places, plans
from ledger.cli.common import (
    Instant,
    Ticker,
    json_option,
    meta,
    note,
    operator,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.cli.simulation_report import print_report
from ledger.domain.errors import InvalidInput, Refusal
from ledger.domain.plans.plan_shape import Mistake
from ledger.projections import directory
from ledger.service import Service, open_service
from ledger.simulating.report import Simulated, simulated
from ledger.simulating.trial import MODELS, Trial, mistakes, trial_of
from ledger.statements.csvfile import harmless


class TermsRefused(Refusal):
    """The file has no terms that could be tried."""


_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_NewFile = click.Path(dir_okay=False, writable=True, path_type=Path)
_ID = click.argument("simulation_id", metavar="SIMULATION")
_all_option = click.option("--all", "every", is_flag=True, help="List also the affiliates whose figures stay the same.")
_over_earlier = click.option(
    "--over-earlier",
    "undo_earlier",
    is_flag=True,
    help="Propose it even if it undoes an earlier simulation.",
)
_ORDER_COLUMNS = ("order_id", "affiliate_id", "level", "currency", "was", "would", "difference", "reason", "why")
_AFFILIATE_COLUMNS = (
    "affiliate_id", "currency", "conversions_was", "conversions_would", "commission_was", "commission_would",
    "difference",
)  # fmt: skip


# --- simulate ------------------------------------------------------------------------------------------------


@click.command()
@program_option
@click.option(
    "--terms", "file", type=_File, metavar="FILE", help="The terms to try: a JSON file (docs/simulations.md)."
)
@click.option("--model", type=click.Choice(MODELS), help="The model of attribution to try, instead of the terms' own.")
@click.option("--offer", metavar="OFFER", help="Whose sales. Needed where there are several, and FILE names none.")
@click.option("--from", "since", type=Instant(), help="Only sales that occurred then or later are decided otherwise.")
@click.option("--to", "until", type=Instant(), help="Only sales that occurred before.")
@click.option("--csv", "csv_file", type=_NewFile, metavar="FILE", help="Write the affiliates' figures as CSV.")
@click.option("--orders", "orders_file", type=_NewFile, metavar="FILE", help="Write every differing order as CSV.")
@_all_option
@click.option("--propose", "proposes", is_flag=True, help="Propose to apply it: a second person approves.")
@_over_earlier
@operator_option
@json_option
def simulate(
    program: str,
    file: Path | None,
    model: str | None,
    offer: str | None,
    since: datetime | None,
    until: datetime | None,
    csv_file: Path | None,
    orders_file: Path | None,
    every: bool,
    proposes: bool,
    undo_earlier: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Decide history again under other terms or another model: what would each affiliate have been paid, and why.

    FILE is the body of POST /offers/{offer_id}/terms, with offer_id if you like, or a plan by itself (held and matched
    as long as by the terms in force). Nothing is written to the logs, and
    the rest of the program goes on meanwhile; interrupting leaves nothing behind.
    """
    if file is None and model is None:
        raise click.UsageError("say what to try: --terms FILE, --model, or both")
    if proposes:
        operator(by)  # who cannot be named is told before the work, not after it
    located = None if file is None else _terms_in(file)
    with open_service() as service:
        offer_id = offer or _named(None if located is None else located.document) or _only_offer(service, program)
        terms = None if file is None or located is None else _tried(service, program, offer_id, file, located)
        trial = trial_of(offer_id, terms, model, since, until)
        with (
            service.pool.connection() as conn,
            Ticker("simulated") as ticker,
            simulated(conn, program, service.secrets, trial, ticker.show) as found,
        ):
            ticker.end()
            _print(found, as_json, csv_file, orders_file, every)
            if proposes:
                _propose(service, program, trial, found, by, undo_earlier)


def _terms_in(file: Path) -> json_places.Located:
    """Raises TermsRefused once everything has been told that keeps the file from being read."""
    located, wrong = plans.located_in(file, "--terms")
    if located is not None and not isinstance(located.document, dict):
        wrong = [f"{file}:1:1: must be a JSON object: terms with hold_days, window_days and what is paid, or a plan"]
    if located is None or wrong:
        raise _refused(file, wrong)
    return located


def _is_plan(document: dict[str, Any]) -> bool:
    """Whether it is a plan by itself: what terms have as `plan` is an object."""
    return "rules" in document or isinstance(document.get("plan"), int)


def _of_plan(service: Service, program: str, offer_id: str, document: dict[str, Any]) -> dict[str, Any]:
    """Terms with a plan, and otherwise as those in force. Raises NotFound, InvalidInput without any in force."""
    terms = simulations.offer_of(service.ledger, program, offer_id).terms_at(service.ledger.clock())
    if terms is None:
        raise InvalidInput(
            "--terms",
            f"is a plan by itself, and offer {offer_id} has no terms in force to take hold_days and window_days from:"
            ' say them, {"hold_days": 30, "window_days": 30, "plan": {...}}',
        )
    return {"hold_days": terms.hold_days, "window_days": terms.window_days, "plan": document}


def _tried(service: Service, program: str, offer_id: str, file: Path, located: json_places.Located) -> dict[str, Any]:
    """The terms in a file. Raises TermsRefused once all of its mistakes have been told on stderr."""
    document: dict[str, Any] = located.document
    alone = _is_plan(document)
    terms = _of_plan(service, program, offer_id, document) if alone else document
    found = mistakes(offer_id, terms)
    if alone:
        found = [Mistake(one.pointer.removeprefix("/plan"), one.message) for one in found]
    if wrong := plans.said_of(file, located, found):
        raise _refused(file, wrong)
    return terms


def _refused(file: Path, wrong: Sequence[str]) -> TermsRefused:
    for one in wrong:
        note(one)
    return TermsRefused(f"{file} has no terms that could be tried; nothing was simulated")


def _named(terms: dict[str, Any] | None) -> str | None:
    found = (terms or {}).get("offer_id")
    if found is not None and not isinstance(found, str):
        raise InvalidInput("offer_id", "must be text")
    return found


def _only_offer(service: Service, program: str) -> str:
    with service.ledger.reading(program) as (cur, id_):
        found = [entry.record_id for entry in directory.page(cur, id_, "offer", limit=2)]
    if len(found) != 1:
        raise click.UsageError(f"say whose sales: --offer OFFER ({'there are several' if found else 'there is none'})")
    return found[0]


def _propose(
    service: Service, program: str, trial: Trial, found: Simulated, by: str | None, undo_earlier: bool
) -> None:
    simulations.over_earlier(found.document, undo_earlier)  # what is refused is not kept
    who, simulation_id = meta(by), f"sim-{datetime.now(UTC):%Y%m%d}-{uuid.uuid4().hex[:8]}"
    simulations.keep(service.ledger, program, simulation_id, found, (trial, who))
    simulations.propose(service.ledger, program, simulation_id, who, undo_earlier)
    note(
        f"proposed as {simulation_id} ({found.line_count:,} lines, SHA-256 {found.lines_hash}):"
        f" a second person says `ledger simulation approve {simulation_id} --program {program}`"
    )


# --- printing ------------------------------------------------------------------------------------------------


def _print(
    found: Simulated, as_json: bool, csv_file: Path | None, orders_file: Path | None, every: bool = False
) -> None:
    if csv_file is not None:
        _write_figures(csv_file, found.document)
    if orders_file is not None:
        orders = (
            (
                one.order_id, one.affiliate_id, one.level, one.currency, one.was_net, one.would_net,
                one.would_net - one.was_net, one.reason, one.words,
            )
            for one in found.differences()
        )  # fmt: skip
        _write_csv(orders_file, _ORDER_COLUMNS, orders)
    if as_json:
        print_json(found.document)
    else:
        print_report(found.document, every)


def _write_figures(file: Path, document: dict[str, Any]) -> None:
    reasons = sorted({reason for one in document["affiliates"] for reason in one["reasons"]})
    rows = (
        (
            *(one[name] for name in _AFFILIATE_COLUMNS),
            *(one["reasons"].get(reason, {}).get("amount", 0) for reason in reasons),
        )
        for one in document["affiliates"]
    )
    _write_csv(file, [*_AFFILIATE_COLUMNS, *reasons], rows)


def _write_csv(file: Path, heading: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
    """Numbers stay numbers; text that came from a stranger, such as an order's id, must not run as a formula."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        write = csv.writer(opened)
        write.writerow(heading)
        write.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


# --- simulation … ----------------------------------------------------------------------------------------------


@click.group()
def simulation() -> None:
    """Look at simulations, decide about them and apply them."""


@simulation.command("list")
@program_option
@click.option("--after", default="", metavar="SIMULATION", help="Behind this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
def list_(program: str, after: str, limit: int, as_json: bool) -> None:
    """List simulations that were asked for or proposed."""
    with open_service() as service:
        found = simulations.page(service.ledger, program, after, limit)
    if as_json:
        print_json({"items": found})
        return
    rows = [
        (one["simulation_id"], one["status"], one["request"]["offer_id"], one["requested_by"],
         f"{one['requested_at']:%Y-%m-%d %H:%M}", f"{one['line_count']:,}")
        for one in found
    ]  # fmt: skip
    print_table(("simulation", "status", "offer", "asked by", "at (UTC)", "lines"), rows, (5,))


@simulation.command()
@_ID
@program_option
@_all_option
@json_option
def show(simulation_id: str, program: str, every: bool, as_json: bool) -> None:
    """Show a simulation: where it stands, and what it found."""
    with open_service() as service:
        found = simulations.shown(service.ledger, program, simulation_id)
    if as_json:
        print_json(found)
        return
    click.echo(f"{simulation_id}: {found['status']}, asked by {found['requested_by']}")
    if found["failure"]:
        click.echo(f"failed: {found['failure']}")
    if found["line_count"]:
        click.echo(f"{found['line_count']:,} lines, SHA-256 {found['lines_hash']}")
    if (applied := found["application"]) is not None:
        click.echo(
            f"orders applied {applied['applied']:,}, left as they are {applied['skipped']:,},"
            f" to come {applied['left']:,}"
        )
        for one in applied["skipped_orders"]:
            click.echo(f"  {one['order_id']}: {one['why']}")
    if found["report"] is not None:
        click.echo("")
        print_report(found["report"], every)


@simulation.command()
@_ID
@program_option
@_over_earlier
@operator_option
def propose(simulation_id: str, program: str, undo_earlier: bool, by: str | None) -> None:
    """Propose to apply what SIMULATION found: a second person approves."""
    with open_service() as service:
        answer = simulations.propose(service.ledger, program, simulation_id, meta(by), undo_earlier)
    click.echo(f"{simulation_id}: {answer.body['status']}, lines SHA-256 {answer.body['lines_hash']}")
    note(f"a second person says `ledger simulation approve {simulation_id} --program {program}`")


def _decided(simulation_id: str, program: str, approve: bool, by: str | None, lines_hash: str) -> None:
    with open_service() as service:
        answer = simulations.decide(service.ledger, program, simulation_id, approve, meta(by), lines_hash)
    click.echo(f"{simulation_id}: {answer.body['status']}")


@simulation.command()
@_ID
@program_option
@click.option("--lines-hash", default="", metavar="SHA256", help="Approve only if the lines are these.")
@operator_option
def approve(simulation_id: str, program: str, lines_hash: str, by: str | None) -> None:
    """Approve SIMULATION, as another person than proposed it."""
    _decided(simulation_id, program, True, by, lines_hash)


@simulation.command()
@_ID
@program_option
@operator_option
def reject(simulation_id: str, program: str, by: str | None) -> None:
    """Reject SIMULATION, as another person than proposed it."""
    _decided(simulation_id, program, False, by, "")


@simulation.command()
@_ID
@program_option
@operator_option
def apply(simulation_id: str, program: str, by: str | None) -> None:
    """Bring the books to what SIMULATION said, once it is approved. Interrupted, the same again goes on."""
    who = meta(by)
    with open_service() as service, Ticker("orders") as ticker:
        for step in simulations.apply(service.ledger, program, simulation_id, who):
            ticker.show(step.done, step.total)
        found = simulations.shown(service.ledger, program, simulation_id)["application"]
    click.echo(f"{simulation_id}: applied to {found['applied']:,} orders, {found['skipped']:,} left as they are")
    for one in found["skipped_orders"]:
        click.echo(f"  {one['order_id']}: {one['why']}")


COMMANDS = (simulate, simulation)
