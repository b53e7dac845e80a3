"""Known positions: how far each log had come, and with which event, written down outside the database.

A log cannot show that its end is missing: a database put back to yesterday is consistent. This file remembers; who
opens the ledger compares. It may lie on another disk or be copied elsewhere (LEDGER_KNOWN_POSITIONS_FILE).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from ledger.domain.ids import program_id
from ledger.store.database import Connection, Pool, StartupRefused
from ledger.store.durable import Memory, alone
from ledger.store.log import TABLES, Rows

FORMAT = 1
FILE_NAME = "known-positions.json"


class Known(Struct, frozen=True):
    """A log's last position when it was noted. leaf_hash: of the event there, hexadecimal; recorded_at: the event's."""

    position: int
    leaf_hash: str
    recorded_at: datetime


class AcceptedLoss(Struct, frozen=True):
    """Somebody restored a backup that ended at `restored` (0: it did not have the program), though `lost_to` was
    known."""

    program: str
    log: str
    restored: int
    lost_to: int
    accepted_at: datetime


class KnownPositions(Struct):
    """The file: program → log → the newest known position; and the losses that were accepted, oldest first."""

    format: int = FORMAT
    positions: dict[str, dict[str, Known]] = {}
    accepted_losses: list[AcceptedLoss] = []

    def each(self) -> Iterator[tuple[str, str, Known]]:
        """(program, log, what is known), in order."""
        for program, logs in sorted(self.positions.items()):
            for log, known in sorted(logs.items()):
                yield program, log, known


_file = Memory("known positions", KnownPositions)
read, write = _file.read, _file.write


class Contradiction(NamedTuple):
    """A log that does not have what is known of it. ends: its last position; found: the leaf hash that it has at the
    known position, None where it ends before."""

    program: str
    log: str
    known: Known
    ends: int
    found: str | None

    def __str__(self) -> str:
        where = f"program {self.program}, {self.log}: position {self.known.position} is known"
        if self.found is None:
            return f"{where} ({self.known.recorded_at:%Y-%m-%dT%H:%M:%SZ}), and the log ends at {self.ends}"
        return f"{where} with leaf hash {self.known.leaf_hash[:16]}…, and the log has {self.found[:16]}… there"


# --- comparing -------------------------------------------------------------------------------------------


def newest(cur: Rows, program: str, log: str) -> Known | None:
    """A log's last event, None when it has none."""
    cur.execute(
        f"SELECT position, leaf_hash, recorded_at FROM {TABLES[log]}"  # noqa: S608
        " WHERE program_id = %s ORDER BY position DESC LIMIT 1",
        (program_id(program),),
    )
    row = cur.fetchone()
    return Known(row[0], bytes(row[1]).hex(), row[2]) if row else None


def latest(cur: Rows) -> dict[str, dict[str, Known]]:
    """Every program's logs that have events, as they are now."""
    cur.execute("SELECT program FROM programs ORDER BY program")
    found: dict[str, dict[str, Known]] = {}
    for (program,) in cur.fetchall():
        logs = {log: last for log in TABLES if (last := newest(cur, program, log)) is not None}
        if logs:
            found[program] = logs
    return found


def contradictions(cur: Rows, known: KnownPositions) -> Iterator[Contradiction]:
    """Every log that ends before its known position, or has another event there. Two index probes a log."""
    for program, log, one in known.each():
        if log not in TABLES:
            raise StartupRefused(f"the known positions name a log {log!r}; there are {', '.join(TABLES)}")
        cur.execute(
            f"SELECT leaf_hash FROM {TABLES[log]} WHERE program_id = %s AND position = %s",  # noqa: S608
            (program_id(program), one.position),
        )
        row = cur.fetchone()
        found = bytes(row[0]).hex() if row else None
        if found != one.leaf_hash:
            last = newest(cur, program, log)
            yield Contradiction(program, log, one, last.position if last else 0, found)


def check(conn: Connection, path: Path | None) -> None:
    """Refuse a database that does not have what is known of it. No file, no objection. Raises StartupRefused."""
    known = read(path)
    if known is None:
        return
    with conn.cursor() as cur:
        _refuse(next(contradictions(cur, known), None), path)


def _refuse(found: Contradiction | None, path: Path | None) -> None:
    if found is None:
        return
    if found.found is None:
        what = "this database is older than what is known of it"
        hint = (
            "restore a newer backup, or, into an empty database, this one with `ledger restore DIR --accept-loss`"
            f" (known positions: {path})"
        )
    else:
        what = "this database has another history than what is known of it"
        hint = f"it is another database, or somebody rewrote it (known positions: {path})"
    raise StartupRefused(f"{what}: {found}; {hint}")


# --- noting ----------------------------------------------------------------------------------------------


def record_known_positions(pool: Pool, path: Path) -> KnownPositions:
    """Note how far every log has come. Never forgets: a database that lacks what is known is refused, not noted.

    Raises StartupRefused, psycopg.Error, OSError.
    """
    with alone(path):
        known = read(path) or KnownPositions()
        with pool.connection() as conn, conn.cursor() as cur:
            _refuse(next(contradictions(cur, known), None), path)
            known.positions = latest(cur)
        write(path, known)
    return known


def accept(path: Path, positions: dict[str, dict[str, Known]], losses: list[AcceptedLoss]) -> None:
    """Start again from these positions; the losses stay in the file for good."""
    with alone(path):
        known = read(path) or KnownPositions()
        write(path, KnownPositions(FORMAT, positions, [*known.accepted_losses, *losses]))
