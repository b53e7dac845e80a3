"""Workers as processes: killed, frozen, thawed, stopped, without their database; each due job has its effect once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psycopg
import pytest
from support import MASTER_KEY, PROGRAM, T0, balance, by, open_ledger, open_shop, owner, sale, scalar
from test_crashes import own_server  # noqa: F401

from ledger.jobs import JOBS
from ledger.projections import job_runs
from ledger.projections.job_runs import JobRun
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer

HERE = Path(__file__).parent
TICKS = 500
PATIENCE = 60.0  # seconds; what is waited for takes a fraction of it
FOR_EVER = 600.0


class Process:
    """A worker's process. Its lines on stdout are read with `heard`, its log with `logged`."""

    def __init__(self, database: Database, *args: str, **env: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "DATABASE_URL": database.app_url, **env}
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        self.log: list[dict[str, Any]] = []
        self._said: Queue[str] = Queue()
        for read, stream in ((self._hear, self.process.stdout), (self._note, self.process.stderr)):
            threading.Thread(target=read, args=(stream,), daemon=True).start()

    def _hear(self, stream: Any) -> None:
        for line in stream:
            self._said.put(line.decode().strip())

    def _note(self, stream: Any) -> None:
        for line in stream:
            assert line.startswith(b"{"), line
            self.log.append(json.loads(line))

    def heard(self, line: str) -> None:
        """Wait until it says this."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self._said.get(timeout=0.2) == line:
                    return
            except Empty:
                assert time.monotonic() < deadline, (line, self.log)
                assert self.process.poll() is None, (line, self.log)

    def logged(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait until its log has such a line, and return it."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            wanted = {"event": event, **fields}
            found.extend(line for line in list(self.log) if wanted.items() <= line.items())
            return bool(found)

        wait_for(look, lambda: f"{event} {fields}: {self.log}")
        return found[0]

    def stop(self) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def wait_for(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Ends the processes for certain."""
    try:
        yield
    finally:
        for one in processes:
            one.process.kill()
            one.process.wait()


class Team:
    """Workers with the job 'sell', due every minute of a clock that is a file."""

    def __init__(self, database: Database, folder: Path, **how: Any) -> None:
        self.database, self.clock = database, folder / "minute"
        self.clock.write_text("0")
        self.how = json.dumps({"commits": 12, "frozen_seconds": FOR_EVER, **how})

    def hire(self, name: str, **env: str) -> Process:
        script = str(HERE / "worker_process.py")
        return Process(self.database, sys.executable, script, "serve", name, str(self.clock), self.how, **env)

    def runs(self) -> list[JobRun]:
        """The history, oldest first."""
        with open_ledger(self.database) as ledger, ledger.reading(PROGRAM) as (cur, id_):
            return job_runs.page(cur, id_)[::-1]

    def ends(self) -> list[tuple[int, str, str]]:
        """(attempt, worker, outcome), oldest first."""
        return [(run.attempt, run.worker, run.outcome) for run in self.runs()]

    def sales(self) -> list[tuple[str, str]]:
        """(order, request) of every sale in the log, in its order."""
        with owner(self.database) as conn:
            rows = conn.execute(
                "SELECT state::jsonb ->> 'order_id', request_id FROM book_events WHERE topic = 'ConversionRecorded'"
                " ORDER BY position"
            ).fetchall()
        return [(order, request) for order, request in rows]


@pytest.fixture
def team(database: Database, tmp_path: Path) -> Team:
    """A shop and whoever is hired for it."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
    return Team(database, tmp_path)


def orders(minute: int, commits: int = 12) -> list[str]:
    """What the job sells at a due time."""
    return [f"{minute:04}-{number}" for number in range(commits)]


# --- 500 ticks -------------------------------------------------------------------------------------------------


def test_three_workers_and_five_hundred_ticks_make_five_hundred_effects(team: Team) -> None:
    """Three processes, each with its own clock, walk through the same 500 due times while the lead goes round; the
    job's effect is nothing that the ledger would recognise as a repetition."""
    script = str(HERE / "worker_process.py")
    names = ["ann", "ben", "cid"]
    three = [Process(team.database, sys.executable, script, "race", name, str(TICKS)) for name in names]
    with running(*three):
        for one in three:
            assert one.process.wait(PATIENCE) == 0, one.log
    with owner(team.database) as conn:
        rows = conn.execute("SELECT due_at, attempt, outcome, worker FROM job_runs").fetchall()
    assert sorted(row[0] for row in rows) == [T0 + timedelta(minutes=n) for n in range(TICKS)]
    assert {(attempt, outcome) for _, attempt, outcome, _ in rows} == {(1, "done")}
    assert {row[3] for row in rows} == set(names), "each of them led for a while"
    assert len(team.sales()) == TICKS


# --- killed, frozen, stopped --------------------------------------------------------------------------------------


def test_when_the_leader_is_killed_another_goes_on_where_it_stopped(team: Team) -> None:
    """kill -9 in the middle of a transaction: its connection takes the lead with it, and the run is taken up again."""
    ann = team.hire("ann", DECIDING_SECONDS="0.05")
    with running(ann):
        ann.heard("deciding 0000-3")
        ben = team.hire("ben")
        with running(ben):
            ann.heard("deciding 0000-5")
            ann.process.kill()
            ben.logged("leading")
            said = ben.logged("job", outcome="done", attempt=2)
            assert (said["job"], said["program"], said["due_at"]) == ("sell", PROGRAM, "2026-01-01T00:00:00Z")
    assert team.ends() == [(1, "ann", "lost"), (2, "ben", "done")]
    assert sorted(order for order, _ in team.sales()) == sorted(orders(0))
    first = [request for _, request in team.sales()].count("sell.20260101T000000Z.1")
    assert 5 <= first < 12, "what was committed before stayed, the rest was done afterwards"
    assert team.runs()[1].detail == {"sold": 12 - first}


def test_a_frozen_worker_is_deposed_and_can_commit_nothing_once_it_is_thawed(team: Team, tmp_path: Path) -> None:
    """SIGSTOP in the middle of a transaction; another deposes it and does the job; SIGCONT: the batch it was in the
    middle of, and whatever would have followed, is refused, though it tries again on new connections and the ledger
    would not recognise its sales. It then follows, and leads again when it is its turn."""
    team = Team(team.database, tmp_path, frozen_seconds=2.5, again=True)
    ann = team.hire("ann", DECIDING_SECONDS="0.1")
    with running(ann):
        ann.heard("deciding 0000-5-1")
        ann.process.send_signal(signal.SIGSTOP)
        ben = team.hire("ben")
        with running(ben):
            deposed = ben.logged("deposed")
            assert deposed["leader"] == "ann"
            assert deposed["connections"] >= 2, "also the one that holds the program's lock"
            ben.logged("job", outcome="done", attempt=2)
            before = team.sales()
            firsts = [f"{order}-1" for order in orders(0, 5)]
            assert [order for order, _ in before] == [*firsts, *(f"{order}-2" for order in orders(0))]
            ann.process.send_signal(signal.SIGCONT)
            ann.logged("job", outcome="stale", attempt=0)
            ann.logged("following", leader="ben")
            assert team.sales() == before
            assert ben.stop() == 0
        ann.logged("leading", term=2)
        team.clock.write_text("1")
        ann.logged("job", outcome="done", attempt=1)
        assert ann.stop() == 0
    assert team.ends() == [(1, "ann", "lost"), (2, "ben", "done"), (1, "ann", "done")]
    fences = [run.fence for run in team.runs()]
    assert fences == [1, 2, 3]
    assert len(team.sales()) == 5 + 12 + 12


def test_a_worker_that_is_told_to_stop_finishes_its_commit_and_leaves_the_rest(team: Team) -> None:
    """SIGTERM in the middle of a job: exit code 0, the run says 'stopped', and the next worker does what is left."""
    ann = team.hire("ann", DECIDING_SECONDS="0.3")
    with running(ann):
        ann.heard("deciding 0000-1")
        assert ann.stop() == 0
        ann.logged("stopped")
    stopped = [order for order, _ in team.sales()]
    assert stopped == orders(0)[: len(stopped)]
    assert 2 <= len(stopped) < 12, "what it was deciding is committed"
    ben = team.hire("ben")
    with running(ben):
        ben.logged("job", outcome="done")
    assert team.ends() == [(1, "ann", "stopped"), (2, "ben", "done")]
    assert sorted(order for order, _ in team.sales()) == sorted(orders(0))


# --- the database goes away ---------------------------------------------------------------------------------------


def test_a_worker_outlives_its_database(own_server: tuple[EmbeddedServer, Database], tmp_path: Path) -> None:  # noqa: F811
    """PostgreSQL is killed in the middle of a job and comes back: the same process leads again and finishes it."""
    server, database = own_server
    with open_ledger(database) as ledger:
        open_shop(ledger)
    team = Team(database, tmp_path)
    ann = team.hire("ann", DECIDING_SECONDS="0.05")
    with running(ann):
        ann.heard("deciding 0000-5")
        pid = int((server.home / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        ann.logged("lost_lead")
        ann.logged("leading", term=2)
        ann.logged("job", outcome="done", due_at="2026-01-01T00:00:00Z")
        assert ann.process.poll() is None
        team.clock.write_text("1")
        ann.logged("job", outcome="done", due_at="2026-01-01T00:01:00Z")
        assert ann.stop() == 0
    assert [run.outcome for run in team.runs()].count("done") == 2
    assert sorted(order for order, _ in team.sales()) == sorted(orders(0) + orders(1))


# --- the command ----------------------------------------------------------------------------------------------------


def test_ledger_worker_approves_what_is_due_and_says_so(database: Database, tmp_path: Path) -> None:
    """The real command with the real jobs: a matured commission becomes payable; the log of the process is JSON lines,
    `ledger jobs` shows the history, a second worker only follows, SIGTERM ends it well."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, sale("A", occurred_at=datetime.now(UTC) - timedelta(days=40)), by())
    (tmp_path / "jobs.toml").write_text(
        '["*"]\napprove-due = "1s"\n' + "".join(f"{job.name} = false\n" for job in JOBS if job.name != "approve-due")
    )
    env = {"LEDGER_MASTER_KEY": MASTER_KEY.hex(), "LEDGER_JOBS_FILE": str(tmp_path / "jobs.toml")}
    command = [sys.executable, "-m", "ledger.cli"]
    ann = Process(database, *command, "worker", "--tick-seconds", "0.2", **env)
    with running(ann):
        said = ann.logged("job", job="approve-due", outcome="done", detail={"approved": 1})
        assert {"timestamp", "worker", "program", "due_at", "attempt", "ms"} <= set(said)
        environment = {**os.environ, "DATABASE_URL": database.app_url, **env}
        once = subprocess.run(
            [*command, "worker", "--once"], env=environment, capture_output=True, text=True, check=True
        )
        assert "another worker leads" in once.stderr
        assert not [line for line in once.stderr.splitlines() if '"event":"job"' in line]
        assert ann.stop() == 0
        assert [line["event"] for line in ann.log if line["event"] != "job"] == ["started", "leading", "stopped"]
    shown = subprocess.run(
        [*command, "jobs", "-p", PROGRAM, "--json"], env=environment, capture_output=True, text=True, check=True
    )
    history = json.loads(shown.stdout)
    assert {(run["job"], run["outcome"]) for run in history} == {("approve-due", "done")}
    assert history[-1]["detail"] == {"approved": 1}
    with open_ledger(database) as ledger:
        assert balance(ledger, "ada") == {"payable": 100}
    with owner(database) as conn:
        assert scalar(conn, "SELECT actor FROM book_events WHERE topic = 'ConversionApproved'") == "job.approve-due"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="has ended"):
            conn.execute("UPDATE job_runs SET detail = '{}'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only rises"):
            conn.execute("UPDATE job_leases SET fence = fence")
