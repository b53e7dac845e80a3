"""Jobs without processes: run once a due time, fenced, and with a history."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from api_world import World, make_world, open_service
from conftest import fresh_database
from flask import Flask
from partitions import recorded
from partitions import template as stand_in  # noqa: F401
from support import MASTER_KEY, T0, Clock, balance, by, open_ledger, open_shop, program_id, sale, topics
from test_distribution import check_statements

from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.jobplan import JobPlan
from ledger.jobs import JOBS, Job
from ledger.projections import job_runs
from ledger.projections.job_runs import JobRun
from ledger.store import lease
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer
from ledger.store.lease import StaleLease
from ledger.store.log import last_position
from ledger.store.vault import Secrets
from ledger.worker import Worker

MINUTE = timedelta(minutes=1)
_numbers = itertools.count(1)


class Only(JobPlan):
    """A plan for some programs, of the many in a database that tests share."""

    def __init__(self, programs: set[str], plan: JobPlan) -> None:
        super().__init__(plan._choices)
        self.only = programs

    def interval(self, program: str, job: Job) -> timedelta | None:
        """See JobPlan.interval."""
        return super().interval(program, job) if program in self.only else None


class Office:
    """A shop of its own, a clock, and a worker at a time."""

    def __init__(self, ledger: CommissionLedger, url: str, clock: Clock) -> None:
        self.ledger, self.url, self.clock = ledger, url, clock
        self.program = f"office{next(_numbers)}"
        self.programs: set[str] = set()
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.open(self.program)

    def open(self, program: str) -> str:
        open_shop(self.ledger, program)
        self.programs.add(program)
        return program

    def msg(self, event: str, **fields: Any) -> None:
        """What the worker says."""
        self.log.append((event, fields))

    def worker(self, *jobs: Job, name: str = "ann", plan: JobPlan | None = None) -> Worker:
        only, secrets = Only(self.programs, plan or JobPlan()), Secrets(MASTER_KEY)
        return Worker(self.ledger.pool, secrets, self.url, name, jobs=jobs, plan=only, clock=self.clock, log=self)

    def once(self, *jobs: Job, **more: Any) -> Worker:
        """A worker runs what is due and goes home."""
        worker = self.worker(*jobs, **more)
        assert worker.once()
        return worker

    def runs(self, program: str = "") -> list[JobRun]:
        """The history, oldest first."""
        with self.ledger.reading(program or self.program) as (cur, id_):
            return job_runs.page(cur, id_)[::-1]

    def sales(self) -> int:
        """How many are in the log."""
        return topics(self.ledger, self.program).count("ConversionRecorded")

    def take_over(self, holder: str = "ben") -> int:
        """Another worker raises the fence."""
        with self.ledger.pool.connection() as conn, conn.cursor() as cur:
            return lease.take(cur, program_id(self.program), holder, self.clock())


@contextmanager
def open_office(database: Database) -> Iterator[Office]:
    clock = Clock(datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC))
    with open_ledger(database, clock) as ledger:
        yield Office(ledger, database.app_url, clock)


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """One database for all the tests here, each with a program of its own."""
    with fresh_database(server, template) as name:
        yield urls(server, name)


@pytest.fixture
def office(shared: Database) -> Iterator[Office]:
    with open_office(shared) as made:
        yield made


def job(run: Callable[..., Mapping[str, Any]], name: str = "try", interval: timedelta = MINUTE, on: bool = True) -> Job:
    return Job(name, interval, run, on)


def nothing(*_: Any) -> Mapping[str, Any]:
    return {}


# --- once a due time -----------------------------------------------------------------------------------------------


def test_a_job_runs_once_a_due_time_and_its_history_says_what_it_did(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real jobs, without a mail server: a matured commission is approved once, as 'job.approve-due', at the due
    time's instant; closing and proposing are left to people."""
    monkeypatch.setenv("LEDGER_KNOWN_POSITIONS_FILE", str(tmp_path / "known.json"))
    monkeypatch.setenv("LEDGER_SIGNING_KEY", "01" * 32)
    monkeypatch.delenv("LEDGER_SMTP_URL", raising=False)
    office.ledger.execute(office.program, sale("A"), by())
    for name in ("ann", "ben"):
        office.once(*JOBS, name=name)
    with office.ledger.reading(office.program) as (cur, id_):
        events = last_position(cur, id_, "books")
    assert balance(office.ledger, "ada", program=office.program) == {"payable": 100}
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    hour, tenth_minute = midnight.replace(hour=12), midnight.replace(hour=12, minute=30)
    assert {run.job: (run.due_at, run.detail) for run in office.runs()} == {
        "attribute-waiting": (tenth_minute, {"decided": 0}),
        "approve-due": (hour, {"approved": 1}),
        "pay-clicks": (hour, {"clicks": 0, "kept": 0}),
        "resume": (tenth_minute, {"periods": 0, "proposals": 0, "initiations": 0}),
        "send-notices": (tenth_minute, {"sent": 0, "mail_server": "none"}),
        "record-known-positions": (tenth_minute, {"recorded": 1}),
        "remind-open-breaks": (midnight, {"open": 0, "older_than_7_days": 0, "mailed": 0}),
        "seal": (midnight.replace(hour=12, minute=34, second=50), {"books": {"size": events, "new": events}}),
    }
    assert len(office.runs()) == 8
    assert office.program in (tmp_path / "known.json").read_text()
    assert {(run.attempt, run.worker, run.outcome) for run in office.runs()} == {(1, "ann", "done")}
    with office.ledger.reading(office.program) as (cur, id_):
        cur.execute(
            "SELECT actor, request_id FROM book_events WHERE program_id = %s AND topic = 'ConversionApproved'", (id_,)
        )
        assert cur.fetchall() == [("job.approve-due", "approve-due.20260301T120000Z.1")]


def test_after_downtime_the_newest_due_time_runs_and_says_what_was_missed(office: Office) -> None:
    """Three hours away from an hourly job: one run, which names the due time before the gap."""
    hourly = job(nothing, interval=timedelta(hours=1))
    office.once(hourly)
    office.clock.advance(hours=1)
    office.once(hourly)
    office.clock.advance(hours=3)
    office.once(hourly)
    assert [run.due_at.hour for run in office.runs()] == [12, 13, 16]
    assert [run.detail for run in office.runs()] == [{}, {}, {"none_since": "2026-03-01T13:00:00Z"}]


def test_every_program_has_its_jobs_and_a_failure_stops_no_other(office: Office) -> None:
    """A job that raises is recorded with its error's class and place, nothing of its text; the other job, and the
    other program, get their turn."""
    other = office.open(f"{office.program}-other")

    def fails(ledger: CommissionLedger, program: str, due: datetime, meta: Meta) -> Mapping[str, Any]:
        if program == other:
            raise LookupError("jane.doe@example.org")
        return {}

    worker = office.once(job(fails, "first"), job(nothing, "second"))
    assert worker.failures == 1
    assert [(run.job, run.outcome) for run in office.runs()] == [("first", "done"), ("second", "done")]
    failed, second = office.runs(other)
    assert (failed.outcome, failed.detail["error"], second.outcome) == ("failed", "LookupError", "done")
    assert failed.detail["where"].startswith("test_jobs.py:")
    assert failed.detail["where"].endswith(" fails")
    assert "jane.doe" not in str(office.log) + str(office.runs(other))


def test_a_failed_run_is_tried_again_after_a_pause_and_not_for_ever(office: Office) -> None:
    """At 10, 50, 210, 850 seconds, as the pause grows; after the fifth attempt the due time is given up, and the next
    one runs."""
    calls: list[datetime] = []

    def fails(ledger: CommissionLedger, program: str, due: datetime, meta: Meta) -> Mapping[str, Any]:
        calls.append(due)
        raise ValueError

    daily = job(fails, interval=timedelta(days=1))
    for attempt, pause in enumerate((10, 40, 160, 640, 2560), 1):
        office.once(daily)
        office.clock.advance(seconds=pause - 1)
        office.once(daily)
        assert len(calls) == attempt
        office.clock.advance(seconds=1)
    office.once(daily)
    assert [(run.attempt, run.outcome) for run in office.runs()] == [(n, "failed") for n in range(1, 6)]
    office.clock.advance(days=1)
    office.once(daily)
    assert len(set(calls)) == 2


def test_a_run_that_nobody_ended_is_taken_up_again(office: Office) -> None:
    """Its worker died: the run is marked lost, the next attempt has the next number, and a newer due time also closes
    what an older one left open."""

    def dies(*_: Any) -> Mapping[str, Any]:
        raise KeyboardInterrupt

    for expected in ([(1, "running")], [(1, "lost"), (2, "running")]):
        with pytest.raises(KeyboardInterrupt):
            office.worker(job(dies)).once()
        assert [(run.attempt, run.outcome) for run in office.runs()] == expected
    office.clock.advance(minutes=1)
    office.once(job(nothing))
    ends = [(run.due_at.minute, run.attempt, run.outcome) for run in office.runs()]
    assert ends == [(34, 1, "lost"), (34, 2, "lost"), (35, 1, "done")]


def test_a_worker_told_to_stop_ends_its_run_between_two_commits(office: Office) -> None:
    """What was committed stays, the run says 'stopped', and the next worker does what is left."""
    orders = [sale(f"o{n}") for n in range(4)]

    def sells(ledger: CommissionLedger, program: str, due: datetime, meta: Meta) -> Mapping[str, Any]:
        for number, order in enumerate(orders):
            ledger.execute(program, order, meta)
            if number == 1:
                worker.stopping.set()
        return {}

    worker = office.worker(job(sells))
    worker.once()
    assert office.sales() == 2
    office.once(job(lambda ledger, program, due, meta: {"all": len(ledger.execute_many(program, orders, meta))}))
    assert [(run.outcome, run.detail) for run in office.runs()] == [("stopped", {}), ("done", {"all": 4})]
    assert office.sales() == 4


# --- the fence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how_many", [1, 3])
@pytest.mark.parametrize("write", ["commands", "beside"])
def test_a_job_whose_program_was_taken_over_commits_nothing_more(office: Office, write: str, how_many: int) -> None:
    """The very next transaction is refused, be it a command, a batch, or a row beside the log; and the end of the run
    is left to whoever took over."""

    def commands(ledger: CommissionLedger, program: str, meta: Meta) -> None:
        ledger.execute_many(program, [sale(f"after{n}") for n in range(how_many)], meta)

    def beside(ledger: CommissionLedger, program: str, meta: Meta) -> None:
        with ledger.writing(program) as (cur, id_):
            cur.execute("UPDATE job_runs SET detail = '{\"x\":1}' WHERE program_id = %s", (id_,))

    writes = {"commands": commands, "beside": beside}

    def sells(ledger: CommissionLedger, program: str, due: datetime, meta: Meta) -> Mapping[str, Any]:
        ledger.execute(program, sale("before"), meta)
        office.take_over()
        with pytest.raises(StaleLease):
            writes[write](ledger, program, meta)
        ledger.execute(program, sale("at last"), meta)
        return {}

    office.once(job(sells))
    assert office.sales() == 1
    assert [fields["outcome"] for event, fields in office.log if event == "job"] == ["stale"]
    assert [(run.outcome, run.detail) for run in office.runs()] == [("running", {})]
    office.once(job(nothing))
    assert [(run.outcome, run.fence) for run in office.runs()] == [("lost", 1), ("done", 3)]


def test_whoever_takes_over_waits_for_the_commit_under_way(office: Office) -> None:
    """The fence cannot rise between a job's look at it and its commit: both would be right, and neither would be."""
    with office.ledger.pool.connection() as conn, conn.cursor() as cur:
        fence = office.take_over()
        lease.check(cur, program_id(office.program), fence)
        taking = threading.Thread(target=office.take_over)
        taking.start()
        taking.join(0.3)
        assert taking.is_alive()
        conn.commit()
        taking.join(10)
        with pytest.raises(StaleLease):
            lease.check(cur, program_id(office.program), fence)


def test_a_worker_that_does_not_lead_raises_no_fence_and_runs_nothing(office: Office) -> None:
    """While another leads; and also when it only believes that it leads."""
    ann, ben = office.worker(job(nothing)), office.worker(job(nothing), name="ben")
    ann.leadership.beat()
    assert not ben.once()
    ben.leadership._leading, ben.leadership._beaten_at, ben.leadership.term = True, float("inf"), 1
    ben.leadership._conn = ben.leadership._conn or psycopg.connect(office.url)  # type: ignore[assignment]
    ben.stopping.clear()
    ben.look(job(nothing))
    ben.leadership.resign()
    ann.leadership.resign()
    assert office.runs() == []


def test_the_lead_passes_on_when_it_is_given_up(office: Office) -> None:
    """One at a time, and the next one's fence is higher."""
    ann, ben = office.worker(job(nothing)), office.worker(job(nothing), name="ben")
    leads = []
    for _ in range(2):
        for one in (ann, ben):
            one.leadership.beat()
        leads.append((ann.leadership.leading, ben.leadership.leading))
        for one in (ann, ben):
            one.look(one._jobs[0])
        ann.leadership.resign()
        ann.leadership._not_before = float("inf")
        office.clock.advance(minutes=1)
    ben.leadership.resign()
    assert leads == [(True, False), (False, True)]
    assert [(run.worker, run.fence) for run in office.runs()] == [("ann", 1), ("ben", 2)]


def test_a_clock_that_was_set_back_keeps_nobody_waiting(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler's next look, which it planned for tomorrow by the old clock, is made now."""
    worker = office.worker(job(nothing))
    scheduler = worker._scheduler()
    scheduler.start(paused=True)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    scheduler.get_jobs()[0].modify(next_run_time=tomorrow)
    import ledger.worker as module

    offset = module.time.time() - module.time.monotonic()
    assert abs(worker._watch_clock(scheduler, offset) - offset) < 1
    assert scheduler.get_jobs()[0].next_run_time == tomorrow
    worker._watch_clock(scheduler, offset + 86_400)
    assert scheduler.get_jobs()[0].next_run_time < datetime.now(UTC) + MINUTE
    scheduler.shutdown()
    assert [event for event, _ in office.log] == ["clock_jumped"]


def test_a_job_that_is_off_does_not_run(office: Office) -> None:
    """For the program for which it is off."""
    other = office.open(f"{office.program}-other")
    office.once(job(nothing), plan=JobPlan({other: {"try": False}}))
    assert (len(office.runs()), len(office.runs(other))) == (1, 0)


# --- the history -----------------------------------------------------------------------------------------------------


@pytest.fixture
def app(shared: Database) -> Iterator[Flask]:
    with open_service(shared) as made:
        yield made


def test_auditors_page_through_the_history(app: Flask) -> None:
    """Newest first, each attempt once, all of them or one job's; a cursor that is not ours is refused."""
    world: World = make_world(app)
    with world.ledger.pool.connection() as conn, conn.cursor() as cur:
        for number in range(5):
            for name in ("one", "two"):
                due = job_runs.Due(program_id(world.program), name, T0 + number * MINUTE)
                assert job_runs.claim(cur, due, MINUTE, "ann", 1, T0, MINUTE).attempt == 1
                if (number, name) != (4, "two"):
                    job_runs.end(cur, due, 1, T0 + MINUTE, "done", {"n": number})
    seen: list[tuple[str, str]] = []
    query = "?limit=3"
    while True:
        page = world.call("auditor", "GET", f"/job-runs{query}").json
        seen += [(run["due_at"], run["job"]) for run in page["items"]]
        if page["next"] is None:
            break
        query = f"?limit=3&after={page['next']}"
    assert seen == [(f"2026-01-01T00:0{n}:00Z", name) for n in (4, 3, 2, 1, 0) for name in ("two", "one")]
    newest, *_ = world.call("finance_maker", "GET", "/job-runs?job=two&limit=1").json["items"]
    assert newest == {
        "job": "two", "due_at": "2026-01-01T00:04:00Z", "attempt": 1, "worker": "ann", "fence": 1,
        "started_at": "2026-01-01T00:00:00Z", "finished_at": None, "outcome": "running", "detail": {},
    }  # fmt: skip
    ended = world.call("admin", "GET", "/job-runs?job=one&limit=1").json["items"][0]
    assert (ended["finished_at"], ended["outcome"], ended["detail"]) == ("2026-01-01T00:01:00Z", "done", {"n": 4})
    assert world.call("ingest", "GET", "/job-runs").status_code == 403
    for query in ("?after=WzFd", "?after=WzEwMDAwMDAwMDAwMDAwMDAwMDAsIngiLDFd", "?job=%00"):
        assert world.call("auditor", "GET", f"/job-runs{query}").status_code == 422, query


def test_each_statement_touches_one_partition(
    server: EmbeddedServer,
    stand_in: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Claiming, fencing, running and ending, failing, and the history, on tables in hash partitions by program_id, and
    what the real jobs ask. The lead is the database's, and the question which programs there are is about all of
    them."""

    def fails(*_: Any) -> Mapping[str, Any]:
        raise ValueError

    monkeypatch.setenv("LEDGER_KNOWN_POSITIONS_FILE", str(tmp_path / "known.json"))
    monkeypatch.setenv("LEDGER_SIGNING_KEY", "01" * 32)
    (tmp_path / "witnesses.toml").write_text(f'[archive]\ndirectory = "{tmp_path}"\n')
    monkeypatch.setenv("LEDGER_WITNESSES_FILE", str(tmp_path / "witnesses.toml"))
    office_of = fresh_database(server, stand_in)
    with office_of as name, open_office(urls(server, name)) as office, recorded() as statements:
        office.once(job(fails, "one"), *JOBS)
        office.clock.advance(hours=2)
        office.once(job(nothing, "one"), *JOBS)
        # nothing waits to be sealed and published any more
        again = [job for job in JOBS if job.on and job.waiting_since is None]
        after_two_hours = [job for job in again if job.interval <= timedelta(hours=2)]
        first = [job for job in JOBS if job.on and job.name != "run-simulations"]  # for which nothing waits
        assert len(office.runs()) == 2 + len(first) + len(after_two_hours)
        with office.ledger.reading(office.program) as (cur, id_):
            job_runs.page(cur, id_, job="one")
        # the lead, and what is known of the database outside of it, are of all programs
        of_all = ("advisory", "SELECT program FROM programs", "pg_stat_activity")
        sent = [one for one in statements if not any(words in one.text for words in of_all)]
        with psycopg.connect(office.url) as conn:
            assert check_statements(conn, sent) >= 9
