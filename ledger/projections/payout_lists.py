"""Lists about payouts that only people ask for: an affiliate's, and what is open about a run."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ledger import sql
from ledger.domain import breaks
from ledger.domain.event import Recorded
from ledger.domain.ids import BIGINT_MAX, stream_id
from ledger.projections.breaks import Break, seen
from ledger.projections.payouts import PayoutRow
from ledger.store import log
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "payout_lists.sql")
MOST_BREAKS = 1000


class Sent(NamedTuple):
    """A payout and the position at which it was initiated."""

    payout: PayoutRow
    initiated_position: int


def sent_to(cur: Rows, program_id: UUID, affiliate_id: str, before: int = BIGINT_MAX, limit: int = 1000) -> list[Sent]:
    """An affiliate's payouts that were initiated before a position, newest first."""
    params = {"program_id": program_id, "affiliate_id": affiliate_id, "before": before, "limit": limit}
    cur.execute(QUERIES["select_sent"], params)
    return [Sent(PayoutRow(*row[:-1]), row[-1]) for row in cur]


def open_breaks_of_run(cur: Rows, program_id: UUID, run_id: str, now: datetime) -> list[Break]:
    """The open breaks about a run's payouts, at most MOST_BREAKS, oldest first."""
    cur.execute(QUERIES["select_run_break_lines"], {"program_id": program_id, "run_id": run_id, "limit": MOST_BREAKS})
    # A break's id follows from its type and the line; a return that came too early has its payout's instead.
    ids = {
        breaks.id_of("bank", type_, reference)
        for line_id, payout_id in cur.fetchall()
        for type_ in breaks.BANK_TYPES
        for reference in (line_id, payout_id)
    }
    if not ids:
        return []
    cur.execute(QUERIES["select_open_breaks"], {"program_id": program_id, "ids": sorted(ids)})
    by_stream = {stream_id(program_id, breaks.key(break_id)): break_id for (break_id,) in cur.fetchall()}
    events: dict[UUID, list[Recorded]] = {id_: [] for id_ in by_stream}
    for event in log.select_streams(cur, program_id, list(events)):
        events[event.originator_id].append(event)
    return sorted((seen(by_stream[id_], some, now) for id_, some in events.items()), key=lambda one: one.opening)
