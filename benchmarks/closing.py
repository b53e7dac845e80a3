"""Closing a month and reading a statement of it.

Closing is compared with only reading the same lines from the database in the same order, which is the least that a
program does that hashes every line. Memory as in benchmarks.memory: the small one's peak divided by the large one's.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import psycopg

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, race
from benchmarks.service import key_for, served
from benchmarks.world import META, World
from ledger.closing import close_period
from ledger.domain.period import span_of
from ledger.projections import periods
from ledger.store import database as store
from ledger.store.database import allow_long
from ledger.store.migrate import migrate

PERIOD = "2026-01"
TEMPLATE = "closing"


def comparisons(plan: Plan) -> tuple[Comparison, ...]:
    """The rows to come, with their sizes."""
    affiliates, small, large = sizes(plan)
    lines, times = statement_lines(plan), reads(plan)
    return (
        Comparison(
            f"closing a month of {affiliates:,} affiliates and {large:,} entries, every statement issued",
            "close large",
            "only reading the same lines in the same order",
            "read",
            0.25,
            "entries/s",
        ),
        Comparison(
            f"memory: closing a month of {small:,} entries",
            "memory small",
            f"closing one of {large:,} (0.8: it grows by a quarter at most)",
            "memory large",
            0.8,
            "MB at most",
        ),
        Comparison(
            f"GET statement of {lines:,} lines, the slowest of {times}",
            "statement",
            "only reading its lines from the database",
            "read statement",
            0.25,
            "lines/s",
        ),
        Comparison(
            "memory: the service before it sent a statement",
            "service before",
            f"after {times} statements of {lines:,} lines (0.8: it grows by a quarter at most)",
            "service after",
            0.8,
            "MB",
        ),
    )


def sizes(plan: Plan) -> tuple[int, int, int]:
    """Affiliates; entries of the small and of the large program."""
    return plan.size(10_000, 10), plan.size(100_000, 200), plan.size(1_000_000, 400)


def statement_lines(plan: Plan) -> int:
    """Lines of the long statement."""
    return plan.size(100_000, 400)


def reads(plan: Plan) -> int:
    """Statements a run; the slowest of the full 20 counts, so the figure is near the 95th percentile."""
    return plan.size(20, 2)


class Closing:
    """The contenders. Each closing takes place in a copy of the database, because a period is closed only once."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._copies = count(1)
        self._memory: dict[str, float] = {}
        self.affiliates, small, large = sizes(plan)
        store.make_database(world.server, TEMPLATE)
        database = store.urls(world.server, TEMPLATE)
        assert database.owner_url is not None
        migrate(database.owner_url)
        with self._in(TEMPLATE) as place:
            self.small = place.program_with_books(small, self.affiliates)
            self.large = place.program_with_books(large, self.affiliates)

    @contextmanager
    def _in(self, name: str) -> Iterator[World]:
        database = store.urls(self._world.server, name)
        with store.make_pool(database.app_url, min_size=1, max_size=4, name="closing") as pool:
            yield World(self._world.server, database, pool, self._world.master_key)

    @contextmanager
    def _copy(self) -> Iterator[World]:
        name = f"closing_{next(self._copies)}"
        store.make_database(self._world.server, name, template=TEMPLATE)
        try:
            with self._in(name) as place:
                yield place
        finally:
            with psycopg.connect(self._world.server.superuser_url, autocommit=True) as conn:
                conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def close(self, program: str) -> float:
        """Entries a second of `ledger close` in a process of its own, its start included; its peak is kept."""
        with self._copy() as place:
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.peak", "close", PERIOD, "--program", program, "--by", "bench"],
                env=place.environment(),
                cwd=World.ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            took = time.perf_counter() - started
            if done.returncode != 0:
                raise BenchmarkError(f"ledger close failed: {done.stderr[-2000:]}")
            with place.ledger.reading(program) as (cur, id_):
                cut = periods.cut(cur, id_, PERIOD)
            if cut is None or cut.status != "closed" or cut.statement_count != self.affiliates:
                raise BenchmarkError(f"the period was not closed: {cut}")
        self._memory[program] = int(done.stderr.split()[-1]) / 1_000_000
        return cut.line_count / took

    def memory(self, program: str) -> float:
        """The peak of the closing before, megabytes; the small program is closed here for it."""
        if program == self.small:
            self.close(program)
        return self._memory[program]

    def read(self) -> float:
        """Every line of the period in order, and nothing done with it; lines a second."""
        with self._in(TEMPLATE) as place, place.ledger.reading(self.large) as (cur, id_):
            allow_long(cur)
            started = time.perf_counter()
            lines = sum(1 for _ in periods.raw_lines(cur, id_, _whole_month()))
            return lines / (time.perf_counter() - started)


def _whole_month() -> periods.Bounds:
    span = span_of(PERIOD, "UTC")
    assert span is not None
    return periods.Bounds(2**62, span.ends_at)


class Statements:
    """One long statement, from the service and straight from the database."""

    def __init__(self, world: World, plan: Plan, port: int, pid: int) -> None:
        self._world, self._port, self._pid = world, port, pid
        self._lines, self._reads = statement_lines(plan), reads(plan)
        self._program = world.program_with_books(self._lines, 1)
        for _ in close_period(world.ledger, self._program, PERIOD, META):
            pass
        self._key = key_for(world, self._program, "auditor").split(": ", 1)[1]
        self._path = f"/v1/programs/{self._program}/affiliates/affiliate-00/statements/{PERIOD}"
        self._get()  # what a service holds once it has sent a statement of any length
        self._before = resident(pid)

    def _get(self) -> float:
        started = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.request("GET", self._path, headers={"Authorization": self._key})
        answer = connection.getresponse()
        size = 0
        while part := answer.read(1 << 16):
            size += len(part)
        took = time.perf_counter() - started
        connection.close()
        if answer.status != 200 or size < 100 * self._lines:
            raise BenchmarkError(f"GET {self._path} answered {answer.status} with {size} bytes")
        return took

    def statement(self) -> float:
        """Lines a second of the slowest answer."""
        return self._lines / max(self._get() for _ in range(self._reads))

    def read(self) -> float:
        """The same lines through a cursor of the server's, and nothing done with them."""
        with self._world.ledger.reading(self._program) as (cur, id_):
            cut = periods.cut(cur, id_, PERIOD)
            assert cut is not None
            started = time.perf_counter()
            lines = sum(1 for _ in periods.raw_lines(cur, id_, periods.bounds(cut), "affiliate-00"))
            return lines / (time.perf_counter() - started)

    def before(self) -> float:
        """Megabytes of the service's worker before."""
        return self._before

    def after(self) -> float:
        """And now."""
        return resident(self._pid)


def resident(pid: int) -> float:
    """Megabytes that a process and its children hold."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if int(fields["Pid"]) == pid or int(fields["PPid"]) == pid:
            total += int(fields.get("VmRSS", "0 kB").split()[0])
    return total / 1000


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about closing and statements."""
    closing, rows = Closing(world, plan), comparisons(plan)
    contenders = {
        "close large": lambda: closing.close(closing.large),
        "read": closing.read,
        "memory small": lambda: closing.memory(closing.small),
        "memory large": lambda: closing.memory(closing.large),
    }
    # Each run is a process of its own: nothing is there to be warmed.
    found = race(contenders, rows[:2], plan, warm_up=0)
    with served(world, ("coalesced",)) as ports:
        statements = Statements(world, plan, ports["coalesced"], ports.pid("coalesced"))
        contenders = {
            "statement": statements.statement,
            "read statement": statements.read,
            "service before": statements.before,
            "service after": statements.after,
        }
        return found + race(contenders, rows[2:], plan)
