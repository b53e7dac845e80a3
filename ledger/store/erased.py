"""Erased subjects: who was erased, written down outside the database.

A backup that is older than an erasure holds the subject's key. This file remembers, beside the known positions: a
restore destroys these keys again, and a database in which one of them is alive does not serve. It never forgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from uuid import UUID

from msgspec import Struct

from ledger.domain.ids import program_id
from ledger.store.database import Connection, StartupRefused
from ledger.store.durable import Memory, alone
from ledger.store.log import Rows
from ledger.store.vault import alive_keys, erase_subject

FORMAT = 1
_ALL = 2_000_000_000  # programs


class Erased(Struct, frozen=True):
    """Where the books say that a subject was erased. leaf_hash: of the SubjectErased there, hexadecimal."""

    position: int
    leaf_hash: str
    recorded_at: datetime
    ground: str


class ErasedSubjects(Struct):
    """The file: program → subject → its erasure."""

    format: int = FORMAT
    programs: dict[str, dict[str, Erased]] = {}


_file = Memory("erased subjects", ErasedSubjects)
read = _file.read_or_new


def file_beside(known_positions: Path) -> Path:
    """The file's place, from that of the known positions: known-positions.json → known-positions.erased.json."""
    return known_positions.with_name(f"{known_positions.stem}.erased.json")


def note(path: Path, program: str, found: Mapping[str, Erased]) -> int:
    """Add some subjects of a program, durably. Returns how many were new or stand elsewhere in the log than was noted.
    Raises StartupRefused, OSError."""
    if not found:
        return 0
    with alone(path):
        said = read(path)
        subjects = said.programs.setdefault(program, {})
        changed = {subject: one for subject, one in found.items() if subjects.get(subject) != one}
        if changed:
            subjects.update(changed)
            _file.write(path, said)
    return len(changed)


def check(conn: Connection, path: Path | None) -> None:
    """Destroy the key of a subject that is alive again though the file, or the books themselves, say that it was
    erased, such as one that somebody put back by hand. Two statements a program, and one for its file entries.

    Raises StartupRefused where the database does not have the erasure itself: it is older, or another one, and what
    to do about that is a person's to say.
    """
    for program, subjects in sorted(read(path).programs.items()):
        id_ = program_id(program)
        with conn.cursor() as cur:
            for subject in alive_keys(cur, id_, subjects):
                one = subjects[subject]
                if _leaf_hash(cur, program, one.position) != one.leaf_hash:
                    raise StartupRefused(
                        f"the key of {subject} of program {program} is alive, which was erased at position"
                        f" {one.position} ({one.recorded_at:%Y-%m-%dT%H:%M:%SZ}); this database does not have that"
                        " event: it is older, or another one. `ledger restore` brings a backup back without such keys"
                        f" (erased subjects: {path})"
                    )
                erase_subject(cur, id_, subject)
    with conn.cursor() as cur:
        cur.execute("SELECT program_id, program FROM programs ORDER BY program LIMIT %s", (_ALL,))
        for id_, _ in cur.fetchall():
            # the file may have been lost with its disk, or never been written
            for subject in alive_keys(cur, id_, _erased_in_books(cur, id_)):
                erase_subject(cur, id_, subject)


def _erased_in_books(cur: Rows, id_: UUID) -> list[str]:
    """Every subject whose erasure stands in a program's books; the index book_events_decisions finds them."""
    cur.execute(
        "SELECT DISTINCT state::jsonb ->> 'subject' FROM book_events WHERE program_id = %s AND topic = 'SubjectErased'",
        (id_,),
    )
    return [subject for (subject,) in cur]


def _leaf_hash(cur: Rows, program: str, position: int) -> str:
    cur.execute(
        "SELECT leaf_hash FROM book_events WHERE program_id = %s AND position = %s", (program_id(program), position)
    )
    row = cur.fetchone()
    return bytes(row[0]).hex() if row else ""
