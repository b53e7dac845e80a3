"""Verbs about periods and statements: closing, reissuing, reading and writing them, and a year's totals for tax."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ledger import presenting, reads
from ledger.application import CommissionLedger, Progress
from ledger.cli.common import (
    Instant,
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
from ledger.closing import DoesNotAddUp, close_period, reissue_period
from ledger.domain import affiliate as affiliates
from ledger.domain.errors import NotFound
from ledger.presenting import StatementDiffers
from ledger.projections import periods, presented, programs, tax_totals
from ledger.projections.periods import Issued
from ledger.service import open_service
from ledger.statements.content import file_stem
from ledger.statements.presentation import owed
from ledger.statements.render import FORMATS, file_name, render
from ledger.statements.words import LANGUAGES
from ledger.store.database import allow_long
from ledger.store.durable import write_whole
from ledger.store.vault import Vault

_limit_option = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many, newest first."
)
_version_option = click.option("--version", type=click.IntRange(1), help="Which version; the newest unless said.")
_language_option = click.option(
    "--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of HTML, PDF and XLSX."
)


# --- periods ---------------------------------------------------------------------------------------------


@click.command()
@click.argument("period")
@program_option
@click.option("--until", type=Instant(), metavar="INSTANT", help="Where a period of your own naming ends.")
@operator_option
@json_option
def close(period: str, program: str, until: datetime | None, by: str | None, as_json: bool) -> None:
    """Close PERIOD (2026-03, 2026-W12, or a name of yours with --until) and issue every statement.

    Safe to interrupt and to run again: it goes on where it stopped, and once done it changes nothing.
    """
    if until is None:
        _check_name(period)
    with open_service() as service:
        worked = _work_off(close_period(service.ledger, program, period, meta(by), until))
        _print_period(service.ledger, program, period, 1, as_json)
    _say_if_idle(worked, as_json)


def _check_name(period: str) -> None:
    """Raises click.UsageError for a name that says no end, with the month or week that may be meant."""
    if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2]|W\d\d)", period):
        return
    near = re.fullmatch(r"(\d{4})-?(W?)0?([1-9])", period) or re.fullmatch(r"(\d{4})-?(W?)(\d\d)", period)
    hint = f"; {near[1]}-{near[2]}{near[3]:0>2} may be meant" if near else ""
    raise click.UsageError(
        f"{period} is no month such as 2026-03 and no ISO week such as 2026-W12{hint}."
        " A period of your own naming needs --until INSTANT, where it ends"
    )


def _say_if_idle(worked: bool, as_json: bool) -> None:
    if not worked and not as_json:
        click.echo("every statement was issued before: nothing changed")


@click.command()
@click.argument("period")
@program_option
@click.option("--version", type=click.IntRange(2), required=True, help="The next version: 2 for the first reissue.")
@click.option("--reason", required=True, help="Why, in your words; stored encrypted.")
@operator_option
@json_option
def reissue(period: str, program: str, version: int, reason: str, by: str | None, as_json: bool) -> None:
    """Issue a new version of the last closed PERIOD for those to whom something was added since its cut."""
    with open_service() as service:
        worked = _work_off(reissue_period(service.ledger, program, period, version, reason, meta(by)))
        _print_period(service.ledger, program, period, version, as_json)
    _say_if_idle(worked, as_json)


def _work_off(work: Iterator[Progress]) -> bool:
    """Whether there was anything to do."""
    worked = False
    try:
        with Ticker("statements") as ticker:
            for step in work:
                worked = True
                ticker.show(step.done)
    except DoesNotAddUp as problem:
        raise click.ClickException(str(problem)) from None
    return worked


def _print_period(ledger: CommissionLedger, program: str, period: str, version: int, as_json: bool) -> None:
    document = presenting.period_document(presenting.find_period(ledger, program, period, version))
    if as_json:
        print_json(document)
        return
    click.echo(
        f"{document['period']} version {document['version']} is {document['status']}:"
        f" {document['statement_count']:,} statements, {document['line_count']:,} lines,"
        f" {document['late_count']:,} of them late; the log up to position {document['cut_position']:,}"
    )
    if document["totals"]:
        rows = [
            (one["currency"], one["bucket"].replace("_", " "), *(major(one[name], one["currency"]) for name in _EDGES))
            for one in document["totals"]
        ]
        print_table(("", "", *_EDGES), rows, right=range(2, 5))
    if document["digest"]:
        click.echo(f"digest of all statements: {document['digest']}")


_EDGES = ("opening", "movement", "closing")


@click.command("periods")
@program_option
@_limit_option
@json_option
def periods_verb(program: str, limit: int, as_json: bool) -> None:
    """List closed periods, newest first, every version."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        programs.state(cur, id_, program)
        found = periods.periods(cur, id_, limit=limit)
    if as_json:
        print_json([cut._asdict() for cut in found])
        return
    rows = [
        (
            cut.period,
            str(cut.version),
            cut.status,
            _instant(cut.starts_at) if cut.starts_at else "(all earlier)",
            _instant(cut.ends_at),
            f"{cut.statement_count:,}",
            f"{cut.line_count:,}",
        )
        for cut in found
    ]
    headings = ("period", "version", "status", "from (UTC)", "until (UTC)", "statements", "lines")
    print_table(headings, rows, right=(1, 5, 6))


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


# --- statements ------------------------------------------------------------------------------------------


@click.command("statements")
@program_option
@click.option("--affiliate", required=True, metavar="ID", help="Whose.")
@_limit_option
@json_option
def statements_verb(program: str, affiliate: str, limit: int, as_json: bool) -> None:
    """List an affiliate's statements, newest first, every version with its hash."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        programs.state(look.cur, look.program_id, program)
        found = periods.statements_of(look.cur, look.program_id, affiliate, limit=limit)
        if not found and look.record(affiliates.key(affiliate)) is None:
            raise NotFound(f"affiliate {affiliate} does not exist")
    if as_json:
        print_json([one._asdict() for one in found])
        return
    rows = [row for one in found for row in _statement_rows(one)]
    headings = ("period", "version", "", "opening", "closing", "paid in it", "lines", "hash")
    print_table(headings, rows, right=(1, 3, 4, 5, 6))


def _statement_rows(one: Issued) -> Iterator[Sequence[str]]:
    """A row a currency: what is owed in all, before and after."""
    for section in one.sections:
        paid = section.closing.paid - section.opening.paid
        amounts = (owed(section.opening), owed(section.closing), paid)
        shown = (major(amount, section.currency) for amount in amounts)
        yield one.period, str(one.version), section.currency, *shown, f"{section.line_count:,}", one.hash


@click.command()
@click.argument("period")
@program_option
@click.option("--affiliate", required=True, metavar="ID", help="Whose.")
@click.option("--format", "format_", type=click.Choice(tuple(FORMATS)), help="Else as FILE's ending says, else JSON.")
@_language_option
@_version_option
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output without.")
def statement(
    period: str,
    program: str,
    affiliate: str,
    format_: str | None,
    language: str,
    version: int | None,
    file: Path | None,
) -> None:
    """Write one statement of PERIOD, proven against its hash. As JSON it is exactly what was hashed."""
    named = file.suffix.removeprefix(".").lower() if file else ""
    format_ = format_ or (named if named in FORMATS else "json")
    with open_service() as service:
        _, made = _rendered(service.ledger, program, affiliate, period, version, format_, language)
    if file is None:
        click.echo(made, nl=False)
        return
    write_whole(file, made)
    note(f"{file}: {len(made):,} bytes, SHA-256 {hashlib.sha256(made).hexdigest()}")


def _rendered(
    ledger: CommissionLedger,
    program: str,
    affiliate: str,
    period: str,
    version: int | None,
    format_: str,
    language: str,
) -> tuple[str, bytes]:
    """(file name, content) of a statement with its affiliate's name. Raises Refusal, click.ClickException."""
    try:
        shown, lines = presenting.open_statement(
            ledger, program, affiliate, period, version, language=language, named=True
        )
    except StatementDiffers as problem:
        raise click.ClickException(str(problem)) from None
    with lines:
        return file_name(shown, format_), b"".join(render(shown, lines, format_))


class _Formats(click.ParamType[tuple[str, ...]]):
    """Formats, separated by commas."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Each once, in their order."""
        found = tuple(dict.fromkeys(value.split(","))) if isinstance(value, str) else tuple(value)
        if unknown := [one for one in found if one not in FORMATS]:
            self.fail(f"{unknown[0]!r} is none of {', '.join(FORMATS)}", param, ctx)
        return found


@click.command("write-statements")
@click.argument("period")
@program_option
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder; made if missing."
)
@click.option("--format", "formats", type=_Formats(), default="pdf", show_default=True, help="Such as pdf,csv.")
@_language_option
@click.option("--keep", is_flag=True, help="Pass over files that are there, so as to go on where it was interrupted.")
def write_statements(
    period: str, program: str, folder: Path, formats: tuple[str, ...], language: str, keep: bool
) -> None:
    """Write every affiliate's statement of PERIOD into a folder, each file whole or not at all.

    A file that is there with the same content is left alone; one with other content is replaced.
    """
    written = kept = 0
    with open_service() as service, Ticker("files") as ticker:
        presenting.find_period(service.ledger, program, period)
        with service.ledger.reading(program) as (cur, id_):
            whose = list(presented.statements_of_period(cur, id_, period))
        folder.mkdir(parents=True, exist_ok=True)
        for affiliate, version in whose:
            for format_ in formats:
                if keep and _named(service.ledger, program, affiliate, period, version, folder, format_).exists():
                    kept += 1
                    continue
                name, made = _rendered(service.ledger, program, affiliate, period, version, format_, language)
                if _has(folder / name, made):
                    kept += 1
                else:
                    write_whole(folder / name, made)
                    written += 1
                ticker.show(written + kept, len(whose) * len(formats))
    click.echo(f"{written:,} files written to {folder}, {kept:,} were there already")


def _named(
    ledger: CommissionLedger, program: str, affiliate: str, period: str, version: int, folder: Path, format_: str
) -> Path:
    found = presenting.find_statement(ledger, program, affiliate, period, version)
    return folder / f"{file_stem(found.head)}.{format_}"


def _has(file: Path, content: bytes) -> bool:
    try:
        return file.stat().st_size == len(content) and file.read_bytes() == content
    except FileNotFoundError:
        return False


# --- tax -------------------------------------------------------------------------------------------------


@click.command("tax-totals")
@click.argument("year", type=click.IntRange(1900, 9998))
@program_option
@click.option(
    "--csv", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write them there, with tax numbers."
)
@json_option
def tax_totals_verb(year: int, program: str, file: Path | None, as_json: bool) -> None:
    """Show what each affiliate was paid in YEAR, by the bank's booking days: the data of a 1099-NEC or DAC7 report."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        zone = programs.state(cur, id_, program).zone
        allow_long(cur)
        made = tax_totals.totals(cur, id_, year, zone)
        if file is not None:
            vault = Vault(cur, service.secrets, id_, service.ledger.clock())
            numbers = tax_totals.tax_numbers(cur, id_, vault.unseal, made)
            write_whole(file, b"".join(tax_totals.csv_file(year, made, numbers)))
            note(f"{len(made):,} rows in {file}; it has tax numbers in the clear")
            return
    if as_json:
        print_json({"year": year, "zone": zone, "items": made})
        return
    fields = ("gross_amount", "vat_amount", "withholding_amount", "transferred_amount")
    rows = [
        (
            one.affiliate_id,
            one.country or "-",
            one.tax_status or "-",
            f"{one.total.payout_count:,}",
            f"{one.total.returned_count:,}",
            one.currency,
            *(major(getattr(one.total, field), one.currency) for field in fields),
        )
        for one in made
    ]
    headings = ("affiliate", "country", "tax status", "payouts", "returned", "")
    print_table((*headings, *(field.removesuffix("_amount") for field in fields)), rows, right=(3, 4, 6, 7, 8, 9))


COMMANDS = (close, reissue, periods_verb, statements_verb, statement, write_statements, tax_totals_verb)
