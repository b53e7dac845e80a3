"""`ledger export --journal`: the books for an accountant's own tool."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ledger.cli.common import major, note, read_some
from ledger.domain.errors import InvalidInput
from ledger.journals.common import Facts, JournalDiffers
from ledger.journals.writing import KINDS, Asked, open_journal
from ledger.service import open_service
from ledger.store.durable import write_pieces

MAPPING_MAX = 1 << 20  # bytes
Verb = TypeVar("Verb", bound=Callable[..., Any])


def options(verb: Verb) -> Verb:
    """The options of a journal."""
    for option in (
        click.option(
            "--opening/--no-opening",
            default=None,
            help="Begin with the balances before the span, so that the file stands alone; csv does not unless said.",
        ),
        click.option(
            "--accounts",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="MAPPING.toml",
            help="The journal's names for our accounts.",
        ),
        click.option("--from", "since", metavar="DAY|INSTANT", help="Where a journal begins; else with the books."),
        click.option("--period", metavar="PERIOD", help="The journal of a closed period, a month or an ISO week."),
        click.option("--journal", type=click.Choice(tuple(KINDS)), help="A general ledger in this form."),
    ):
        verb = option(verb)
    return verb


def export_journal(
    program: str,
    kind: str,
    target: str,
    *,
    period: str | None = None,
    since: str | None = None,
    until: str | None = None,
    accounts: Path | None = None,
    opening: bool | None = None,
) -> None:
    """Write a journal to a file, or to standard output for '-'. Raises click.UsageError, Refusal, JournalDiffers as a
    click.ClickException."""
    if period is not None and (since is not None or until is not None):
        raise click.UsageError("give either --period, or --from and --until")
    file = None if target == "-" else Path(target)
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise click.UsageError(f"--to {file}: must be a file, in a directory that is there")
    mapping = _mapping(accounts) if accounts is not None else None
    asked = Asked(kind, period, since, until, mapping, opening)
    try:
        with open_service() as service, open_journal(service.ledger, program, asked) as made:
            if file is None:
                for piece in made.pieces:
                    click.echo(piece, nl=False)
                sys.stdout.flush()
            else:
                size, digest = write_pieces(file, made.pieces)
                note(f"{file}: {size:,} bytes, SHA-256 {digest}")
            _say(made.facts)
    except JournalDiffers as problem:
        raise click.ClickException(str(problem)) from None


def _mapping(file: Path) -> tuple[str, bytes]:
    content = read_some("--accounts", file, MAPPING_MAX)
    if len(content) > MAPPING_MAX:
        raise InvalidInput("--accounts", f"{file} is larger than {MAPPING_MAX:,} bytes")
    return file.name, content


def _say(facts: Facts) -> None:
    """The control totals, which a CSV has no place for."""
    for one in facts.totals:
        note(
            f"{one.currency}: {one.transaction_count:,} transactions, {one.line_count:,} lines,"
            f" debits = credits = {major(one.amount, one.currency)}"
        )
    note(f"as of position {facts.scope.end.position:,}" + ("" if facts.totals else "; nothing happened in it"))
