"""The verb `verify`: an export, or the proof of a statement, checked without a database and without a network."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click
import msgspec

from ledger.audit import report as reports
from ledger.audit.notes import ED25519, InvalidNote, VerifierKey
from ledger.audit.report import VERIFIED
from ledger.audit.verifying_against import EarlierUnreadable
from ledger.audit.verifying_directory import Request, verify_directory
from ledger.audit.verifying_files import read_small
from ledger.audit.verifying_seals import EndedKey, counting, read_key, read_keys


class _Sealed(msgspec.Struct):
    """As much of a proof as says how long the log was."""

    checkpoint: str


_MODE = 0o600  # the report holds figures of the business


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--key", "given", multiple=True, metavar="VKEY", help="A verifier key (name+hash+key) that counts.")
@click.option(
    "--keys",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of them, one a line. Without --key and --keys those of the export count.",
)
@click.option(
    "--against",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="An earlier export or checkpoint of the same program: what came later must begin with it.",
)
@click.option("--unsealed", is_flag=True, help="Accept an export that nobody signed, as far as it goes.")
@click.option("--by", default="", metavar="NAME", help="Who signs the report off.")
@click.option("--json", "json_to", metavar="FILE", help="Write the report as JSON; - for standard output, alone.")
@click.option("--processes", type=click.IntRange(1, 64), help="That may work at once; all processors unless said.")
def verify(
    path: Path,
    given: tuple[str, ...],
    key_file: Path | None,
    against: tuple[Path, ...],
    unsealed: bool,
    by: str,
    json_to: str | None,
    processes: int | None,
) -> int:
    """Verify PATH, offline: a directory that `ledger export` wrote, or a file that `ledger proof statement` wrote.

    Recomputes hashes, roots, signatures, balances and statements, and replays every event twice. Exit code 0:
    verified; 1: something differs, and the first place is named; 2: wrong usage.
    """
    keys = _keys(given, key_file)
    if not path.is_dir():
        return _verify_file(path, keys, json_to, bool(against or unsealed or by))
    if by and not by.isprintable():
        raise click.UsageError("--by must be a printable name")
    asked = Request(path, keys and _of_both_logs(keys), against, unsealed, by, processes or 0)
    try:
        report = verify_directory(asked)
    except EarlierUnreadable as problem:
        raise click.UsageError(f"--against: {problem}") from None
    if json_to is not None:
        _write(json_to, reports.document(report))
    if json_to != "-":
        click.echo(reports.text(report), nl=False)
    return 0 if report.result == VERIFIED else 1


def _keys(given: tuple[str, ...], key_file: Path | None) -> list[VerifierKey] | None:
    """The auditor's keys, None without any. Raises click.UsageError."""
    if not given and key_file is None:
        return None
    try:
        found = [read_key(one) for one in given]
        if key_file is not None:
            found += read_keys(key_file.read_text())
    except (InvalidNote, UnicodeDecodeError, OSError) as problem:
        raise click.UsageError(f"a key cannot be read: {problem}") from None
    if not found:
        raise click.UsageError(f"--keys: there is no key in {key_file}")
    return found


def _of_both_logs(keys: list[VerifierKey]) -> list[VerifierKey]:
    """A program's logs are signed with one key under two names: whoever trusts it for one log does for the other,
    unless they named that one's key themselves."""
    named = {key.name for key in keys}
    found = list(keys)
    for key in keys:
        program, _, log = key.name.rpartition("/")
        other = {"books": "traffic", "traffic": "books"}.get(log)
        if other and key.algorithm == ED25519 and type(key) is VerifierKey and f"{program}/{other}" not in named:
            found.append(key._replace(name=f"{program}/{other}"))
    return found


def _verify_file(path: Path, keys: list[VerifierKey] | None, json_to: str | None, more: bool) -> int:
    if more:
        raise click.UsageError("--against, --unsealed and --by are for a directory")
    if json_to not in (None, "-"):
        raise click.UsageError("--json - prints the answer about a statement's proof; it is not written to a file")
    # only now: whoever verifies a directory needs nothing of statements' proofs
    files = importlib.import_module("ledger.cli.statement_proof")
    counted = _counting(path, keys) if keys else []
    if keys and not counted:
        click.echo("NO: every key that was given ended before the checkpoint of this proof")
        return 1
    code: int = files.verify_file(path, [str(key) for key in counted], json_to is not None)
    return code


def _counting(path: Path, keys: list[VerifierKey]) -> list[VerifierKey]:
    """The keys that had not ended before a proof's checkpoint; of a file that is no proof, those without an end."""
    try:
        return counting(msgspec.json.decode(read_small(path.resolve()), type=_Sealed).checkpoint, keys)
    except (InvalidNote, msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        return [key for key in keys if not isinstance(key, EndedKey)]


def _write(target: str, content: bytes) -> None:
    if target == "-":
        click.echo(content, nl=False)
        return
    with open(target, "wb", opener=lambda name, flags: os.open(name, flags, _MODE)) as file:
        file.write(content)


COMMANDS = (verify,)
