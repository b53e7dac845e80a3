"""Telling the witnesses: each log's newest checkpoint, to each who has not been told it.

A witness is told outside of any transaction; what it took is written down after it. Told and not written down, it is
told again, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from ledger import sql
from ledger.audit.notes import InvalidNote, VerifierKey, open_checkpoint
from ledger.audit.sealing import Books
from ledger.audit.tree import SealedCheckpoint, StoredTree, newest_checkpoint, sealing_keys
from ledger.audit.witnesses import Refused, Unreached, Witness
from ledger.store.log import TABLES, Rows

QUERIES = sql.load("ledger.audit", "publishing.sql")


class Told(NamedTuple):
    """What became of telling a witness a log's checkpoint of `size` events. outcome: took; unreached (told again
    later); refused (it knows another history: a person must look). reason: '' or why."""

    witness: str
    log: str
    size: int
    outcome: str
    reason: str


class Publication(NamedTuple):
    """The newest checkpoint that a witness took. cosigned: whether it signed for it."""

    log: str
    witness: str
    size: int
    cosigned: bool
    published_at: datetime


def untold(cur: Rows, program_id: UUID, witnesses: Sequence[Witness]) -> list[tuple[Witness, str]]:
    """(witness, log) of each log whose newest checkpoint the witness has not taken."""
    found = []
    for log in TABLES:
        newest = newest_checkpoint(cur, program_id, log)
        if newest is not None:
            found += [(one, log) for one in witnesses if _told(cur, program_id, log, one.name) < newest.size]
    return found


def publish(ledger: Books, program: str, witnesses: Sequence[Witness], clock: Callable[[], datetime]) -> list[Told]:
    """Tell every witness what it lacks. One that fails or refuses does not keep the others from being told."""
    with ledger.reading(program) as (cur, id_):
        waiting = untold(cur, id_, witnesses)
    return [_tell(ledger, program, witness, log, clock) for witness, log in waiting]


def _tell(ledger: Books, program: str, witness: Witness, log: str, clock: Callable[[], datetime]) -> Told:
    with ledger.reading(program) as (cur, id_):
        newest = newest_checkpoint(cur, id_, log)
        known = _told(cur, id_, log, witness.name)
        keys = [one.key for one in sealing_keys(cur, id_, log)]
    assert newest is not None
    if (problem := _not_ours(newest, keys, f"/{program}/{log}")) is not None:
        return Told(witness.name, log, newest.size, "refused", problem)

    def prove(old: int, new: int) -> list[bytes]:
        with ledger.reading(program) as (cur, id_):  # not held while the witness is talked to
            return StoredTree(cur, id_, log, new).consistency_proof(old)

    try:
        cosignatures = witness.tell(newest.note, known, prove)
    except Unreached as unreached:
        return Told(witness.name, log, newest.size, "unreached", unreached.reason)
    except Refused as refused:
        return Told(witness.name, log, newest.size, "refused", str(refused))
    with ledger.writing(program) as (cur, id_):
        cur.execute(
            QUERIES["insert_publication"],
            {
                "program_id": id_,
                "log": log,
                "witness": witness.name,
                "size": newest.size,
                "cosignatures": cosignatures,
                "published_at": clock(),
            },
        )
    return Told(witness.name, log, newest.size, "took", "")


def _not_ours(newest: SealedCheckpoint, keys: list[VerifierKey], ending: str) -> str | None:
    """What keeps a stored checkpoint from being told: nobody outside shall hear of one that was never signed."""
    try:
        said = open_checkpoint(newest.note, keys)
    except InvalidNote as problem:
        return f"the stored checkpoint is not told: {problem}"
    if (said.size, said.root) != (newest.size, newest.root) or not said.origin.endswith(ending):
        return f"the stored checkpoint is not told: its note is of {said.size} events of {said.origin}"
    return None


def publications(cur: Rows, program_id: UUID) -> list[Publication]:
    """How far each witness has been told, of every log."""
    cur.execute(QUERIES["select_publications"], {"program_id": program_id})
    return [
        Publication(log, witness, size, bool(cosignatures), at.astimezone(UTC))
        for log, witness, size, cosignatures, at in cur
    ]


def _told(cur: Rows, program_id: UUID, log: str, witness: str) -> int:
    cur.execute(QUERIES["select_told"], {"program_id": program_id, "log": log, "witness": witness})
    row = cur.fetchone()
    assert row is not None
    return int(row[0])
