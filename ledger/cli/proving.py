"""Verbs for proof: sealing the logs, showing checkpoints and keys, proving from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from ledger.application import CommissionLedger
from ledger.audit import proofs, sealing
from ledger.audit.keys import KEY_FILE, KEYS, SigningKeys, SigningKeyWrong, add_key, key_file, load_signing_keys
from ledger.audit.tree import SealedCheckpoint, published_note, sealing_keys
from ledger.cli.common import Ticker, json_option, note, print_json, print_table, program_option
from ledger.sealing_job import keys_for
from ledger.service import home_of, open_service, sealed_checkpoints_file
from ledger.store.log import TABLES, Rows, last_position

log_option = click.option(
    "--log", type=click.Choice(list(TABLES)), default="books", show_default=True, help="Which log."
)
POSITIVE = click.IntRange(1, 2**63 - 1)
NO_KEY = (
    f"there is no signing key: set {KEYS} (64 hexadecimal digits) or {KEY_FILE}; `ledger sealing-key new --file FILE`"
    " makes one"
)


@click.command()
@program_option
@click.option("--log", type=click.Choice(list(TABLES)), help="Only this log; both unless said.")
@click.option("--recheck", is_flag=True, help="Read the whole log and compare it with the sealed tree first.")
@json_option
def seal(program: str, log: str | None, recheck: bool, as_json: bool) -> None:
    """Sign a checkpoint over everything that a program has recorded. The worker does so every few seconds.

    A log that does not go on from its last checkpoint is refused, and the position is named.
    """
    done: dict[str, sealing.Sealing] = {}
    with open_service() as service:
        keys = _keys(service.ledger, program)
        for name in [log] if log else TABLES:
            with Ticker(f"{name}: events sealed") as ticker:
                signers = keys.signers(program, name)
                done[name] = sealing.seal(
                    service.ledger, program, name, signers, service.ledger.clock(), recheck=recheck,
                    progress=ticker.show, kept=sealed_checkpoints_file(),
                )  # fmt: skip
    if as_json:
        print_json({name: _summary(one.checkpoint) | {"new": one.events} for name, one in done.items()})
        return
    for name, one in done.items():
        if one.checkpoint is None:
            click.echo(f"{name}: empty")
        else:
            new = f"{one.events:,} new" if one.events else "nothing new"
            click.echo(f"{name}: {one.checkpoint.size:,} events ({new}), root {one.checkpoint.root.hex()}")


def _summary(checkpoint: SealedCheckpoint | None) -> dict[str, object]:
    if checkpoint is None:
        return {"size": 0, "root": None, "sealed_at": None}
    return {"size": checkpoint.size, "root": checkpoint.root.hex(), "sealed_at": checkpoint.sealed_at}


def _keys(ledger: CommissionLedger, program: str) -> SigningKeys:
    keys = keys_for(ledger, program)
    if keys is None:
        raise SigningKeyWrong(NO_KEY)
    return keys


@click.command()
@program_option
@log_option
@click.option("--size", type=POSITIVE, help="Of so many events; the newest unless said.")
def checkpoint(program: str, log: str, size: int | None) -> None:
    """Print a checkpoint: a signed note, exactly as others check it."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, log)
        text = published_note(cur, id_, log, proofs.sealed(cur, id_, log, size))
    click.echo(text, nl=False)


@click.group()
def proof() -> None:
    """Prove something about a log to somebody who trusts only a checkpoint."""


@proof.command("inclusion")
@click.argument("position", type=POSITIVE)
@program_option
@log_option
@click.option("--size", type=POSITIVE, help="In the checkpoint of so many events; the newest unless said.")
def proof_inclusion(position: int, program: str, log: str, size: int | None) -> None:
    """Print a proof (JSON) that the event at POSITION is in the log."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, log)
        print_json(proofs.inclusion(cur, id_, log, position, size))


@proof.command("consistency")
@click.argument("size", type=POSITIVE)
@program_option
@log_option
@click.option("--to", type=POSITIVE, help="The checkpoint of so many events; the newest unless said.")
def proof_consistency(size: int, program: str, log: str, to: int | None) -> None:
    """Print a proof (JSON) that the log still begins with its first SIZE events, unchanged."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, log)
        print_json(proofs.consistency(cur, id_, log, size, to))


@click.group("sealing-key")
def sealing_key() -> None:
    """Make and list the keys that sign checkpoints. Private keys are never shown."""


@sealing_key.command("new")
@click.option(
    "--file", "file", type=click.Path(dir_okay=False, path_type=Path), help="Where; the file in use unless said."
)
def sealing_key_new(file: Path | None) -> None:
    """Make a new key the current one of a file of keys; those that it has go on signing beside it.

    Once everybody knows the new key, delete the last line of the file.
    """
    path = file.absolute() if file else key_file(home_of())
    if path is None or (file is None and os.environ.get(KEYS)):
        raise SigningKeyWrong(f"the keys stand in {KEYS}: name a file with --file, and put its content there"
                              if path else NO_KEY)  # fmt: skip
    add_key(path)
    note(f"{path} has a new signing key; `ledger sealing-key list` shows what it is called")


@sealing_key.command("list")
@program_option
@click.option("--log", type=click.Choice(list(TABLES)), help="Only this log's; both unless said.")
@json_option
def sealing_key_list(program: str, log: str | None, as_json: bool) -> None:
    """List verifier keys: those that will sign next, and all that ever signed."""
    keys = load_signing_keys(home_of(), make=False)
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        rows = [row for name in ([log] if log else TABLES) for row in _keys_of(cur, id_, program, name, keys)]
    if as_json:
        print_json(rows)
        return
    table = [[str(row[name] or "") for name in ("status", "first_size", "last_size", "line")] for row in rows]
    print_table(("status", "first size", "last size", "verifier key"), table, (1, 2))


def _keys_of(cur: Rows, id_: UUID, program: str, log: str, keys: SigningKeys | None) -> list[dict[str, Any]]:
    current = [str(signer.key) for signer in keys.signers(program, log)] if keys else []
    ever = {str(one.key): one for one in sealing_keys(cur, id_, log)}
    rows = []
    for text in [*current, *(text for text in ever if text not in current)]:
        one = ever.get(text)
        rows.append({
            "verifier_key": text,
            "line": one.line() if one else text,
            "status": "current" if current[:1] == [text] else "signs too" if text in current else "retired",
            "first_size": one and one.first_size, "first_at": one and one.first_at, "last_size": one and one.last_size,
        })  # fmt: skip
    return rows


COMMANDS = (seal, checkpoint, proof, sealing_key)
