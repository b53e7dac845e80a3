"""Applies `migrations/NNNN_name.sql`, each once, in order, by one process at a time.

Each file is a transaction of its own, so it is applied whole or not at all, whatever kills us. A file whose
first line is `-- no-transaction` (for statements that PostgreSQL allows in no transaction, such as CREATE
INDEX CONCURRENTLY) is run statement by statement; it must be safe to run again, every statement must end with
a semicolon at the end of a line, and it cannot hold function bodies.

What was applied is kept with its SHA-256: an edited, renamed or missing file is an error, never a difference.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

DIRECTORY = Path(__file__).resolve().parents[2] / "migrations"
NO_TRANSACTION = "-- no-transaction"
# Any two numbers that nobody else uses for advisory locks in this database.
LOCK = (4919, 2)
LOCK_LIMIT = 600.0  # seconds to wait for another process's migrations
# A migration that waits for a lock on a busy table makes everybody behind it wait too: give up early, try
# again.
STATEMENT_LOCK_LIMIT = "10s"

TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL
);
GRANT SELECT ON schema_migrations TO ledger_app, ledger_reader;
"""

Connection = psycopg.Connection[Any]
Transform = Callable[[str], str]


class MigrationError(Exception):
    """A migration cannot be applied, or a file differs from what was applied; the message names the file."""


@dataclass(frozen=True)
class Migration:
    """One file: `name` is its file name, `sha256` of its bytes, in hexadecimal."""

    version: int
    name: str
    sha256: str
    text: str

    @property
    def transactional(self) -> bool:
        """False for a file that asks to be run outside a transaction."""
        return not self.text.startswith(NO_TRANSACTION)


def load(directory: Path) -> list[Migration]:
    """Read the migrations of a directory in order; `schema.sql`, their sum, is none of them.

    Raises MigrationError for a file that is misnamed or shares its number.
    """
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        if path.name == "schema.sql":
            continue
        number = re.match(r"(\d{4})_[a-z0-9_]+\.sql$", path.name)
        if not number:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql, in lower case")
        content = path.read_bytes()
        version = int(number[1])
        if version in found:
            raise MigrationError(f"{path.name}: number {number[1]} is taken by {found[version].name}")
        found[version] = Migration(version, path.name, hashlib.sha256(content).hexdigest(), content.decode())
    return list(found.values())


def migrate(owner_url: str, directory: Path = DIRECTORY, transform: Transform | None = None) -> list[str]:
    """Apply what is missing, as the owner role; returns the names of the files applied, in order.

    `transform` rewrites a file's SQL before it runs (tests apply the same files to a distributed stand-in);
    the recorded SHA-256 is the file's. Raises MigrationError (naming the file) or psycopg.OperationalError.
    """
    migrations = load(directory)
    with psycopg.connect(owner_url, autocommit=True, connect_timeout=10) as conn, _alone(conn):
        conn.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(STATEMENT_LOCK_LIMIT)))
        conn.execute("SET statement_timeout = 0")
        _require_roles(conn)
        conn.execute(TABLE.encode())
        missing = _missing(conn, migrations)
        for migration in missing:
            _apply(conn, migration, transform or (lambda text: text))
        return [migration.name for migration in missing]


def pending(conn: Connection, directory: Path = DIRECTORY) -> list[str]:
    """The names of the files not applied yet; `conn` may be any role that may read `schema_migrations`.

    Raises MigrationError when an applied file was edited or is missing.
    """
    return [migration.name for migration in _missing(conn, load(directory))]


@contextmanager
def _alone(conn: Connection) -> Iterator[None]:
    """Hold the migrations' lock; it goes with the connection, however that ends.

    By asking again and again: a session that *waits* for a lock holds a snapshot, and CREATE INDEX
    CONCURRENTLY of the one who has it would wait for that snapshot for ever.
    """
    deadline = time.monotonic() + LOCK_LIMIT
    while not _first(conn.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK)):
        if time.monotonic() > deadline:
            raise MigrationError(f"another process has been migrating for {LOCK_LIMIT:.0f} s")
        time.sleep(0.1)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK)


def _require_roles(conn: Connection) -> None:
    wanted = ["ledger_app", "ledger_reader"]
    present = conn.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (wanted,)).fetchall()
    if missing := sorted(set(wanted) - {name for (name,) in present}):
        raise MigrationError(f"roles missing: {', '.join(missing)}; make them first, see docs/roles.sql")


def _missing(conn: Connection, migrations: Iterable[Migration]) -> list[Migration]:
    """Those not applied; raises MigrationError where the files contradict what was applied."""
    files = {migration.version: migration for migration in migrations}
    applied = _applied(conn)
    for version, (name, digest) in applied.items():
        if version not in files:
            raise MigrationError(f"{name} was applied to this database, but the file is missing")
        if files[version].name != name:
            raise MigrationError(f"{name} was applied to this database, but the file is now {files[version].name}")
        if files[version].sha256 != digest:
            raise MigrationError(
                f"{name} was edited after it was applied; restore it, and put the change into a new file"
            )
    missing = [files[version] for version in sorted(files.keys() - applied.keys())]
    newest = max(applied, default=0)
    if missing and missing[0].version < newest:
        raise MigrationError(f"{missing[0].name} comes before {applied[newest][0]}, which was applied: number it anew")
    return missing


def _applied(conn: Connection) -> dict[int, tuple[str, str]]:
    if not _first(conn.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")):
        return {}
    rows = conn.execute("SELECT version, name, sha256 FROM schema_migrations ORDER BY version")
    return {version: (name, digest) for version, name, digest in rows}


def _apply(conn: Connection, migration: Migration, transform: Transform) -> None:
    text = transform(migration.text)
    try:
        if migration.transactional:
            with conn.transaction():
                conn.execute(text.encode())
                _record(conn, migration)
        else:
            for statement in re.split(r"(?<=;)[ \t]*\n", text):
                if re.sub(r"--[^\n]*", "", statement).strip():
                    conn.execute(statement.encode())
            _record(conn, migration)
    except psycopg.Error as problem:
        at = problem.diag.statement_position
        line = f", line {text.count(chr(10), 0, int(at)) + 1}" if at and migration.transactional else ""
        raise MigrationError(f"{migration.name}{line}: {problem}") from problem


def _record(conn: Connection, migration: Migration) -> None:
    conn.execute(
        "INSERT INTO schema_migrations (version, name, sha256, applied_at) VALUES (%s, %s, %s, clock_timestamp())",
        (migration.version, migration.name, migration.sha256),
    )


def _first(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
