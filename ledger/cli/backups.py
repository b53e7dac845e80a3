"""Verbs about backups: taking and restoring them, and the known positions that a restored database is held to."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ledger import erasing
from ledger.backup.manifest import read as read_manifest
from ledger.backup.restoring import Choice
from ledger.backup.restoring import restore as restore_backup
from ledger.backup.taking import take_backup
from ledger.cli.common import (
    Ticker,
    json_option,
    meta,
    note,
    operator_option,
    print_json,
    print_table,
    program_option,
)
from ledger.domain.restore import ConfirmBankMatched
from ledger.service import erased_subjects_file, known_positions_file, open_service
from ledger.store import known

directory_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.command()
@directory_argument
@click.option("--without-vault", is_flag=True, help="Leave the keys of personal data out.")
@json_option
def backup(directory: Path, without_vault: bool, as_json: bool) -> None:
    """Back the whole database up into DIR (new, or empty), as the owner role, while reading and writing go on.

    DIR gets ledger.dump (everything but the keys of personal data), vault.dump (those keys) and manifest.json, all of
    one instant. The master key is never in it: keep it elsewhere.
    """
    with Ticker("") as ticker:
        made, digest = take_backup(os.environ, directory, with_vault=not without_vault, progress=ticker.say)
    note("the master key is not in the backup: without it, personal data and access keys are lost. Keep it elsewhere")
    if as_json:
        print_json({"directory": str(directory), "manifest_sha256": digest, "manifest": made})
        return
    table = [
        (p.program, log, f"{end.position:,}", end.leaf_hash[:16]) for p in made.programs for log, end in p.logs.items()
    ]
    print_table(("program", "log", "last position", "leaf hash"), table, right=(2,))
    for name, file in made.files.items():
        click.echo(f"{name}: {file.bytes:,} bytes, SHA-256 {file.sha256}")
    click.echo(f"backed up to {directory}; SHA-256 of its manifest.json: {digest}")


@click.command()
@directory_argument
@click.option("--vault", type=click.Path(path_type=Path), metavar="DIR", help="Take vault.dump from another backup.")
@click.option("--without-vault", is_flag=True, help="Restore no keys of personal data: it stays unreadable for good.")
@click.option("--accept-loss", is_flag=True, help="Go on though more is known than the backup has; this is recorded.")
@operator_option
@json_option
def restore(
    directory: Path, vault: Path | None, without_vault: bool, accept_loss: bool, by: str | None, as_json: bool
) -> None:
    """Restore the backup in DIR into an empty database, as the owner role, and prove it.

    Every event is held against its hash, the manifest and the known positions, the books against a replay of the log.
    Payouts stay blocked until `ledger bank-matched`.

    It must be the first verb in a new LEDGER_HOME, with the old master.key copied there: any other makes a database,
    and a new key.
    """
    if vault is not None and without_vault:
        raise click.UsageError("--vault and --without-vault exclude each other")
    file = known_positions_file()
    if file is None or not file.exists():
        note(f"there are no known positions ({file or 'LEDGER_KNOWN_POSITIONS_FILE'}): nothing says how old this is")
    if not without_vault and vault is None and read_manifest(directory).subject_keys is None:
        note("the backup was taken without the keys of personal data: it will stay unreadable")
    choice = Choice(vault, not without_vault, accept_loss)
    with Ticker("") as ticker:
        restored = restore_backup(os.environ, directory, choice, meta(by), ticker.say)
    if as_json:
        print_json([one._asdict() for one in restored])
        return
    for one in restored:
        click.echo(
            f"{one.program}: books to position {one.positions['books']:,}, clicks to {one.positions['traffic']:,}:"
            " every hash and the books are proven"
        )
        if one.erased:
            stay = "1 erased subject stays" if len(one.erased) == 1 else f"{len(one.erased)} erased subjects stay"
            click.echo(f"{one.program}: {stay} erased: {', '.join(one.erased)}")
        for loss in one.lost:
            click.echo(f"{one.program}: lost of {loss.log}: positions {loss.first:,} to {loss.last:,}")
    click.echo("payouts are blocked until `ledger bank-matched` confirms, for each program, what the bank says")


@click.command("known-positions")
@click.option("--record", is_flag=True, help="Note how far every log has come by now.")
@json_option
def known_positions(record: bool, as_json: bool) -> None:
    """Show, or note, outside the database how far every log has come: a database that has less never serves."""
    file = known_positions_file()
    if file is None:
        raise click.ClickException("set LEDGER_KNOWN_POSITIONS_FILE, or LEDGER_HOME: there is no place for the file")
    if record:
        with open_service() as service:
            found = known.record_known_positions(service.pool, file)
            erased_file = erased_subjects_file()
            if erased_file is not None:
                for name in found.positions:
                    erasing.note_erased(service.ledger, name, erased_file)
    else:
        found = known.read(file) or known.KnownPositions()
    if as_json:
        print_json(found)
        return
    table = [
        (program, log, f"{one.position:,}", f"{one.recorded_at:%Y-%m-%d %H:%M:%S}", one.leaf_hash[:16])
        for program, log, one in found.each()
    ]
    print_table(("program", "log", "position", "recorded at (UTC)", "leaf hash"), table, right=(2,))
    for loss in found.accepted_losses:
        click.echo(
            f"accepted as lost at {loss.accepted_at:%Y-%m-%d %H:%M:%S} UTC: {loss.program}, {loss.log}:"
            f" {loss.restored + 1:,} to {loss.lost_to:,}"
        )
    click.echo(f"noted in {file}" if record else f"from {file}")


@click.command("bank-matched")
@program_option
@click.option("--reason", required=True, metavar="TEXT", help="What was compared with the bank, and what it showed.")
@operator_option
def bank_matched(program: str, reason: str, by: str | None) -> None:
    """Confirm, after a restore, that the books agree with the bank: payouts may go on."""
    with open_service() as service:
        answer = service.ledger.execute(program, ConfirmBankMatched(reason=reason), meta(by))
    click.echo(f"payouts of {program} may go on (position {answer.position:,})")


COMMANDS = (backup, restore, known_positions, bank_matched)
