"""Breaks as people ask about them: a list with age and owner, and how old what is open has become."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from ledger import sql
from ledger.domain import breaks
from ledger.domain.breaks import BreakOpened, BreakReopened, BreakResolved, BreakState
from ledger.domain.event import Recorded
from ledger.store import log
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "breaks.sql")
# The age in days that each bucket of the ageing ends with.
BUCKETS = (("0-7", 7), ("8-30", 30), ("31-90", 90), (">90", None))
ROWS_AT_ONCE = 500


class Break(NamedTuple):
    """A break. opened_at: of its newest opening; age_days: whole days from then until now, or until it was resolved;
    opening: the position of that event, by which lists are sorted; position: of its last event; resolved_by: who
    resolved it, '' while it is open."""

    break_id: str
    state: BreakState
    opened_at: datetime
    age_days: int
    opening: int
    position: int
    resolved_by: str = ""

    def document(self) -> dict[str, Any]:
        """Everything but the sealed texts."""
        state, opened = self.state, self.state.opened
        return {
            "break_id": self.break_id,
            "source": opened.source,
            "type": opened.type,
            "status": state.status,
            "detail": state.detail,
            "affiliate_id": opened.affiliate_id,
            "reference": opened.reference,
            "expected_amount": state.expected_amount,
            "found_amount": state.found_amount,
            "currency": state.currency,
            "occurred_on": opened.occurred_on,
            "owner": state.owner,
            "opened_at": self.opened_at,
            "age_days": self.age_days,
            "resolution": state.resolution,
            "cause": state.cause,
            "resolved_by": self.resolved_by,
            "position": self.position,
        }


def seen(break_id: str, events: list[Recorded], now: datetime) -> Break:
    """A break from its events, in their order."""
    state: BreakState | None = None
    opening = ended = events[0]
    for event in events:
        state = breaks.fold(state, event.body)
        if isinstance(event.body, BreakOpened | BreakReopened):
            opening = event
        elif isinstance(event.body, BreakResolved):
            ended = event
    assert state is not None
    assert opening.recorded_at is not None
    resolved = state.status == "resolved"
    until = ended.recorded_at if resolved and ended.recorded_at else now
    age = max(0, (until - opening.recorded_at).days)
    by = ended.actor if resolved else ""
    return Break(break_id, state, opening.recorded_at, age, opening.position, events[-1].position, by)


def page(
    cur: Rows,
    program_id: UUID,
    now: datetime,
    *,
    after: int = 0,
    limit: int = 100,
    status: str | None = None,
    type_: str | None = None,
) -> list[Break]:
    """Breaks whose newest opening stands behind a position, oldest first."""
    params = {"program_id": program_id, "after": after, "limit": limit, "status": status, "type": type_}
    cur.execute(QUERIES["select_page"], params)
    listed: dict[UUID, tuple[str, int]] = {id_: (break_id, opening) for id_, break_id, opening in cur.fetchall()}
    streams: dict[UUID, list[Recorded]] = {id_: [] for id_ in listed}
    for event in log.select_streams(cur, program_id, list(streams)):
        streams[event.originator_id].append(event)
    # the next page begins behind the place that the directory gave it, whatever happened to the break meanwhile
    return [seen(break_id, streams[id_], now)._replace(opening=opening) for id_, (break_id, opening) in listed.items()]


def every(
    cur: Rows, program_id: UUID, now: datetime, status: str | None = None, type_: str | None = None
) -> Iterator[Break]:
    """All breaks, oldest first, a few at a time."""
    after = 0
    while some := page(cur, program_id, now, after=after, limit=ROWS_AT_ONCE, status=status, type_=type_):
        yield from some
        after = some[-1].opening


def ageing(cur: Rows, program_id: UUID, now: datetime) -> list[dict[str, Any]]:
    """What is open, by source, type, currency and age: how many, and how much they differ by in sum (minor units)."""
    cur.execute(QUERIES["select_ageing"], {"program_id": program_id, "now": now})
    names = ("source", "type", "currency", "age", "count", "amount")
    return [dict(zip(names, row, strict=True)) for row in cur]
