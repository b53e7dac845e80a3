"""The directory: which records there are and in which state, for lists. The records themselves are their streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from ledger.store.log import Rows

COLUMNS = "program_id, kind, record_id, originator_id, status, type, affiliate_id, position"
VALUES_AT_ONCE = 500


class Entry(NamedTuple):
    """A record. type: an exception's type or a key's role, else ''."""

    kind: str
    record_id: str
    originator_id: UUID
    status: str
    type: str
    affiliate_id: str
    position: int


def store(cur: Rows, program_id: UUID, entries: Sequence[Entry]) -> None:
    """Write or move some entries."""
    for start in range(0, len(entries), VALUES_AT_ONCE):
        part = entries[start : start + VALUES_AT_ONCE]
        values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(part))
        cur.execute(
            f"INSERT INTO directory ({COLUMNS}) VALUES {values}"  # noqa: S608
            " ON CONFLICT (program_id, kind, record_id) DO UPDATE SET status = EXCLUDED.status,"
            " type = EXCLUDED.type, affiliate_id = EXCLUDED.affiliate_id, position = EXCLUDED.position",
            [value for entry in part for value in (program_id, *entry)],
        )


def page(
    cur: Rows,
    program_id: UUID,
    kind: str,
    *,
    after: str = "",
    limit: int = 100,
    status: str | None = None,
    type_: str | None = None,
    affiliate_id: str | None = None,
) -> list[Entry]:
    """Entries of a kind behind a record id, in the order of ids."""
    cur.execute(
        "SELECT kind, record_id, originator_id, status, type, affiliate_id, position FROM directory"
        " WHERE program_id = %(p)s AND kind = %(kind)s AND record_id > %(after)s"
        " AND (%(status)s::text IS NULL OR status = %(status)s) AND (%(type)s::text IS NULL OR type = %(type)s)"
        " AND (%(affiliate)s::text IS NULL OR affiliate_id = %(affiliate)s) ORDER BY record_id LIMIT %(limit)s",
        {
            "p": program_id,
            "kind": kind,
            "after": after,
            "status": status,
            "type": type_,
            "affiliate": affiliate_id,
            "limit": limit,
        },
    )
    return [Entry(*row) for row in cur]


def counts(cur: Rows, program_id: UUID, kind: str) -> list[dict[str, Any]]:
    """How many entries of a kind there are by type and status."""
    cur.execute(
        "SELECT type, status, count(*) FROM directory WHERE program_id = %s AND kind = %s GROUP BY type, status"
        " ORDER BY type, status",
        (program_id, kind),
    )
    return [{"type": type_, "status": status, "count": count} for type_, status, count in cur]
