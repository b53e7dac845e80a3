"""What a journal is about: the books between two marks.

A mark at an instant is what had happened before it, as far as it was known at the cut of the first closed period that
ends then or later; where none is closed yet, as far as it is known now. So marks only grow, journals of consecutive
spans never share a line nor miss one, and one of a closed period has exactly the lines of its statements.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from ledger import sql
from ledger.domain.errors import InvalidInput
from ledger.domain.period import day_start, span_of
from ledger.projections import periods
from ledger.store import log
from ledger.store.log import Rows

QUERIES = sql.load("ledger.journals", "journals.sql")
_MOMENT = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)


class Mark(NamedTuple):
    """What had happened before an instant (None: whenever), as far as it was known after a position."""

    position: int
    instant: datetime | None


class Scope(NamedTuple):
    """From one mark (None: the beginning) to another. period: the name it was asked by, '' for none; version: of a
    closed period, 0 for what is not closed."""

    zone: str
    start: Mark | None
    end: Mark
    period: str = ""
    version: int = 0

    def params(self, program_id: UUID) -> dict[str, Any]:
        """For the queries."""
        start = self.start or Mark(0, None)
        return {
            "program_id": program_id,
            "position": self.end.position,
            "instant": self.end.instant or "infinity",
            "start_position": start.position,
            "start_instant": start.instant or "infinity",
        }

    def is_late(self, effective_at: datetime) -> bool:
        """Whether it happened before the span begins, and was not known when that was cut."""
        return self.start is not None and self.start.instant is not None and effective_at < self.start.instant

    def booked_on(self, effective_at: datetime, recorded_at: datetime) -> date:
        """The day in the program's zone under which an accountant books a line: that on which it happened. What is
        late is booked on the day it was recorded, inside of the span."""
        if not self.is_late(effective_at):
            return self.day_of(effective_at)
        assert self.start is not None
        first, last = self.start.instant or recorded_at, (self.end.instant or _LAST) - _MOMENT
        return self.day_of(min(max(recorded_at, first), last))

    def day_of(self, instant: datetime) -> date:
        """An instant's day in the program's zone."""
        try:
            return instant.astimezone(ZoneInfo(self.zone)).date()
        except OverflowError:  # the zone's day lies outside of the calendar
            return instant.date()

    @property
    def first_day(self) -> date | None:
        """The day with which it begins; None for the beginning of the books."""
        return self.day_of(self.start.instant) if self.start and self.start.instant else None

    @property
    def last_day(self) -> date | None:
        """The last day of which it has something; None where it has no end."""
        return self.day_of(self.end.instant - _MOMENT) if self.end.instant else None


def resolve(
    cur: Rows,
    program_id: UUID,
    zone: str,
    period: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Scope:
    """The scope of a period's name, or from a day or instant until another; all of the books without any of them.

    Raises InvalidInput for a name that says no dates and is not closed, and for an empty span.
    """
    position = log.last_position(cur, program_id, "books")
    if period is not None:
        return _period(cur, program_id, zone, period, position)
    starts_at = instant_of("from", since, zone) if since is not None else None
    ends_at = instant_of("until", until, zone) if until is not None else None
    if starts_at is not None and ends_at is not None and starts_at >= ends_at:
        raise InvalidInput("until", f"must be later than {starts_at.isoformat()}, where it begins")
    start = _mark(cur, program_id, starts_at, position) if starts_at is not None else None
    end = _mark(cur, program_id, ends_at, position) if ends_at is not None else Mark(position, None)
    return Scope(zone, start, end)


def _period(cur: Rows, program_id: UUID, zone: str, period: str, position: int) -> Scope:
    cut = periods.cut(cur, program_id, period)
    if cut is None:
        span = span_of(period, zone)
        if span is None:
            raise InvalidInput(
                "period",
                f"{period} is not closed, and its name does not say when it ends: name a month such as 2026-03 or an"
                " ISO week such as 2026-W12, or give --from and --until",
            )
        start = _mark(cur, program_id, span.starts_at, position)
        return Scope(zone, start, _mark(cur, program_id, span.ends_at, position), period)
    # The first closed period takes everything earlier as well, as its statements do.
    before = Mark(cut.previous_position, cut.starts_at) if cut.previous_period else None
    return Scope(zone, before, Mark(cut.position, cut.ends_at), period, cut.version)


def _mark(cur: Rows, program_id: UUID, instant: datetime, position: int) -> Mark:
    cur.execute(QUERIES["select_mark"], {"program_id": program_id, "instant": instant})
    row = cur.fetchone()
    return Mark(row[0] if row else position, instant)


def instant_of(field: str, text: str, zone: str) -> datetime:
    """A day's first instant in a zone, or the instant that a text names, in UTC. Raises InvalidInput."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return day_start(date.fromisoformat(text), zone)
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(field, f"{text} is no day such as 2026-03-01, and no instant with a zone: 2026-03-01T12:00:00Z")
