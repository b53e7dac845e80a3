"""Periods: the months, weeks or custom cuts of a program's calendar, closed one after the other.

A period begins where the one before it ended, so that every instant belongs to exactly one. Days begin at midnight in
the program's zone; where the clocks skip midnight, at the instant that the skipped wall time names (PEP 495, fold 0).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.ids import check_slug
from ledger.domain.view import Needs, View

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
KEY = "calendar:periods"


class PeriodClosed(Event, frozen=True):
    """The period's cut: its statements know the log up to this event's own position, and what happened before
    ends_at. A program's first period takes everything earlier as well; starts_at None: it has no beginning."""

    period: str
    ends_at: datetime
    starts_at: datetime | None = None


class PeriodReissued(Event, frozen=True):
    """A later cut for the last closed period: this event's own position. reason is ciphertext."""

    period: str
    version: int
    reason: str


class StatementTotal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all statements of a period add up to, by currency and bucket: minor units, above zero owed or paid."""

    currency: str
    bucket: str
    opening: int
    closing: int


class StatementsIssued(Event, frozen=True):
    """Every affiliate's statement is out, and their sum was found equal to the books. digest: SHA-256 (hex) of the
    statements' hashes, in the order of affiliate ids, each in hex and followed by a line feed."""

    period: str
    version: int
    statement_count: int
    line_count: int
    totals: list[StatementTotal]
    digest: str


class AffiliateTreesRecorded(Event, frozen=True):
    """Which entries each affiliate has: the events up to cut_position (of the period's version) that moved its money.
    root (hex): over affiliate_count affiliates' trees of entry_count entries in all (docs/statement-proofs.md), so that
    nobody can later be shown fewer."""

    period: str
    version: int
    cut_position: int
    affiliate_count: int
    entry_count: int
    root: str


class ClosedPeriod(Struct):
    """status: closing (statements are being issued) or closed. trees: None for one closed before there were any."""

    period: str
    starts_at: datetime | None
    ends_at: datetime
    version: int = 1
    status: str = "closing"
    issued: StatementsIssued | None = None
    trees: AffiliateTreesRecorded | None = None


class CalendarState(Struct):
    """The closed periods, oldest first."""

    closed: list[ClosedPeriod] = []

    def find(self, period: str) -> ClosedPeriod | None:
        """A closed period by its name."""
        return next((one for one in reversed(self.closed) if one.period == period), None)


def fold(state: CalendarState | None, event: Event) -> CalendarState:
    """CalendarState after an event."""
    state = state or CalendarState([])
    if isinstance(event, PeriodClosed):
        state.closed.append(ClosedPeriod(event.period, event.starts_at, event.ends_at))
        return state
    assert isinstance(event, PeriodReissued | AffiliateTreesRecorded | StatementsIssued)
    one = state.find(event.period)
    if one is None:
        return state
    if isinstance(event, PeriodReissued):
        one.version, one.status, one.trees = event.version, "closing", None
    elif isinstance(event, AffiliateTreesRecorded):
        one.trees = event
    else:
        one.status, one.issued = "closed", event
    return state


def calendar(view: View) -> CalendarState:
    """The program's closed periods."""
    found: CalendarState | None = view.state(KEY)
    return found or CalendarState([])


# --- the calendar ------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """From an instant to the one before another."""

    starts_at: datetime
    ends_at: datetime


def day_start(day: date, zone: str) -> datetime:
    """The first instant of a day in a zone, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def span_of(period: str, zone: str) -> Span | None:
    """What a month ('2026-03') or an ISO week ('2026-W12') spans in a zone; None for a custom period's name.

    Raises InvalidInput for a week that its year does not have.
    """
    if month := _MONTH.fullmatch(period):
        year, number = int(month[1]), int(month[2])
        if not 2 <= year <= 9998:
            raise InvalidInput("period", "must be a month of the years 2 to 9998")
        first = date(year, number, 1)
        following = date(year + number // 12, number % 12 + 1, 1)
    elif week := _WEEK.fullmatch(period):
        try:
            first = date.fromisocalendar(int(week[1]), int(week[2]), 1)
            following = first + timedelta(days=7)
        except (ValueError, OverflowError):
            raise InvalidInput("period", f"{period} is no ISO week: a year has weeks W01 to W52 or W53") from None
    else:
        return None
    return Span(day_start(first, zone), day_start(following, zone))


def month_of(at: datetime, zone: str) -> str:
    """The month an instant belongs to in a zone: '2026-03'."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local.year:04d}-{local.month:02d}"


def following_month(period: str) -> str:
    """'2026-12' → '2027-01'."""
    year, number = int(period[:4]), int(period[5:])
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


# --- commands ----------------------------------------------------------------------------------------------


class ClosePeriod(Command, frozen=True):
    """Freeze a period's cut. ends_at: for a custom period only; months and weeks know their own."""

    name: ClassVar[str] = "close_period"
    period: str
    ends_at: datetime | None = None

    def __post_init__(self) -> None:
        check_slug("period", self.period)
        if self.ends_at is not None:
            force_setattr(self, "ends_at", in_utc("ends_at", self.ends_at))

    def needs(self) -> Needs:
        """The calendar."""
        return Needs([KEY])

    def decide(self, view: View) -> Decision:
        """PeriodClosed, once. Raises InvalidInput, WrongState for a period out of turn or not over yet."""
        assert view.program is not None
        state = calendar(view)
        ends_at = self._ends_at(view.program.zone)
        body = {"period": self.period, "version": 1}
        if (was := state.find(self.period)) is not None:
            if was.ends_at != ends_at:
                raise WrongState(f"period {self.period} is closed already, up to {was.ends_at.isoformat()}")
            return Decision([], Answer("unchanged", body, view.answered_at(KEY, PeriodClosed, period=self.period)))
        starts_at = self._starts_at(state, view.program.zone)
        if starts_at is not None and ends_at <= starts_at:
            raise InvalidInput("ends_at", f"must be later than {starts_at.isoformat()}, where the period begins")
        if ends_at > view.now:
            raise WrongState(f"period {self.period} is not over until {ends_at.isoformat()}")
        closed = PeriodClosed(period=self.period, ends_at=ends_at, starts_at=starts_at)
        return Decision([(KEY, closed)], Answer("recorded", body))

    def _ends_at(self, zone: str) -> datetime:
        span = span_of(self.period, zone)
        if span is None:
            if self.ends_at is None:
                raise InvalidInput(
                    "ends_at", "is required for a custom period; months are named 2026-03, ISO weeks 2026-W12"
                )
            return self.ends_at
        if self.ends_at is not None and self.ends_at != span.ends_at:
            raise InvalidInput("ends_at", f"must be left out: {self.period} ends at {span.ends_at.isoformat()}")
        return span.ends_at

    def _starts_at(self, state: CalendarState, zone: str) -> datetime | None:
        span = span_of(self.period, zone)
        if not state.closed:
            return span.starts_at if span else None
        last = state.closed[-1]
        if last.status != "closed":
            raise WrongState(f"the statements of period {last.period} are not all issued yet: close it again first")
        if span is not None and span.starts_at != last.ends_at:
            raise WrongState(
                f"periods are closed in turn: {last.period} ends at {last.ends_at.isoformat()},"
                f" {self.period} begins at {span.starts_at.isoformat()}",
            )
        return last.ends_at


class ReissuePeriod(Command, frozen=True):
    """A new version of the last closed period's statements, with what was recorded since its cut."""

    name: ClassVar[str] = "reissue_period"
    period: str
    version: int
    reason: str

    def __post_init__(self) -> None:
        check_slug("period", self.period)
        if self.version < 2:
            raise InvalidInput("version", "must be the next version: 2 or more")
        if not self.reason.strip() or len(self.reason) > 2000:
            raise InvalidInput("reason", "is required, at most 2000 characters")

    def needs(self) -> Needs:
        """The calendar."""
        return Needs([KEY])

    def decide(self, view: View) -> Decision:
        """PeriodReissued. Raises NotFound, WrongState when a later period is closed: its statements have the lines."""
        state = calendar(view)
        one = state.find(self.period)
        if one is None:
            raise NotFound(f"period {self.period} is not closed")
        body = {"period": self.period, "version": self.version}
        if one.version == self.version:
            at = view.answered_at(KEY, PeriodReissued, period=self.period, version=self.version)
            return Decision([], Answer("unchanged", body, at))
        if self.version != one.version + 1:
            raise WrongState(f"period {self.period} stands at version {one.version}", version=one.version)
        if one is not state.closed[-1]:
            raise WrongState(f"a later period is closed: what came late stands on the statements after {self.period}")
        if one.status != "closed":
            raise WrongState(f"the statements of period {self.period} are not all issued yet: close it again first")
        reason = view.seal("program", KEY, f"reason.{self.period}.{self.version}", self.reason)
        event = PeriodReissued(period=self.period, version=self.version, reason=reason)
        return Decision([(KEY, event)], Answer("recorded", body))


class RecordAffiliateTrees(Command, frozen=True):
    """Commit to every affiliate's entries up to a version's cut."""

    name: ClassVar[str] = "record_affiliate_trees"
    trees: AffiliateTreesRecorded

    def needs(self) -> Needs:
        """The calendar."""
        return Needs([KEY])

    def decide(self, view: View) -> Decision:
        """AffiliateTreesRecorded, once a version. Raises NotFound, WrongState when another root was recorded, or when
        the statements are all issued."""
        new = self.trees
        one = calendar(view).find(new.period)
        if one is None or one.version != new.version:
            raise NotFound(f"period {new.period} has no version {new.version}")
        body = {"period": new.period, "version": new.version, "root": new.root}
        if one.trees is not None:
            if one.trees != new:
                raise WrongState(f"the entries of period {new.period} are not those that were recorded")
            at = view.answered_at(KEY, AffiliateTreesRecorded, period=new.period, version=new.version)
            return Decision([], Answer("unchanged", body, at))
        if one.status == "closed":
            raise WrongState(f"the statements of period {new.period} are all issued already")
        return Decision([(KEY, new)], Answer("recorded", body))


class FinishClose(Command, frozen=True):
    """Every statement is issued: state what they add up to."""

    name: ClassVar[str] = "finish_close"
    period: str
    version: int
    statement_count: int
    line_count: int
    totals: list[StatementTotal]
    digest: str

    def needs(self) -> Needs:
        """The calendar."""
        return Needs([KEY])

    def decide(self, view: View) -> Decision:
        """StatementsIssued, once. Raises NotFound, WrongState when another digest was stated."""
        one = calendar(view).find(self.period)
        if one is None or one.version != self.version:
            raise NotFound(f"period {self.period} has no version {self.version}")
        body = {"period": self.period, "version": self.version, "statement_count": self.statement_count}
        if one.status == "closed":
            assert one.issued is not None
            if one.issued.digest != self.digest:
                raise WrongState(f"the statements of period {self.period} are not those that were issued")
            at = view.answered_at(KEY, StatementsIssued, period=self.period, version=self.version)
            return Decision([], Answer("unchanged", body, at))
        fields = {field: getattr(self, field) for field in self.__struct_fields__}
        return Decision([(KEY, StatementsIssued(**fields))], Answer("recorded", body))
