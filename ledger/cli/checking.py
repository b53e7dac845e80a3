"""Verbs about what follows from the logs: check it, rebuild it."""

from __future__ import annotations

from typing import Any

import click
import psycopg

from ledger.checking import CheckReport, check_logs, check_program
from ledger.cli.common import Ticker, json_option, print_json, program_option
from ledger.domain.ids import program_id
from ledger.projections import replaying
from ledger.projections.rebuild import RebuildReport, clear_old_generations
from ledger.projections.rebuild import rebuild as rebuild_books
from ledger.projections.replaying import ProjectionReport
from ledger.projections.shadow import PROJECTIONS
from ledger.service import Service, open_service

BOOKS, ALL = "books", "all"
HINT = "nothing was changed; `ledger check` says whether this or the log is wrong, --replace puts this right"
SHOWN = 200  # characters of what was expected and found


@click.command()
@program_option
@json_option
def check(program: str, as_json: bool) -> int:
    """Prove a program's logs, and everything that follows from them, where they are.

    Recomputes every hash, sealed tree and checkpoint; adds the books up again by a second set of rules; replays every
    read model; recomputes every statement. Changes nothing, and others go on writing. Exit code 1 with findings.
    """
    with open_service() as service, Ticker() as ticker:
        report = check_program(service.pool, program, lambda at: ticker.say(at.what, at.done, at.total))
    if as_json:
        document = {"program": report.program, "clean": report.clean, "positions": report.positions}
        print_json(document | {"checked": report.checked, "counts": report.counts, "findings": report.findings})
    else:
        _print_check(report)
    return 0 if report.clean else 1


def _print_check(report: CheckReport) -> None:
    for one in report.findings:
        where = f" (position {one.position:,})" if one.position is not None else ""
        click.echo(f"{one.kind}: {one.subject}{where}")
        click.echo(f"    expected {_short(one.expected)}\n    found    {_short(one.found)}")
    for kind, count in sorted(report.counts.items()):
        click.echo(f"{kind}: {count:,}")
    looked = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in report.checked.items())
    upto = ", ".join(f"{log} up to {position:,}" for log, position in report.positions.items())
    click.echo(f"{'clean' if report.clean else 'NOT CLEAN'}: {upto}; {looked}")


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@click.command()
@program_option
@click.option(
    "--projection", type=click.Choice([ALL, BOOKS, *PROJECTIONS]), default=ALL, help="Which; all of them unless said."
)
@click.option("--replace", is_flag=True, help="Put right what differs: the log is the truth.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rebuild(program: str, projection: str, replace: bool, as_json: bool) -> int:
    """Replay a program's books and read models from its logs beside the live ones, and prove them equal.

    Reading and writing go on meanwhile. The books are swapped in when they are equal. Where anything differs, nothing
    is changed without --replace, the first difference is shown, and the exit code is 1. --replace of read models needs
    the owner role (LEDGER_OWNER_URL, or the embedded server), which also clears away the books that were replaced.
    """
    names = [name for name in PROJECTIONS if projection in (ALL, name)]
    with open_service() as service, Ticker() as ticker:
        if names and replace and service.database.owner_url is None:
            raise click.ClickException(
                "LEDGER_OWNER_URL is needed: only the role that owns the tables may replace rows of read models"
            )
        if replace:
            _refuse_a_changed_log(service, program, ticker)
        books = _rebuild_books(service, program, replace, ticker) if projection in (ALL, BOOKS) else None
        models = _rebuild_models(service, program, names, replace, ticker) if names else []
    if as_json:
        document = books._asdict() if books else {}
        print_json(document | {"projections": [_document(one) for one in models]})
    else:
        _print_rebuild(books, models, replace)
    unlike = books is not None and not books.equal and not books.swapped
    return 1 if unlike or any(one.different > one.replaced for one in models) else 0


def _refuse_a_changed_log(service: Service, program: str, ticker: Ticker) -> None:
    """What follows from a log may be put right by it only if it is what was recorded. Raises ClickException."""
    report = check_logs(service.pool, program, lambda at: ticker.say(at.what, at.done, at.total))
    if report.clean:
        return
    first = report.findings[0]
    raise click.ClickException(
        f"the log itself is not what was recorded ({first.kind}: {first.subject}; {sum(report.counts.values()):,} in"
        " all): nothing was replaced. `ledger check` lists what is wrong; bring back a backup of before"
    )


def _rebuild_books(service: Service, program: str, replace: bool, ticker: Ticker) -> RebuildReport:
    id_ = program_id(program)
    report = rebuild_books(
        service.pool, id_, lambda step: ticker.say("books: replayed", step.position, step.last), replace
    )
    if report.swapped and service.database.owner_url:
        with psycopg.connect(service.database.owner_url) as owner:
            clear_old_generations(owner, id_)
    return report


def _rebuild_models(
    service: Service, program: str, names: list[str], replace: bool, ticker: Ticker
) -> list[ProjectionReport]:
    def progress(step: replaying.ReplayProgress) -> None:
        ticker.say(f"read models: {step.log} replayed", step.position, step.last)

    if replace:
        assert service.database.owner_url is not None
        with psycopg.connect(service.database.owner_url, options="-c TimeZone=UTC") as owner:
            return replaying.replace(owner, program_id(program), names, progress)
    with service.pool.connection() as conn:
        return replaying.compare(conn, program_id(program), names, progress)


def _document(one: ProjectionReport) -> dict[str, Any]:
    return one._asdict() | {"equal": one.equal, "first": one.first._asdict() if one.first else None}


def _print_rebuild(books: RebuildReport | None, models: list[ProjectionReport], replace: bool) -> None:
    if books is not None and books.equal:
        click.echo(f"{books.events:,} events replayed into {books.lines:,} journal lines: equal to the live books")
    elif books is not None:
        assert books.different is not None
        click.echo("the live books differ from the log, first:")
        for name, value in books.different.items():
            click.echo(f"    {name.replace('_', ' '):<9}{_short(value)}")
        click.echo("the rebuilt books are live now" if books.swapped else HINT)
    for one in models:
        if one.first is None:
            click.echo(f"{one.projection}: {one.rows:,} rows, equal")
            continue
        rows = f"{one.different:,} of its rows {'differs' if one.different == 1 else 'differ'}"
        click.echo(f"{one.projection}: {rows} from the {one.rows:,} replayed, first {one.first.subject}")
        click.echo(f"    expected {_short(one.first.expected)}\n    found    {_short(one.first.found)}")
        left = one.different - one.replaced
        if not replace:
            click.echo(f"    {HINT}")
        else:
            click.echo(f"    taken away, and no log can make them again: {left:,}" if left else "    replaced")


COMMANDS = (rebuild, check)
