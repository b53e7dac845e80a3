"""What a program's opening says, for whoever reads without a decision's view."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from ledger.domain import program
from ledger.domain.ids import stream_id
from ledger.domain.program import ProgramState
from ledger.store import log
from ledger.store.log import Rows, UnknownProgram


def state(cur: Rows, program_id: UUID, name: str) -> ProgramState:
    """A program as it was opened. Raises UnknownProgram."""
    found: ProgramState | None = None
    for event in log.select_streams(cur, program_id, [stream_id(program_id, program.key(name))]):
        found = program.fold(found, event.body)
    if found is None:
        raise UnknownProgram(name)
    return found


def opened_at(cur: Rows, program_id: UUID) -> datetime:
    """When a program was opened. Raises UnknownProgram."""
    cur.execute("SELECT opened_at FROM programs WHERE program_id = %s", (program_id,))
    row = cur.fetchone()
    if row is None:
        raise UnknownProgram(program_id)
    opened: datetime = row[0]
    return opened.astimezone(UTC)
