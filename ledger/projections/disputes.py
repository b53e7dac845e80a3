"""Disputes as statements and the API need them: is that line on the statement, and what does an affiliate dispute."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from ledger import sql
from ledger.domain import dispute
from ledger.domain.dispute import DisputeState
from ledger.domain.event import Recorded
from ledger.store import log
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "disputes.sql")


class Dispute(NamedTuple):
    """A dispute; its texts are still sealed. position: of its last event."""

    dispute_id: str
    state: DisputeState
    position: int


def line_on_statement(cur: Rows, program_id: UUID, affiliate_id: str, period: str, position: int, line_no: int) -> bool:
    """Whether the journal line (position, line_no) stands on an affiliate's issued statement of a period."""
    params = {
        "program_id": program_id, "affiliate_id": affiliate_id, "period": period, "position": position,
        "line_no": line_no,
    }  # fmt: skip
    row = cur.execute(QUERIES["select_line_on_statement"], params).fetchone()
    return bool(row and row[0])


def of_affiliate(
    cur: Rows,
    program_id: UUID,
    affiliate_id: str,
    *,
    after: str = "",
    limit: int = 100,
    status: str | None = None,
    period: str | None = None,
) -> list[Dispute]:
    """An affiliate's disputes behind an id, in the order of ids."""
    params = {
        "program_id": program_id, "affiliate_id": affiliate_id, "after": after, "limit": limit, "status": status,
        "period": period,
    }  # fmt: skip
    cur.execute(QUERIES["select_of_affiliate"], params)
    ids: dict[UUID, str] = {originator_id: record_id for record_id, originator_id in cur.fetchall()}
    streams: dict[UUID, list[Recorded]] = {id_: [] for id_ in ids}
    for event in log.select_streams(cur, program_id, list(streams)):
        streams[event.originator_id].append(event)
    return [_folded(ids[id_], events) for id_, events in streams.items()]


def _folded(dispute_id: str, events: list[Recorded]) -> Dispute:
    state: DisputeState | None = None
    for event in events:
        state = dispute.fold(state, event.body)
    assert state is not None
    return Dispute(dispute_id, state, events[-1].position)
