"""`ledger export` without --journal: the directory for an auditor."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.audit.directory import Manifest
from ledger.audit.exporting_place import ExportRefused
from ledger.cli.common import Ticker
from ledger.exporting.exporter import Exported, export
from ledger.service import open_service


def export_directory(
    program: str, target: Path, *, format_: str = "ndjson", until: int | None = None, unsealed: bool = False
) -> None:
    """Export a program's logs, balances and statements and say what is there. Raises click.ClickException, Refusal,
    UnknownProgram."""
    with open_service() as service, Ticker() as ticker:
        try:
            exported = export(
                service.ledger, program, target, segments=format_, until=until, unsealed=unsealed, progress=ticker.say
            )
        except ExportRefused as problem:
            raise click.ClickException(str(problem)) from None
    _say(exported, target)


def _say(exported: Exported, target: Path) -> None:
    manifest, what = exported.manifest, f"{exported.manifest.program} in {target}"
    if exported.written:
        click.echo(f"exported {what}: {exported.written:,} of {len(manifest.files):,} files written now")
    else:
        click.echo(f"{what}: all {len(manifest.files):,} files are there and whole; nothing was written")
    for line in _facts(manifest):
        click.echo(f"  {line}")
    if not manifest.sealed:
        click.echo("NOT SEALED: no checkpoint vouches for these logs; `ledger seal` and export again")
    click.echo(f"check it with: ledger verify {target}")


def _facts(manifest: Manifest) -> list[str]:
    facts = []
    for log, end in manifest.logs.items():
        sealed = f", sealed up to {end.checkpoint_size:,}" if end.checkpoint_size else ""
        facts.append(f"{log}: {end.size:,} events{sealed}; root {end.root}")
    totals = manifest.totals
    facts.append(
        f"{totals.accounts:,} accounts, {totals.journal_lines:,} journal lines, {totals.statements:,} statements"
    )
    return facts
