"""When a job should have run and did not, and the attempts that failed or were lost."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ledger.jobs import EPOCH, JOBS, Job, due_at
from ledger.projections import programs
from ledger.reports.report import QUERIES, Made, Report, Scope

DAYS = 31
_WHEN_WAITING = [job.name for job in JOBS if job.waiting_since is not None]


class _Run(NamedTuple):
    """An attempt. outcome None: nothing was heard of its end."""

    due_at: datetime
    attempt: int
    outcome: str | None
    worker: str
    started_at: datetime
    finished_at: datetime | None


def _make(scope: Scope) -> Made:
    since, until = _span(scope)
    runs = _runs(scope, since, until)
    rows: list[dict[str, Any]] = []
    totals: dict[str, Any] = {}
    for job in JOBS:
        interval = scope.plan.interval(scope.program, job)
        # a job that runs only when something waits leaves no trace of the times when nothing did
        if interval is not None and job.waiting_since is None:
            gaps, expected, done = _gaps(job, interval, since, until, runs[job.name])
            rows += gaps
            totals[job.name] = {"due": expected, "done": done, "interval_seconds": int(interval.total_seconds())}
        rows += _failures(job.name, runs[job.name])
    rows.sort(key=lambda row: (row["first_due_at"], row["job"], row["attempt"] or 0))
    missed = sum(row["due_times"] for row in rows if row["what"] == "no run")
    parameters = {"from": since, "until": until}
    return Made(rows, {"missed_due_times": missed, "jobs": totals}, len(rows), parameters)


def _span(scope: Scope) -> tuple[datetime, datetime]:
    """From and before; without any, the last month. A program has no due times before it was opened."""
    since, until = scope.span()
    until = min(until or scope.now, scope.now)
    since = since or until - timedelta(days=DAYS if scope.asked.days is None else scope.asked.days)
    return max(since, programs.opened_at(scope.cur, scope.program_id)), until


def _runs(scope: Scope, since: datetime, until: datetime) -> dict[str, list[_Run]]:
    params = {"program_id": scope.program_id, "since": since, "until": until}
    scope.cur.execute(QUERIES["select_runs"], params)
    found: dict[str, list[_Run]] = defaultdict(list)
    for job, due, attempt, outcome, worker, started_at, finished_at, _ in scope.cur:
        ended = finished_at and finished_at.astimezone(UTC)
        found[job].append(_Run(due.astimezone(UTC), attempt, outcome, worker, started_at.astimezone(UTC), ended))
    return found


def _due_times(interval: timedelta, since: datetime, until: datetime) -> Iterator[datetime]:
    """Due times from an instant on that are over: the newest one may still be run."""
    at = due_at(since, interval)
    if at < since:
        at += interval
    while at + interval <= until:
        yield at
        at += interval


def _gaps(
    job: Job, interval: timedelta, since: datetime, until: datetime, runs: Iterable[_Run]
) -> tuple[list[dict[str, Any]], int, int]:
    """(a row for each stretch of due times without a finished run, how many were due, how many done)."""
    done = {run.due_at for run in runs if run.outcome == "done"}
    in_order = sorted(done)
    rows: list[dict[str, Any]] = []
    expected = 0
    for due in _due_times(interval, since, until):
        expected += 1
        if due in done:
            continue
        if rows and rows[-1]["last_due_at"] == due - interval:
            rows[-1]["last_due_at"] = due
            rows[-1]["due_times"] += 1
        else:
            rows.append(_row(job.name, "no run", due))
    for row in rows:
        # a job does all that is due by then, so what was missed was done at the next due time that ran
        behind = bisect_right(in_order, row["last_due_at"])
        row["made_up_at"] = in_order[behind] if behind < len(in_order) else None
    return rows, expected, len(done)


def _failures(job: str, runs: Iterable[_Run]) -> list[dict[str, Any]]:
    return [
        _row(job, run.outcome or "not ended", run.due_at)
        | {"attempt": run.attempt, "worker": run.worker, "started_at": run.started_at, "finished_at": run.finished_at}
        for run in runs
        if run.outcome != "done"
    ]


def _row(job: str, what: str, due: datetime) -> dict[str, Any]:
    return {
        "job": job,
        "what": what,
        "first_due_at": due,
        "last_due_at": due,
        "due_times": 1,
        "made_up_at": None,
        "attempt": None,
        "worker": "",
        "started_at": None,
        "finished_at": None,
    }


REPORT = Report(
    name="job-gaps",
    rule=(
        f"Due times (whole intervals since {EPOCH:%Y-%m-%d}, by the intervals now in force) of each job that is on,"
        " over when the report was made, without a run that was done: a row for each unbroken stretch, and the next due"
        " time that was done, which makes up for it. Jobs that run only when something waits"
        f" ({', '.join(_WHEN_WAITING)}) have no due times to miss. Then, of every job, each attempt that failed, was"
        " stopped, was lost with its worker or has not ended. Without from or period: the last `days` days (31 unless"
        " said)."
    ),
    takes=("period", "from", "until", "days"),
    columns=(
        "job", "what", "first_due_at", "last_due_at", "due_times", "made_up_at", "attempt", "worker", "started_at",
        "finished_at",
    ),
    make=_make,
    days_are_a_span=True,
)  # fmt: skip
