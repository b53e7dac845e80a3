"""Erasing: proposals and decisions, and the list of erased subjects outside the database that outlives a restore."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from ledger import sql
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain.erasure import DecideErasure, ProposeErasure, ReapplyErasure, SubjectErased
from ledger.domain.errors import Refusal, Unavailable
from ledger.domain.event import Answer, Command
from ledger.store import codec, erased
from ledger.store.database import StartupRefused
from ledger.store.erased import Erased
from ledger.store.log import Rows

QUERIES = sql.load("ledger", "erasing.sql")


def propose(ledger: CommissionLedger, program: str, command: ProposeErasure, meta: Meta) -> Answer:
    """Propose an erasure. Raises Refusal."""
    return _alone(ledger, program, command, meta)


def decide(ledger: CommissionLedger, program: str, command: DecideErasure, meta: Meta, file: Path | None) -> Answer:
    """Approve or reject an erasure. file: the list of erased subjects, None where there is no place for one.

    The list is completed once the erasure is committed: a crash in between leaves that to the next approval or to
    the worker. Raises Refusal; Unavailable when the list cannot be written, though the subject is erased.
    """
    answer = _alone(ledger, program, command, meta)
    if command.approve and file is not None:
        try:
            note_erased(ledger, program, file)
        except (OSError, StartupRefused):
            raise Unavailable(
                f"{command.subject} is erased, but the list of erased subjects outside the database cannot be written:"
                " a restored backup would not know of it. Make room for the list, and send the same again"
            ) from None
    return answer


def note_erased(ledger: CommissionLedger, program: str, file: Path) -> int:
    """Complete the list from a program's log. Returns how many entries were added or moved. Raises StartupRefused,
    OSError."""
    with ledger.reading(program) as (cur, id_):
        found = erased_in_log(cur, id_)
    return erased.note(file, program, found)


def reapply(ledger: CommissionLedger, program: str, subjects: dict[str, str], meta: Meta) -> None:
    """Record in restored books which erasures they lack. subjects: subject → ground. Raises Refusal."""
    for subject, ground in sorted(subjects.items()):
        _alone(ledger, program, ReapplyErasure(subject=subject, ground=ground), meta)


def erased_in_log(cur: Rows, program_id: UUID) -> dict[str, Erased]:
    """Every subject that a program's books say was erased."""
    cur.execute(QUERIES["select_erased"], {"program_id": program_id})
    found: dict[str, Erased] = {}
    for position, leaf_hash, recorded_at, topic, state in cur:
        body = codec.decode_state(topic, state)
        assert isinstance(body, SubjectErased)
        found[body.subject] = Erased(position, bytes(leaf_hash).hex(), recorded_at, body.ground)
    return found


def _alone(ledger: CommissionLedger, program: str, command: Command, meta: Meta) -> Answer:
    """In a batch of its own: what is open is asked of tables, which say nothing of a batch under way."""
    outcome = ledger.execute_many(program, [command], meta)[0]
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome
