"""Which worker works: the one whose connection holds an advisory lock. The others look after it.

A leader that dies loses its connection, and with it the lock. A leader that is frozen keeps both, so its connection
must show signs of life, a statement every two seconds; a follower that sees none for `frozen_seconds` ends that
worker's connections. Nobody's correctness rests on this lock: two leaders would only be in each other's way, because
a job's commits are fenced (ledger/store/lease.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from ledger.store.database import CONNECT_TIMEOUT, LOCK_TIMEOUT, Connection, connection_settings
from ledger.store.log import Rows

# Two numbers that nobody else uses for advisory locks in this database.
LOCK = (4919, 3)
ANSWER_SECONDS = 5.0  # for the lock connection's small statements
LONGEST_BACKOFF = 5.0  # seconds between two attempts to connect
CONNECTION_NAME = "ledger-worker "  # before the worker's name; all of a worker's connections bear it

_HOLDER = (
    " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %(classid)s AND l.objid = %(objid)s"
    " AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_WHO: Any = "SELECT a.pid, a.application_name" + _HOLDER
# All of a frozen worker's connections: one of them may hold a program's lock in a transaction that it began. Those of
# other processes that an operator gave one name to are none of it.
_DEPOSE: Any = (
    "WITH frozen AS (SELECT a.pid, a.application_name, a.usename"  # noqa: S608
    + _HOLDER
    + " AND a.state_change < clock_timestamp() - make_interval(secs => %(frozen)s))"
    " SELECT s.application_name, pg_terminate_backend(s.pid) FROM frozen f JOIN pg_stat_activity s"
    " ON s.pid <> pg_backend_pid() AND (s.pid = f.pid OR (s.application_name = f.application_name"
    " AND s.usename = f.usename AND s.datname = current_database()"
    " AND starts_with(s.application_name, %(prefix)s)))"
)


class Leadership:
    """A worker's part in who leads. Thread-safe. say: called with an event's name and its fields, for the log."""

    def __init__(self, url: str, worker: str, frozen_seconds: float, say: Callable[..., None]) -> None:
        self._settings = connection_settings(
            url, connection_name(worker), lock_timeout=LOCK_TIMEOUT, statement_timeout=ANSWER_SECONDS
        )
        self._frozen_seconds, self._say = frozen_seconds, say
        self._lock = threading.Lock()
        self._conn: Connection | None = None
        self._leading = False
        self._beaten_at = 0.0  # monotonic seconds
        self._not_before = 0.0
        self._failures = 0
        self._leader = self._protected = ""
        self.term = 0  # counts how often this worker came to lead

    @property
    def leading(self) -> bool:
        """Whether this worker leads, as far as it knows: it would not have noticed while it was frozen."""
        return self._leading and time.monotonic() - self._beaten_at < self._frozen_seconds

    def holds(self, cur: Rows) -> bool:
        """Whether this worker leads, as the database says it now."""
        conn = self._conn
        if conn is None or not self._leading:
            return False
        cur.execute(_WHO, _params())
        return conn.info.backend_pid in [pid for pid, _ in cur]

    def beat(self) -> None:
        """Show a sign of life if this worker leads, else try to; to be called every few seconds. Raises nothing while
        the database is away: connecting is tried again, less and less often."""
        with self._lock:
            if time.monotonic() < self._not_before:
                return
            try:
                self._beat()
                self._failures = 0
            except psycopg.Error as error:
                self._lose(type(error).__name__)
                self._failures += 1
                self._not_before = time.monotonic() + min(LONGEST_BACKOFF, 0.25 * 2**self._failures)

    def resign(self) -> None:
        """Let somebody else lead, at once."""
        with self._lock:
            self._leading = False
            if self._conn is not None:
                self._conn.deadline = time.monotonic() + CONNECT_TIMEOUT
                with suppress(psycopg.Error):
                    self._conn.execute("SELECT pg_advisory_unlock_all()")
            self._drop()

    def _beat(self) -> None:
        if self._conn is None:
            self._conn = Connection.connect(self._settings, autocommit=True)
        conn = self._conn
        conn.deadline = time.monotonic() + CONNECT_TIMEOUT + ANSWER_SECONDS
        began = time.monotonic()
        if self._leading:
            conn.execute("SELECT 1")
        elif self._try(conn):
            self.term += 1
            self._leading, self._leader = True, ""
            self._say("leading", term=self.term)
        else:
            self._look_after(conn)
        self._beaten_at = began

    def _try(self, conn: Connection) -> bool:
        row = conn.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK).fetchone()
        return bool(row and row[0])

    def _look_after(self, conn: Connection) -> None:
        """Note who leads, and depose whoever is frozen."""
        row = conn.execute(_WHO, _params()).fetchone()
        leader = str(row[1]).removeprefix(CONNECTION_NAME) if row else ""
        if leader and leader != self._leader:
            self._leader = leader
            self._say("following", leader=leader)
        params = {**_params(), "frozen": self._frozen_seconds, "prefix": CONNECTION_NAME}
        try:
            deposed = conn.execute(_DEPOSE, params).fetchall()
        except psycopg.errors.InsufficientPrivilege:
            if leader != self._protected:
                self._protected = leader
                self._say("cannot_depose", leader=leader, hint="run all workers as the same database role")
            return
        if deposed:
            self._leader = ""
            self._say("deposed", leader=str(deposed[0][0]).removeprefix(CONNECTION_NAME), connections=len(deposed))

    def _lose(self, why: str) -> None:
        if self._leading:
            self._say("lost_lead", error=why)
        elif not self._failures:
            self._say("database_away", error=why)
        self._drop()

    def _drop(self) -> None:
        self._leading = False
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(psycopg.Error):
                conn.close()


def connection_name(worker: str) -> str:
    """The application_name of a worker's connections."""
    return f"{CONNECTION_NAME}{worker}"


def _params() -> dict[str, Any]:
    return {"classid": LOCK[0], "objid": LOCK[1]}
