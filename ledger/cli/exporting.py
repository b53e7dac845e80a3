"""The verb `export`: the log for an auditor, or the books for an accountant's own tool."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from ledger.cli import journals
from ledger.cli.common import program_option

_DIRECTORY_ONLY = ("format_", "unsealed")
_JOURNAL_ONLY = ("period", "since", "accounts", "opening")


@click.command()
@program_option
@click.option(
    "--to",
    "target",
    required=True,
    metavar="PATH",
    help="A directory; with --journal a file, or - for standard output.",
)
@click.option("--format", "format_", type=click.Choice(("ndjson", "parquet")), help="Of the log's segments.")
@click.option(
    "--until",
    metavar="POSITION|INSTANT",
    help="The last position of the log; with --journal where it ends: a day in the program's zone, or an instant.",
)
@click.option("--unsealed", is_flag=True, default=None, help="Export the log although no checkpoint vouches for it.")
@journals.options
def export(
    program: str, target: str, format_: str | None, until: str | None, unsealed: bool | None, **journal: Any
) -> None:
    """Write the whole log into a directory that an auditor verifies offline, or, with --journal, the books as a
    general ledger that an accountant's tool reads.

    A file is written whole or not at all. The same request about a closed period has the same bytes at any time.
    """
    kind = journal.pop("journal")
    if kind is not None:
        archive = {"format_": format_, "unsealed": unsealed}
        _refuse_options(archive, _DIRECTORY_ONLY, "is for the log; a journal's form is --journal's")
        journals.export_journal(program, kind, target, until=until, **journal)
        return
    _refuse_options(journal, _JOURNAL_ONLY, "is for --journal hledger, beancount or csv")
    if until is not None and not re.fullmatch(r"\d{1,18}", until):
        raise click.UsageError(f"--until {until}: must be a position of the log, such as 5000")
    from ledger.cli.exporting_dir import export_directory  # writing a journal needs nothing of what an archive needs

    export_directory(
        program, Path(target), format_=format_ or "ndjson", until=int(until) if until else None, unsealed=bool(unsealed)
    )


_FLAGS = {"format_": "--format", "since": "--from", "opening": "--opening"}


def _refuse_options(given: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """Raises click.UsageError for an option of the other form."""
    for name in names:
        if given.get(name) is not None:
            raise click.UsageError(f"{_FLAGS.get(name, '--' + name)} {why}")


COMMANDS = (export,)
