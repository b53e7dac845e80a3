"""The history of jobs: one row an attempt, claimed before it runs and ended once; auditors read it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from ledger import sql
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "job_runs.sql")
MOST_ATTEMPTS = 5  # at one due time; the next due time does the work that is left
BACKOFF = 4  # each pause before another attempt is so many times the one before

Outcome = Literal["done", "failed", "stopped"]


class Due(NamedTuple):
    """What is to be run once: a job of a program at a due time."""

    program_id: UUID
    job: str
    due_at: datetime


class Claim(NamedTuple):
    """What became of an attempt to claim. attempt: from 1, meaningful if claimed; missed_since: the due time that ran
    last, if others between it and this one were missed."""

    standing: Literal["claimed", "settled", "waiting"]
    attempt: int = 0
    missed_since: datetime | None = None


class JobRun(NamedTuple):
    """An attempt as it is shown. outcome 'running': nothing was heard of its end so far."""

    job: str
    due_at: datetime
    attempt: int
    worker: str
    fence: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    detail: dict[str, Any]


class Place(NamedTuple):
    """Where a page of the history begins: behind this attempt."""

    due_at: datetime
    job: str
    attempt: int


NEWEST = Place(datetime.max.replace(tzinfo=UTC), "", 0)


def claim(cur: Rows, due: Due, interval: timedelta, worker: str, fence: int, now: datetime, pause: timedelta) -> Claim:
    """Claim the next attempt, if one is wanted: none was, or the last one was lost, stopped, or failed a while ago.

    The caller has checked the fence in this transaction and runs no other attempt at this job: one that is not ended
    is of a worker that died or was replaced. interval: between two due times; pause: after the first failure.
    """
    params: dict[str, Any] = {**due._asdict(), "now": now}
    cur.execute(QUERIES["end_lost_runs"], params)
    cur.execute(QUERIES["select_last_attempt"], params)
    last = cur.fetchone()
    attempt = 1
    if last is not None:
        if last[1] == "done" or last[0] >= MOST_ATTEMPTS:
            return Claim("settled")
        if last[1] == "failed" and now < last[2] + pause * BACKOFF ** (last[0] - 1):
            return Claim("waiting")
        attempt = last[0] + 1
    cur.execute(QUERIES["select_due_before"], params)
    before = cur.fetchone()
    cur.execute(
        "INSERT INTO job_runs (program_id, job, due_at, attempt, worker, fence, started_at, finished_at, outcome,"
        " detail) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (*due, attempt, worker, fence, now, None, None, "{}"),
    )
    if cur.rowcount == 0:
        return Claim("settled")
    missed = before is not None and due.due_at - before[0] > interval
    return Claim("claimed", attempt, before[0].astimezone(UTC) if before and missed else None)


def end(cur: Rows, due: Due, attempt: int, now: datetime, outcome: Outcome, detail: Mapping[str, Any]) -> None:
    """An attempt of the caller's has ended; the caller has checked the fence in this transaction."""
    encoded = msgspec.json.encode(detail).decode()
    params = {**due._asdict(), "attempt": attempt, "now": now, "outcome": outcome, "detail": encoded}
    cur.execute(QUERIES["end_run"], params)


def page(cur: Rows, program_id: UUID, after: Place = NEWEST, limit: int = 100, job: str | None = None) -> list[JobRun]:
    """Attempts behind a place, newest due time first; of all jobs, or of one."""
    name = "select_page" if job is None else "select_page_of_job"
    params: dict[str, Any] = {"program_id": program_id, "job": job, "limit": limit}
    cur.execute(QUERIES[name], {**params, "due_at": after.due_at, "after_job": after.job, "attempt": after.attempt})
    return [_shown(*row) for row in cur]


def _shown(*row: Any) -> JobRun:
    job, due_at, attempt, worker, fence, started_at, finished_at, outcome, detail = row
    return JobRun(
        job,
        due_at.astimezone(UTC),
        attempt,
        worker,
        fence,
        started_at.astimezone(UTC),
        finished_at and finished_at.astimezone(UTC),
        outcome or "running",
        msgspec.json.decode(detail),
    )
