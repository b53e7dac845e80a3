"""Verbs about exchange rates: a file of them in, and what is recorded."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TextIO

import click
from msgspec.structs import asdict

from ledger import reads
from ledger.cli.common import (
    Instant,
    Ticker,
    json_option,
    meta,
    note,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.domain import money
from ledger.domain.errors import InvalidInput, Refusal
from ledger.domain.event import check_not_ahead
from ledger.domain.rates import MAX_AGE_DAYS, RateRecorded, RateState, RecordRate, key
from ledger.imports.errors import ImportRefused
from ledger.service import Service, open_service
from ledger.store.log import last_position

COLUMNS = ("base", "quote", "rate", "as_of", "source")
AT_ONCE = 1000
SHOWN_MOST = 50  # lines that are wrong


@click.group()
def rates() -> None:
    """Record exchange rates, by which sales in another currency than their plan's are paid."""


class _Line(NamedTuple):
    """A line of the file, and what it says."""

    number: int
    rate: RecordRate


@rates.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@program_option
@operator_option
def rates_import(file: Path, program: str, by: str | None) -> int:
    """Record the rates of FILE: CSV in UTF-8 with the columns base, quote, rate, as_of, source.

    rate: what 1 base costs in quote; as_of: an instant with a zone, or a day, which means its first moment in UTC.
    Where a line cannot be read, or says otherwise than what is recorded, nothing of the file is, and each such line is
    named. The same file again changes nothing. Exit code 1 if a rate is refused.
    """
    who = meta(by)
    lines = _read(file)
    new = 0
    refused: list[tuple[int, str]] = []
    with open_service() as service, Ticker("rates") as ticker:
        # what is there already needs no lock: the same long file again is done in a moment
        todo = _not_there(service, program, file, lines)
        for start in range(0, len(todo), AT_ONCE):
            part = todo[start : start + AT_ONCE]
            outcomes = service.ledger.execute_many(program, [line.rate for line in part], who)
            for line, outcome in zip(part, outcomes, strict=True):
                # only what somebody else recorded since it was looked up
                if isinstance(outcome, Refusal):
                    refused.append((line.number, outcome.message))
                else:
                    new += outcome.outcome == "recorded"
            ticker.show(start + len(part), len(todo))
    _name(file, refused)
    there = len(lines) - new - len(refused)
    click.echo(f"{new:,} recorded, {there:,} were there already, {len(refused):,} refused")
    return 1 if refused else 0


def _name(file: Path, wrong: list[tuple[int, str]]) -> None:
    """Say which lines are wrong, and why."""
    for number, message in wrong[:SHOWN_MOST]:
        note(f"{file}, line {number}: {message}")
    if len(wrong) > SHOWN_MOST:
        note(f"… and {len(wrong) - SHOWN_MOST:,} more lines")


def _not_there(service: Service, program: str, file: Path, lines: list[_Line]) -> list[_Line]:
    """The lines that are not recorded yet. Raises UnknownProgram; ImportRefused once all lines have been named that
    would be refused: what is recorded, or an earlier line, says otherwise, or the rate is of the future."""
    known: dict[str, RateState] = {}
    with reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        for stream in sorted({key(line.rate.base, line.rate.quote) for line in lines}):
            if (found := look.record(stream)) is not None:
                known[stream] = found.state
    new: dict[tuple[str, datetime, str], str] = {}
    todo: list[_Line] = []
    wrong: list[tuple[int, str]] = []
    now = service.ledger.clock()
    for line in lines:
        rate = line.rate
        stream = key(rate.base, rate.quote)
        state = known.get(stream)
        was = state.said(rate.as_of, rate.source) if state else None
        said = was.rate if was is not None else new.setdefault((stream, rate.as_of, rate.source), rate.rate)
        if said != rate.rate:
            pair = f"{rate.base}/{rate.quote} at {rate.as_of:%Y-%m-%d %H:%M} UTC"
            whose = "is recorded as" if was is not None else "was, further up,"
            wrong.append((line.number, f"rate: {pair} of {rate.source} {whose} {said}, not {rate.rate}"))
        elif was is None and (problem := _ahead(rate, now)):
            wrong.append((line.number, problem))
        elif was is None:
            todo.append(line)
    if wrong:
        _name(file, wrong)
        raise ImportRefused(f"{file}: {len(wrong):,} of its lines cannot be recorded; nothing was recorded")
    return todo


def _ahead(rate: RecordRate, now: datetime) -> str:
    try:
        check_not_ahead("as_of", rate.as_of, now)
    except InvalidInput as problem:
        return problem.message
    return ""


def _read(file: Path) -> list[_Line]:
    """Every line of the file. Raises ImportRefused once all that are wrong have been named."""
    good: list[_Line] = []
    wrong: list[tuple[int, str]] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            for number, row in _rows(file, opened):
                try:
                    good.append(_Line(number, _rate(row)))
                except InvalidInput as problem:
                    wrong.append((number, problem.message))
    except csv.Error as problem:
        raise ImportRefused(f"{file}: is not well-formed CSV: {problem}") from None
    except UnicodeDecodeError:
        raise ImportRefused(f"{file}: is not UTF-8") from None
    if wrong:
        _name(file, wrong)
        raise ImportRefused(f"{file}: {len(wrong):,} of its lines cannot be read; nothing was recorded")
    return good


def _rows(file: Path, opened: TextIO) -> Iterator[tuple[int, dict[str, str] | None]]:
    """(number of the line, its columns by name; None for a line of another width). Raises ImportRefused."""
    # strict: an open quotation mark would otherwise swallow the rest of the file as one field
    reader = csv.reader(opened, strict=True)
    heading = next(reader, [])
    if sorted(heading) != sorted(COLUMNS):
        raise ImportRefused(f"{file}, line 1: must name the columns {','.join(COLUMNS)}")
    for row in reader:
        if row:  # an empty line, as some programs leave at the end
            yield reader.line_num, dict(zip(heading, row, strict=True)) if len(row) == len(heading) else None


def _rate(row: dict[str, str] | None) -> RecordRate:
    """What a line says. Raises InvalidInput naming the column."""
    if row is None:
        raise InvalidInput("line", f"must have the {len(COLUMNS)} columns that the heading names")
    try:
        as_of = Instant().convert(row["as_of"], None, None)
    except click.BadParameter as problem:
        raise InvalidInput("as_of", problem.message) from None
    return RecordRate(base=row["base"], quote=row["quote"], rate=row["rate"], as_of=as_of, source=row["source"])


@rates.command("list")
@program_option
@click.option("--base", metavar="CODE", help="Of which currency one unit is priced (ISO 4217).")
@click.option("--quote", metavar="CODE", help="In which currency (ISO 4217).")
@json_option
def rates_list(program: str, base: str | None, quote: str | None, as_json: bool) -> None:
    """List the recorded rates from one currency to another, the newest as_of first.

    Without --base and --quote: every pair with its newest rate, and how old that is. One older than 7 days prices
    nothing.
    """
    if (base is None) != (quote is None):
        raise click.UsageError("--base and --quote go together")
    if base is None or quote is None:
        _list_pairs(program, as_json)
        return
    money.exponent("--base", base)
    money.exponent("--quote", quote)
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = look.record(key(base, quote))
    said: list[RateRecorded] = found.state.rates[::-1] if found else []
    if as_json:
        print_json([asdict(one) for one in said])
        return
    table = [(f"{one.as_of:%Y-%m-%d %H:%M}", one.rate, one.source) for one in said]
    print_table(("as of (UTC)", f"1 {base} in {quote}", "source"), table)


def _list_pairs(program: str, as_json: bool) -> None:
    newest: list[RateRecorded] = []
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        after = ""
        while found := look.records("rate", after, AT_ONCE):
            newest += [one.state.rates[-1] for one in found]
            after = found[-1].record_id
        now = service.ledger.clock()
    if as_json:
        print_json([asdict(one) for one in newest])
        return
    table = []
    for one in newest:
        days = max(0, (now - one.as_of).days)
        still = "" if now - one.as_of <= timedelta(days=MAX_AGE_DAYS) else "too old: prices nothing"
        table.append((f"{one.base}/{one.quote}", one.rate, f"{one.as_of:%Y-%m-%d %H:%M}", str(days), one.source, still))
    print_table(("pair", "newest rate", "as of (UTC)", "days old", "source", ""), table, (1, 3))


COMMANDS = (rates,)
