"""Where the service connects, as whom, and under which conditions it refuses to start.

Three roles share one database: `ledger_owner` owns the tables and runs migrations, `ledger_app` serves and
may only append, `ledger_reader` sees what the views of schema `reader` show. With DATABASE_URL the roles are made by
whoever runs that server (docs/roles.sql); without it they are made here, in the embedded server.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from ledger.store import migrate
from ledger.store.embedded import EmbeddedServer

OLDEST_SERVER = 15
DATABASE = "ledger"
ROLES = ("ledger_owner", "ledger_app", "ledger_reader")

# Nobody waits for ever. The order matters: a lock is given up before a statement, both before a caller loses
# patience; a transaction that its client forgot must not hold a program's head for long.
CONNECT_TIMEOUT = 2  # seconds
CHECKOUT_TIMEOUT = 1.5  # seconds to wait for a connection of the pool
LOCK_TIMEOUT = 1.5  # seconds
STATEMENT_TIMEOUT = 15.0  # seconds
IDLE_IN_TRANSACTION_TIMEOUT = 20.0  # seconds
# For what reads a program from its beginning (a period's close, an export, a journal, a rebuild): minutes with millions
# of events, and longer on a slow disk; but finite too, so that what hangs is given up on the same day.
LONG_STATEMENT_TIMEOUT = "2h"
# The pool doubles its delay between attempts until this: small, so that it is back a second after the server.
RECONNECT_TIMEOUT = 2.0  # seconds

RV = TypeVar("RV")


class Connection(psycopg.Connection[TupleRow]):
    """A connection that can be given a deadline (monotonic seconds). The server's own timeouts do not help when it
    hangs or the network swallows it; past the deadline the connection is dropped and OperationalError raised."""

    deadline: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See psycopg.Connection.wait."""
        if self.deadline is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, max(0.001, self.deadline - time.monotonic()))
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError("the server did not answer in time") from None


Pool = ConnectionPool[Connection]


@contextmanager
def answering(pool: Pool, deadline: float, *, whole: bool = True) -> Iterator[Connection]:
    """A connection and a transaction of it. deadline: monotonic seconds, to get the connection; with whole also for
    every answer of the server, COMMIT's included. Raises psycopg.OperationalError, psycopg_pool.PoolTimeout."""
    with pool.connection(timeout=max(0.05, deadline - time.monotonic())) as conn:
        conn.deadline = deadline if whole else None
        try:
            yield conn
            conn.commit()
        finally:
            conn.deadline = None


def allow_long(cur: psycopg.Cursor[Any] | psycopg.Connection[Any], idle: str | None = None) -> None:
    """Let the statements of this transaction take long. idle: how long it may wait for us between two, such as 10min;
    as always without."""
    cur.execute(f"SET LOCAL statement_timeout = '{LONG_STATEMENT_TIMEOUT}'")
    if idle is not None:
        cur.execute(sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(sql.Literal(idle)))


class StartupRefused(Exception):
    """The database would not keep the ledger's promises; the message says which one, and what to change."""


@dataclass(frozen=True)
class Database:
    """Connection strings, one a role; None where the operator gave none."""

    app_url: str
    owner_url: str | None
    reader_url: str | None


def open_database(env: Mapping[str, str] | None = None) -> AbstractContextManager[Database]:
    """The operator's database (DATABASE_URL, LEDGER_OWNER_URL, LEDGER_READER_URL), else the embedded server.

    `env` defaults to the process's environment. On leaving, the embedded server is released: the last process
    out stops it. Raises EmbeddedServerError when the embedded server cannot start, psycopg.Error when it
    cannot be set up; a DATABASE_URL is not contacted here.
    """
    return _opened(os.environ if env is None else env)


@contextmanager
def _opened(env: Mapping[str, str]) -> Iterator[Database]:
    if url := env.get("DATABASE_URL"):
        yield Database(url, env.get("LEDGER_OWNER_URL") or None, env.get("LEDGER_READER_URL") or None)
        return
    home = env.get("LEDGER_HOME")
    with EmbeddedServer.start(Path(home) if home else None) as server:
        make_roles(server)
        make_database(server, DATABASE)
        yield urls(server, DATABASE)


def urls(server: EmbeddedServer, database: str) -> Database:
    """The three connection strings for a database of the embedded server."""
    owner, app, reader = (server.url(database, role) for role in ROLES)
    return Database(app_url=app, owner_url=owner, reader_url=reader)


def make_roles(server: EmbeddedServer) -> None:
    """Make the three roles in the embedded server, if they are not there; none of them is above any rule."""
    with psycopg.connect(server.superuser_url) as conn:
        # Two processes may start together: one transaction at a time looks and makes.
        conn.execute("SELECT pg_advisory_xact_lock(4919, 1)")
        present = {name for (name,) in conn.execute("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            if role in present:
                continue
            # Hashed here, so that the password appears in no statement and no log.
            secret = conn.pgconn.encrypt_password(server.password(role).encode(), role.encode(), b"scram-sha-256")
            rights = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION PASSWORD")
            conn.execute(
                sql.SQL("CREATE ROLE {} {} {}").format(sql.Identifier(role), rights, sql.Literal(secret.decode()))
            )


def make_database(server: EmbeddedServer, name: str, *, template: str | None = None) -> None:
    """Make a database owned by `ledger_owner` in the embedded server, if it is not there."""
    with psycopg.connect(server.superuser_url, autocommit=True) as conn:
        if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            return
        command = sql.SQL("CREATE DATABASE {} OWNER ledger_owner").format(sql.Identifier(name))
        if template:
            # A little faster than copying through the WAL (0.13 s against 0.15, with dropping it again).
            command += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        # Somebody who started together with us may be first.
        with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            conn.execute(command)


# --- the pool ------------------------------------------------------------------------------------------


def make_pool(
    url: str,
    *,
    min_size: int,
    max_size: int,
    name: str,
    lock_timeout: float = LOCK_TIMEOUT,
    statement_timeout: float = STATEMENT_TIMEOUT,
    autocommit: bool = False,
) -> Pool:
    """An open pool whose every wait ends: checkout, connect, lock, statement, idle transaction, dead peer.

    Timeouts are in seconds. `name` shows as the pool's name and the connections' application_name. The pool
    opens in the background: a server that is down shows as psycopg_pool.PoolTimeout at checkout, within 1.5
    s, and the pool is usable again about a second after the server is. Close it with `close()` or use it in a
    `with`.
    """
    dead: list[Callable[[], None]] = []

    def check(conn: Connection) -> None:
        """Refuse a connection whose server has gone; costs a system call, not a round trip."""
        if not _has_news(conn):
            return
        try:
            ConnectionPool.check_connection(conn)
        except psycopg.Error:
            # The others are of the same age: replace them all, instead of one for each caller that trips over
            # it.
            for drain in dead:
                drain()
            raise

    pool: Pool = ConnectionPool(
        connection_settings(url, name, lock_timeout=lock_timeout, statement_timeout=statement_timeout),
        connection_class=Connection,
        kwargs={"autocommit": autocommit},
        min_size=min_size,
        max_size=max_size,
        name=name,
        timeout=CHECKOUT_TIMEOUT,
        reconnect_timeout=RECONNECT_TIMEOUT,
        check=check,
        open=False,
    )
    dead.append(pool.drain)
    pool.open()
    return pool


def connection_settings(url: str, name: str, *, lock_timeout: float, statement_timeout: float) -> str:
    """The connection string with our finite timeouts; what the operator's URL says itself stays in force.

    Raises psycopg.ProgrammingError for a malformed `url`.
    """
    given = conninfo_to_dict(url)
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": name,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    session = {
        "lock_timeout": f"{round(lock_timeout * 1000)}ms",
        "statement_timeout": f"{round(statement_timeout * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{round(IDLE_IN_TRANSACTION_TIMEOUT * 1000)}ms",
        "TimeZone": "UTC",
        # a temporary table must not be able to stand in for one of ours
        "search_path": "public,pg_temp",
    }
    ours = " ".join(f"-c {key}={value}" for key, value in session.items())
    # Later options win: the operator's come last.
    options = " ".join(filter(None, [ours, str(given.pop("options", ""))]))
    return make_conninfo(**{**settings, **given, "options": options})


def _has_news(conn: Connection) -> bool:
    """True if an idle connection's socket has something to read: mostly the server's good-bye."""
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return bool(poll.poll(0))


# --- before serving --------------------------------------------------------------------------------------


def preflight(conn: Connection) -> None:
    """Refuse to serve from a database that could lose, hide or rewrite what the ledger was told.

    `conn` is one of the service's own, as the pool makes them. Raises StartupRefused naming every objection.
    """
    if conn.info.server_version // 10_000 < OLDEST_SERVER:
        found = conn.info.parameter_status("server_version")
        raise StartupRefused(f"PostgreSQL {OLDEST_SERVER} or newer is needed, this is {found}")
    # First: while a restore is under way, everything else may look wrong, too.
    row = conn.execute("SELECT to_regnamespace('restoring') IS NOT NULL").fetchone()
    if row and row[0]:
        raise StartupRefused(
            "a restore into this database has not ended, so nothing is proven: run the same `ledger restore` again"
        )
    objections = [*_durability(conn), *_rights(conn), *_patience(conn), *_schema(conn)]
    if objections:
        raise StartupRefused("; ".join(objections))


def _setting(conn: Connection, name: str) -> str:
    row = conn.execute("SELECT setting FROM pg_settings WHERE name = %s", (name,)).fetchone()
    return str(row[0]) if row else ""


def _durability(conn: Connection) -> Iterator[str]:
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if _setting(conn, name) == "off":
            yield f"{name} is off: a crash could lose committed events; turn it on"


def _patience(conn: Connection) -> Iterator[str]:
    for name in ("lock_timeout", "statement_timeout"):
        if _setting(conn, name) == "0":
            yield f"{name} is 0, so a request could wait for ever; set it for this role or in the URL"


def _rights(conn: Connection) -> Iterator[str]:
    row = conn.execute(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    role, is_super, bypasses, creates = row if row else ("?", True, True, True)
    hint = "use a role made as in docs/roles.sql"
    if is_super:
        yield f"role {role} is a superuser, whom no rule binds; {hint}"
        return
    if bypasses:
        yield f"role {role} bypasses row-level security; {hint}"
    if creates:
        yield f"role {role} may create roles; {hint}"
    owned = conn.execute(
        # USAGE also finds what a role owns through membership in another.
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> "
        "'information_schema' AND pg_has_role(current_user, c.relowner, 'USAGE') ORDER BY 1 LIMIT 3"
    ).fetchall()
    if owned:
        tables = ", ".join(name for (name,) in owned)
        yield f"role {role} owns {tables} and could change or drop them; {hint}"


def _schema(conn: Connection) -> Iterator[str]:
    try:
        missing = migrate.pending(conn)
    except migrate.MigrationError as problem:
        yield str(problem)
        return
    if missing:
        yield f"migrations not applied: {', '.join(missing)}; run `python3 run.py migrate`"
