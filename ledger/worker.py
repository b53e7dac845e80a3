"""The worker: a process in which APScheduler looks, every few seconds, for jobs that are due, and runs them while this
worker leads. Any number may run; the one that leads works, the others take over.

APScheduler only says 'look now' (its own clock, in UTC); what is due is computed from the interval, and whether it
was done stands in the database. So nothing runs twice because two processes, or two clocks, thought it was time.
"""

from __future__ import annotations

import os
import re
import secrets as random_secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from ledger.application import utc_now
from ledger.batches import retryable
from ledger.domain.errors import Unavailable
from ledger.domain.ids import program_id
from ledger.jobplan import JobPlan
from ledger.jobs import JOBS, Job, Ran, Runner, due_at, what_failed
from ledger.leadership import Leadership
from ledger.store import lease
from ledger.store.database import Pool
from ledger.store.lease import StaleLease
from ledger.store.vault import Secrets

JOBS_AT_ONCE = 4  # jobs that run side by side; their commits share the database with everybody else's
CLOCK_JUMP_SECONDS = 1.0
POLL_SECONDS = 0.2  # until a signal is noticed


class Pace(NamedTuple):
    """How often a worker looks. tick_seconds: for due jobs; beat_seconds: a leader's sign of life; frozen_seconds:
    without one a leader is deposed (the same for all workers); pause: from a run's first failure to its next
    attempt."""

    tick_seconds: float = 5.0
    beat_seconds: float = 2.0
    frozen_seconds: float = 30.0
    pause: timedelta = timedelta(seconds=10)


def worker_name() -> str:
    """A name that no other worker has, and that shows where it runs: host-pid-random."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:28]
    return f"{host}-{os.getpid()}-{random_secrets.token_hex(3)}"


def make_log() -> Any:
    """A logger of JSON lines on standard error, like the service's."""
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda event, **_: msgspec.json.encode(event).decode()),
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )


class Worker:
    """One worker. url: for the connection that holds the leader's lock, as the same role as the pool's connections,
    which bear the name connection_name(name)."""

    def __init__(
        self,
        pool: Pool,
        secrets: Secrets,
        url: str,
        name: str,
        *,
        jobs: Sequence[Job] = JOBS,
        plan: JobPlan | None = None,
        clock: Callable[[], datetime] = utc_now,
        pace: Pace = Pace(),  # noqa: B008
        log: Any = None,
    ) -> None:
        self.name, self._pool, self._jobs, self._plan = name, pool, jobs, plan or JobPlan()
        self._clock, self._pace = clock, pace
        self._log = log or make_log()
        self.stopping = threading.Event()
        self.failures = 0
        self.leadership = Leadership(url, name, pace.frozen_seconds, self._say)
        self._runner = Runner(pool, secrets, clock, name, self.stopping, pace.pause)
        self._busy = {job.name: threading.Lock() for job in jobs}
        self._taking = threading.Lock()
        self._fences: dict[str, tuple[int, int]] = {}  # program → (term of our lead, fence)
        self._settled: dict[tuple[str, str], tuple[int, datetime]] = {}  # (program, job) → (term, due time)

    def _say(self, event: str, **fields: Any) -> None:
        self._log.msg(event, worker=self.name, **fields)

    # --- the process -----------------------------------------------------------------------------------------

    def run(self, told_to_stop: Callable[[], bool]) -> None:
        """Work until told to stop; then let what runs finish its commit, and let somebody else lead."""
        self._say("started", jobs=[job.name for job in self._jobs])
        self._warn_of_unknown_programs()
        scheduler = self._scheduler()
        for job in self._jobs:
            self._every(scheduler, self._pace.tick_seconds, self.look, job.name, [job])
        scheduler.start()
        try:
            offset = time.time() - time.monotonic()
            while not told_to_stop():
                time.sleep(POLL_SECONDS)
                offset = self._watch_clock(scheduler, offset)
        finally:
            self._stop(scheduler)

    def once(self) -> bool:
        """Run what is due now, one after the other, and stop. Returns whether this worker led; nothing is run while
        another does."""
        scheduler = self._scheduler()
        self.leadership.beat()
        led = self.leadership.leading
        scheduler.start()
        try:
            for job in self._jobs if led else ():
                self.look(job)
        finally:
            self._stop(scheduler)
        return led

    def _scheduler(self) -> Any:
        # Signs of life have a thread of their own: jobs that take long must not look like a frozen worker.
        executors = {"default": ThreadPoolExecutor(JOBS_AT_ONCE), "beat": ThreadPoolExecutor(1)}
        # A look that came late is made once, however late: what is due is not APScheduler's to decide.
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        scheduler = BackgroundScheduler(timezone=UTC, executors=executors, job_defaults=defaults, logger=_Silent())
        self._every(scheduler, self._pace.beat_seconds, self.leadership.beat, "beat", [], executor="beat")
        return scheduler

    def _every(
        self, scheduler: Any, seconds: float, what: Callable[..., None], id_: str, args: list[Any], **more: Any
    ) -> None:
        scheduler.add_job(what, "interval", seconds=seconds, id=id_, args=args, next_run_time=utc_now(), **more)

    def _watch_clock(self, scheduler: Any, offset: float) -> float:
        """After a jump of the wall clock look at once: APScheduler, which goes by it, would wait for as long as the
        clock was set back. offset: what wall clock less monotonic clock was, in seconds; returns what it is."""
        now = time.time() - time.monotonic()
        if abs(now - offset) > CLOCK_JUMP_SECONDS:
            self._say("clock_jumped", seconds=round(now - offset, 1))
            for job in scheduler.get_jobs():
                job.modify(next_run_time=utc_now())
        return now

    def _stop(self, scheduler: Any) -> None:
        self.stopping.set()
        for lock in self._busy.values():
            with lock:  # whoever runs a job has it; signs of life go on meanwhile
                pass
        scheduler.shutdown(wait=True)
        self.leadership.resign()
        self._say("stopped")

    # --- looking for what is due ---------------------------------------------------------------------------------

    def look(self, job: Job) -> None:
        """Run a job for each program for which it is due and not yet done, if this worker leads. Raises nothing."""
        with self._busy[job.name]:
            try:
                self._look(job)
            except Exception as error:
                if retryable(error) or isinstance(error, Unavailable):
                    self._say("database_away", job=job.name, error=type(error).__name__)
                else:
                    self._say("unhandled", job=job.name, **what_failed(error))

    def _look(self, job: Job) -> None:
        term = self.leadership.term
        if not self._working(term):
            return
        for program in self._programs():
            interval = self._plan.interval(program, job)
            if interval is None:
                continue
            due = due_at(self._clock(), interval)
            if self._settled.get((program, job.name)) == (term, due):
                continue
            if not self._working(term):
                return
            ran = self._run(job, interval, program, due)
            if ran.outcome in ("done", "settled", "idle"):
                self._settled[program, job.name] = (term, due)

    def _working(self, term: int) -> bool:
        return not self.stopping.is_set() and self.leadership.leading and self.leadership.term == term

    def _run(self, job: Job, interval: timedelta, program: str, due: datetime) -> Ran:
        began = time.monotonic()
        try:
            fence = self._fence(program)
        except StaleLease:
            return Ran("stale")
        ran = self._runner.run_once(job, interval, program, due, fence)
        if ran.outcome == "stale":
            with self._taking:
                self._fences.pop(program, None)
        if ran.outcome == "failed":
            self.failures += 1
        if ran.outcome not in ("settled", "waiting", "idle"):
            self._say(
                "job",
                job=job.name,
                program=program,
                due_at=due,
                attempt=ran.attempt,
                outcome=ran.outcome,
                ms=round((time.monotonic() - began) * 1000, 1),
                detail=ran.detail,
            )
        return ran

    def _fence(self, program: str) -> int:
        """The program's fence, raised once in each term of our lead. Raises StaleLease when this worker leads no
        more."""
        with self._taking:
            term, fence = self._fences.get(program, (-1, 0))
            if term == self.leadership.term:
                return fence
            term = self.leadership.term
            with self._pool.connection() as conn, conn.cursor() as cur:
                if not self.leadership.holds(cur):
                    raise StaleLease("another worker leads")
                fence = lease.take(cur, program_id(program), self.name, self._clock())
            self._fences[program] = (term, fence)
            return fence

    def _programs(self) -> list[str]:
        with self._pool.connection() as conn:
            return [name for (name,) in conn.execute("SELECT program FROM programs ORDER BY program")]

    def _warn_of_unknown_programs(self) -> None:
        if self._plan.programs:
            missing = sorted(set(self._plan.programs) - set(self._programs()))
            if missing:
                self._say("no_such_program", named_in_jobs_file=missing)


class _Silent:
    """APScheduler's remarks (a look still under way when the next was due, and the like) are none of an operator's
    business; what matters is said by the worker itself."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None
