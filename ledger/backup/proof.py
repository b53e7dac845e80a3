"""A restored database proves itself: that it holds what the manifest says, event by event, and that its books are
what its log adds up to."""

from __future__ import annotations

from uuid import UUID

from cryptography.exceptions import InvalidTag

from ledger.audit.merkle import CompactRange
from ledger.backup import manifest
from ledger.backup.manifest import QUERIES, BackupRefused, Connection, LogEnd, Manifest, ProgramState, Progress
from ledger.projections.rebuild import clear_old_generations, rebuild
from ledger.store import codec, log
from ledger.store.database import Pool
from ledger.store.vault import Secrets


def prove_rows(conn: Connection, said: Manifest, progress: Progress) -> None:
    """Every event of every program against its leaf hash and the manifest; the derived tables by their numbers of
    rows. conn: the owner's, inside a transaction. Raises BackupRefused naming program, log and position."""
    present = dict(conn.execute(QUERIES["select_programs"]).fetchall())
    expected = {program.program_id: program.program for program in said.programs}
    if present != expected:
        differing = sorted({*present.items()} ^ {*expected.items()})
        raise BackupRefused(f"the programs are not those of the manifest: {differing[0][1]} is only in one of them")
    for program in said.programs:
        for name in log.TABLES:
            _prove_log(conn, program, name, progress)
        found = manifest.counts(conn, program.program_id)
        for table, count in program.counts.items():
            if found.get(table) != count:
                raise BackupRefused(
                    f"program {program.program}: {table} has {found.get(table)} rows, the manifest says {count}"
                )


def _prove_log(conn: Connection, program: ProgramState, name: str, progress: Progress) -> None:
    where = f"program {program.program}, {name}"
    said = program.logs.get(name)
    if said is None:
        raise BackupRefused(f"{where}: the manifest does not say where this log ends")
    id_, tree, position, leaf = program.program_id, CompactRange(), 0, b""
    for row in manifest.stream(conn, QUERIES[f"select_rows_of_{name}"], id_):
        position += 1
        if row[0] != position:
            raise BackupRefused(f"{where}: position {position} is missing (the next one is {row[0]})")
        leaf = codec.leaf_hash(log.stored_line(id_, name, row[:-1]))
        if leaf != bytes(row[-1]):
            raise BackupRefused(
                f"{where}, position {position}: the event has leaf hash {leaf.hex()}, stored with it is"
                f" {bytes(row[-1]).hex()}: it was changed"
            )
        tree.add(leaf)
        if position % manifest.ROWS_AT_ONCE == 0:
            progress(f"{where}: events proven", position, said.position)
    _prove_end(where, said, LogEnd(position, leaf.hex(), tree.root().hex()))
    heads = dict(conn.execute(QUERIES["select_heads"], {"program_id": id_}).fetchall())
    if heads.get(name) != position + 1:
        raise BackupRefused(f"{where}: the log ends at {position}, and its head would go on at {heads.get(name)}")


def _prove_end(where: str, said: LogEnd, found: LogEnd) -> None:
    if found.position != said.position:
        raise BackupRefused(f"{where}: the log ends at position {found.position}, the manifest says {said.position}")
    if found.leaf_hash != said.leaf_hash:
        raise BackupRefused(
            f"{where}, position {found.position}: the leaf hash is {found.leaf_hash}, the manifest says"
            f" {said.leaf_hash}: another event stands there"
        )
    if found.root != said.root:
        raise BackupRefused(
            f"{where}: the root over positions 1 to {found.position} is {found.root}, the manifest says {said.root}:"
            " an event was exchanged for another, with a hash of its own"
        )


def prove_books(pool: Pool, owner: Connection, said: Manifest, progress: Progress) -> None:
    """Every program's journal and balances against a replay of its log. Raises BackupRefused naming the first
    difference."""
    for program in said.programs:
        what = f"{program.program}: events replayed"
        report = rebuild(
            pool,
            program.program_id,
            lambda step, what=what: progress(what, step.position, step.last),  # type: ignore[misc]
        )
        if not report.equal:
            raise BackupRefused(
                f"program {program.program}: the books are not what the log adds up to, first at {report.different}"
            )
        clear_old_generations(owner, program.program_id)


def prove_master_key(conn: Connection, secrets: Secrets, programs: list[tuple[str, UUID]]) -> None:
    """That the master key opens the restored keys of personal data. Raises BackupRefused."""
    for program, id_ in programs:
        row = conn.execute(QUERIES["select_a_subject_key"], {"program_id": id_}).fetchone()
        try:
            if row is not None:
                secrets.unwrap(id_, row[0], bytes(row[1]))
        except InvalidTag:
            raise BackupRefused(
                f"the master key here does not open the personal data of program {program}: put the one in place that"
                " belongs to this backup. If it is lost, --without-vault restores the money without the names"
            ) from None
