"""What every report has: a head that an auditor can rely on (AS 1105.10: what a company produces is evidence once its
completeness and accuracy can be tested), rows, and control totals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from ledger import sql
from ledger.application import CommissionLedger
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.period import span_of
from ledger.jobplan import JobPlan
from ledger.projections import periods, programs
from ledger.store import log
from ledger.store.database import allow_long
from ledger.store.log import Rows
from ledger.version import code_version

QUERIES = sql.load("ledger.reports", "reports.sql")


class Asked(NamedTuple):
    """What somebody wants to know. since, until: instants of recording (of happening, in the channel report), from and
    before; days: see the report; offer: only of this one."""

    period: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    days: int | None = None
    offer: str | None = None


class Scope(NamedTuple):
    """Where a report looks. position: the log's last when it began; whatever came later is left out."""

    ledger: CommissionLedger
    cur: Rows
    program_id: UUID
    program: str
    zone: str
    position: int
    now: datetime
    plan: JobPlan
    asked: Asked

    def positions(self) -> tuple[int, int]:
        """(behind, up to): the positions recorded in the span that was asked for; without one, all."""
        since, until = self.span()
        first = 0 if since is None else _before(self, since)
        last = self.position if until is None else min(self.position, _before(self, until))
        return first, last

    def span(self) -> tuple[datetime | None, datetime | None]:
        """From and before: those that were given, or the period's. Raises NotFound for a period that is neither a
        month, a week, nor closed."""
        if self.asked.period is None:
            return self.asked.since, self.asked.until
        cut = periods.cut(self.cur, self.program_id, self.asked.period)
        if cut is not None:
            return cut.starts_at, cut.ends_at
        span = span_of(self.asked.period, self.zone)
        if span is None:
            raise NotFound(f"period {self.asked.period} is not closed")
        return span.starts_at, span.ends_at


def _before(scope: Scope, instant: datetime) -> int:
    """The last position recorded before an instant."""
    return log.position_at(scope.cur, scope.program_id, "books", instant.astimezone(UTC) - datetime.resolution)


class Made(NamedTuple):
    """What a report found. findings: how many of its rows are something to look into; totals: what it adds up to."""

    rows: Sequence[Mapping[str, Any]]
    totals: dict[str, Any]
    findings: int
    parameters: dict[str, Any] = {}


class Report(NamedTuple):
    """A report that can be asked for. rule: how its rows are found; takes: which of period, from, until, days and offer
    it understands; days_are_a_span: `days` says when it begins, as a period does; in_words: a row for people, by
    headings; money_totals: control totals in minor units by currency."""

    name: str
    rule: str
    takes: tuple[str, ...]
    columns: tuple[str, ...]
    make: Callable[[Scope], Made]
    days_are_a_span: bool = False
    in_words: Callable[[Mapping[str, Any]], dict[str, str]] | None = None
    money_totals: tuple[str, ...] = ()


class CheckpointSeen(Struct):
    """The newest sealed checkpoint of the books. root: hex."""

    size: int
    root: str
    sealed_at: datetime


class Head(Struct, kw_only=True):
    """as_of_position: the last position of the books that was looked at, recorded at as_of; row_count: of rows;
    finding_count: of those to look into. checkpoint None: the books were never sealed."""

    report: str
    program: str
    parameters: dict[str, Any]
    rule: str
    code_version: str
    generated_at: datetime
    as_of_position: int
    as_of: datetime | None
    row_count: int
    finding_count: int
    control_totals: dict[str, Any]
    checkpoint: CheckpointSeen | None


class Document(Struct):
    """A report that was made. columns: the fields of its rows, in their order."""

    head: Head
    columns: list[str]
    rows: list[dict[str, Any]]


def make(ledger: CommissionLedger, program: str, report: Report, asked: Asked, plan: JobPlan) -> Document:
    """Make a report. Raises InvalidInput for a parameter that it does not take, NotFound, UnknownProgram."""
    _check(report, asked)
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        position = log.last_position(cur, id_, "books")
        zone = programs.state(cur, id_, program).zone
        scope = Scope(ledger, cur, id_, program, zone, position, ledger.clock(), plan, asked)
        made = report.make(scope)
        head = Head(
            report=report.name,
            program=program,
            parameters=_parameters(scope) | made.parameters,
            rule=report.rule,
            code_version=code_version(),
            generated_at=scope.now,
            as_of_position=position,
            as_of=_recorded_at(scope),
            row_count=len(made.rows),
            finding_count=made.findings,
            control_totals=made.totals,
            checkpoint=_checkpoint(scope),
        )
    rows = [{column: row.get(column) for column in report.columns} for row in made.rows]
    return Document(head, list(report.columns), rows)


def _check(report: Report, asked: Asked) -> None:
    for name, value in _given(asked).items():
        if value is not None and name not in report.takes:
            takes = ", ".join(report.takes) or "no parameter"
            raise InvalidInput(name, f"is not what {report.name} takes: {takes}")
    if asked.period is not None and (asked.since or asked.until):
        raise InvalidInput("period", "goes without from and until")
    if asked.period is not None and asked.days is not None and report.days_are_a_span:
        raise InvalidInput("days", "goes without period")
    if asked.since and asked.until and asked.since >= asked.until:
        raise InvalidInput("until", "must be later than from")
    if asked.days is not None and not 0 <= asked.days <= 36_600:
        raise InvalidInput("days", "must be from 0 to 36600")


def _given(asked: Asked) -> dict[str, Any]:
    """What was asked, by the names that callers use."""
    return {
        "period": asked.period, "from": asked.since, "until": asked.until, "days": asked.days, "offer": asked.offer
    }  # fmt: skip


def _parameters(scope: Scope) -> dict[str, Any]:
    return {name: value for name, value in _given(scope.asked).items() if value is not None}


def _recorded_at(scope: Scope) -> datetime | None:
    params = {"program_id": scope.program_id, "position": scope.position}
    row = scope.cur.execute(QUERIES["select_recorded_at"], params).fetchone()
    return row[0].astimezone(UTC) if row else None


def _checkpoint(scope: Scope) -> CheckpointSeen | None:
    row = scope.cur.execute(QUERIES["select_checkpoint"], {"program_id": scope.program_id}).fetchone()
    return CheckpointSeen(row[0], bytes(row[1]).hex(), row[2].astimezone(UTC)) if row else None
