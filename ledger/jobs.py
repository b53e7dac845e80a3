"""What the worker runs by itself: the declared jobs, and running one of them once for a program and a due time.

To add a job, write a function (ledger, program, due_at, meta) → counts, and give it a line in JOBS. What is promised:

- The ledger that it is given commits only while this worker holds the program's fence, and stops it between two
  commits when the worker is told to stop. Whatever it writes beside the log goes through `ledger.writing(program)`.
- A run that died half way is run again with the same due_at, and a failed one after a pause: a job must be such that
  running it again only does what is left. After downtime only the newest due time is run, so a job does all that
  is due by then, not the work of one interval.
- due_at is the instant of record: ask the ledger for what is due by it, never the wall clock.
- What it returns is stored for auditors, so it holds counts and ids of runs or periods; nothing personal. Of what it
  raises only the class and the place are kept.
"""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

from ledger import finance_jobs, paying_clicks, publishing_job, sealing_job, simulation_job
from ledger.application import CommissionLedger, Progress
from ledger.audit.sealing import SealRefused
from ledger.desk import Meta
from ledger.domain.ids import program_id
from ledger.projections import job_runs
from ledger.projections.job_runs import Due
from ledger.publishing_job import WitnessRefused
from ledger.store import lease
from ledger.store.database import Pool
from ledger.store.lease import GuardRefused, StaleLease
from ledger.store.log import Rows
from ledger.store.vault import Secrets

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RunJob = Callable[[CommissionLedger, str, datetime, Meta], Mapping[str, Any]]
# (cursor, program_id) → since when there has been something to do, None when there is nothing
WaitingSince = Callable[[Rows, UUID], datetime | None]
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Job:
    """A declared job. interval: between two due times, counted from 1970-01-01T00:00:00Z; on: whether it runs for a
    program of which the jobs file says nothing; waiting_since: asked before a run, which is left out, and stands in
    no history, when nothing waits (for jobs that run often)."""

    name: str
    interval: timedelta
    run: RunJob
    on: bool = True
    waiting_since: WaitingSince | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a job's name is 1-40 of a-z 0-9 -, not {self.name!r}")

    @property
    def actor(self) -> str:
        """Who the log says it was."""
        return f"job.{self.name}"


def due_at(now: datetime, interval: timedelta) -> datetime:
    """The newest due time at an instant: whole intervals since 1970 in UTC, so that no zone's clock change makes one
    twice or never."""
    now = now.astimezone(UTC)  # arithmetic in another zone would go by its wall clock
    return now - (now - EPOCH) % interval


# --- the jobs ----------------------------------------------------------------------------------------------


def _done(work: Iterable[Progress]) -> int:
    done = 0
    for step in work:
        done = step.done
    return done


def attribute_waiting(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Attribute the conversions whose click has come, or whose wait for it has ended."""
    return {"decided": _done(ledger.attribute_waiting(program, due_at, meta))}


def approve_due(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Approve the commissions whose hold has ended."""
    return {"approved": _done(ledger.approve_due(program, due_at, meta))}


JOBS: tuple[Job, ...] = (
    Job("attribute-waiting", timedelta(minutes=10), attribute_waiting),
    Job("approve-due", timedelta(hours=1), approve_due),
    Job(paying_clicks.NAME, timedelta(hours=1), paying_clicks.pay),
    Job(
        simulation_job.NAME,
        timedelta(seconds=10),
        simulation_job.work,
        waiting_since=simulation_job.waiting_since,
    ),
    Job("resume", timedelta(minutes=10), finance_jobs.resume),
    Job("send-notices", timedelta(minutes=10), finance_jobs.send_notices),
    Job("record-known-positions", timedelta(minutes=10), finance_jobs.record_known_positions),
    Job("remind-open-breaks", timedelta(days=1), finance_jobs.remind_open_breaks),
    Job(sealing_job.NAME, timedelta(seconds=10), sealing_job.seal, waiting_since=sealing_job.waiting_since),
    Job(
        publishing_job.NAME,
        timedelta(minutes=1),
        publishing_job.publish,
        waiting_since=publishing_job.waiting_since,
    ),
    # off unless asked for: when a month is closed and a run proposed is finance's to say
    Job("close-periods", timedelta(hours=1), finance_jobs.close_periods, on=False),
    Job("propose-runs", timedelta(hours=1), finance_jobs.propose_runs, on=False),
)


# --- running one once --------------------------------------------------------------------------------------


class Stopping(GuardRefused):
    """The worker was told to stop: the run ends between two commits."""


class Ran(NamedTuple):
    """What became of a run. settled: it has been run already, or often enough; waiting: it failed and is tried again
    later; stale: another worker has taken over, and the end of this run is that worker's to record; idle: there was
    nothing to do."""

    outcome: Literal["done", "failed", "stopped", "settled", "waiting", "stale", "idle"]
    attempt: int = 0
    detail: Mapping[str, Any] = {}


class Runner:
    """Runs jobs in this process. worker: its name, as the history shows it; stopping: set when it is to stop;
    pause: after a first failure until the next attempt."""

    def __init__(
        self,
        pool: Pool,
        secrets: Secrets,
        clock: Callable[[], datetime],
        worker: str,
        stopping: threading.Event,
        pause: timedelta,
    ) -> None:
        self.pool, self.secrets, self.clock, self.worker = pool, secrets, clock, worker
        self._stopping, self._pause = stopping, pause

    def run_once(self, job: Job, interval: timedelta, program: str, due_at: datetime, fence: int) -> Ran:
        """Run a job for a due time, unless that was done. fence: of the program, as this worker raised it.

        Raises what the database raises when it is away: then the run is not ended, and the next look at it begins
        another attempt.
        """
        due = Due(program_id(program), job.name, due_at)
        since = None
        if job.waiting_since is not None:
            with self.pool.connection() as conn, conn.cursor() as cur:
                since = job.waiting_since(cur, due.program_id)
            if since is None:
                return Ran("idle")

        def guard(cur: Rows, id_: UUID) -> None:
            if self._stopping.is_set():
                raise Stopping("the worker is stopping")
            lease.check(cur, id_, fence)

        try:
            with self.pool.connection() as conn, conn.cursor() as cur:
                guard(cur, due.program_id)
                claim = job_runs.claim(cur, due, interval, self.worker, fence, self.clock(), self._pause)
            if claim.standing != "claimed":
                return Ran(claim.standing)
            claim = claim._replace(missed_since=missed_since(claim, interval, due_at, since))
            # A ledger of its own: its commits are fenced by this run, whatever other threads of the process hold.
            ledger = CommissionLedger(self.pool, self.secrets, self.clock, coalesce=False, guard=guard)
            ran = self._run(ledger, job, program, due_at, claim)
            with self.pool.connection() as conn, conn.cursor() as cur:
                lease.check(cur, due.program_id, fence)
                assert ran.outcome in ("done", "failed", "stopped")
                job_runs.end(cur, due, claim.attempt, self.clock(), ran.outcome, ran.detail)
        except StaleLease:
            return Ran("stale")
        except Stopping:
            return Ran("waiting")
        return ran

    def _run(self, ledger: CommissionLedger, job: Job, program: str, due_at: datetime, claim: job_runs.Claim) -> Ran:
        meta = Meta(actor=job.actor, request_id=f"{job.name}.{due_at:%Y%m%dT%H%M%SZ}.{claim.attempt}")
        missed = {} if claim.missed_since is None else {"none_since": claim.missed_since}
        try:
            return Ran("done", claim.attempt, {**missed, **job.run(ledger, program, due_at, meta)})
        except StaleLease:
            raise
        except Stopping:
            return Ran("stopped", claim.attempt, missed)
        except Exception as error:
            return Ran("failed", claim.attempt, {**missed, **what_failed(error)})


def missed_since(claim: job_runs.Claim, interval: timedelta, due: datetime, since: datetime | None) -> datetime | None:
    """The due time after which others were missed. Where nothing waited (since: the instant at which something began
    to) none was missed."""
    if claim.missed_since is None or since is None:
        return claim.missed_since
    found = max(claim.missed_since, due_at(since, interval))
    return found if due - found > interval else None


def what_failed(error: BaseException) -> dict[str, Any]:
    """The class of an error and where it was raised; not its text, which may quote what is personal. A refusal to
    seal, or of a witness, says what it found, which is not."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in last)
    found = error.detail if isinstance(error, SealRefused | WitnessRefused) else {}
    return {"error": type(error).__name__, "where": where, **found}
