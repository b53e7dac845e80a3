"""The fence of a program's jobs: a number that only rises, and that every commit of a job looks at.

Whoever takes over from a worker raises it, so that a worker which was frozen meanwhile, and still believes that the
work is its own, cannot commit anything any more (Kleppmann, "How to do distributed locking", 2016: fencing tokens).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from ledger.store.log import Rows


class GuardRefused(Exception):
    """A guard refused the transaction: nothing of it was committed, and the same again would be refused, too."""


class StaleLease(GuardRefused):
    """Another worker has taken over; nothing of this transaction was committed."""


def take(cur: Rows, program_id: UUID, holder: str, taken_at: datetime) -> int:
    """Raise a program's fence and return it. Waits for the transactions that the last holder has under way."""
    cur.execute(
        "INSERT INTO job_leases (program_id, fence, holder, taken_at) VALUES (%s, 1, %s, %s)"
        " ON CONFLICT (program_id) DO UPDATE SET fence = job_leases.fence + 1, holder = EXCLUDED.holder,"
        " taken_at = EXCLUDED.taken_at RETURNING fence",
        (program_id, holder, taken_at),
    )
    row = cur.fetchone()
    assert row is not None
    return int(row[0])


def check(cur: Rows, program_id: UUID, fence: int) -> None:
    """Hold the fence where it is until the transaction ends. Raises StaleLease when it has risen."""
    cur.execute("SELECT fence FROM job_leases WHERE program_id = %s FOR SHARE", (program_id,))
    row = cur.fetchone()
    if row is None or row[0] != fence:
        raise StaleLease("another worker has taken over this program's jobs")
