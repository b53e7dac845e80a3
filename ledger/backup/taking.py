"""Taking a backup: two dumps and a manifest of one and the same snapshot, whole or not there at all."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg

from ledger.backup import manifest, tools
from ledger.backup.manifest import LEDGER_DUMP, VAULT_DUMP, BackupRefused, Connection, Manifest, Progress
from ledger.store.database import open_database
from ledger.store.durable import fsync_directory, write_whole
from ledger.store.pg_cluster import open_lock, try_lock

NEEDS_OWNER = "LEDGER_OWNER_URL is needed: only the role that owns the tables may read all of them (docs/roles.sql)"
# Whoever changes tables just now is waited for this long.
LOCK_WAIT = "60s"
SETTINGS = (
    "SET statement_timeout = 0",
    "SET lock_timeout = '60s'",
    "SET idle_in_transaction_session_timeout = 0",  # the snapshot must outlive the dumps
    "SET search_path = public, pg_temp",
    "SET TimeZone = 'UTC'",
)
LOCK = "lock"
DUMP = ("--format=custom", "--no-owner", "--no-comments", "--no-publications", "--no-subscriptions")


def take_backup(
    env: Mapping[str, str],
    directory: Path,
    *,
    with_vault: bool = True,
    progress: Progress = lambda *_: None,
) -> tuple[Manifest, str]:
    """A backup of the database that the environment names into a directory that is new, or empty.

    Reading and writing go on meanwhile. Returns the manifest and the SHA-256 of its file, hexadecimal. The master key
    is not in it. Raises BackupRefused, EmbeddedServerError, psycopg.Error, OSError.
    """
    directory = directory.absolute()
    _refuse_if_taken(directory)
    with (
        open_database(env) as database,
        _owner(database.owner_url) as conn,
        _draft(directory) as (draft, lock),
    ):
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        migration = _last_migration(conn)
        tool = tools.find("pg_dump", env, conn.info.server_version // 10_000)
        row = conn.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
        assert row is not None
        snapshot, created_at = row
        assert database.owner_url is not None
        parts = {LEDGER_DUMP: ["--exclude-table-data=vault.*"]}
        if with_vault:
            parts[VAULT_DUMP] = ["--schema=vault", "--data-only"]
        for name, arguments in parts.items():
            path = draft / name
            tools.run(
                tool,
                database.owner_url,
                [*DUMP, *arguments, f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT}", f"--file={path}"],
                lambda path=path: progress(f"{path.name}: bytes", _size(path), None),  # type: ignore[misc]
                [lock.fileno()],
            )
        found = Manifest(
            manifest.FORMAT,
            created_at,
            migration,
            str(conn.info.parameter_status("server_version")),
            tool.version,
            manifest.describe(conn, progress),
            manifest.subject_keys(conn) if with_vault else None,
            {name: manifest.state_of(draft / name, progress) for name in parts},
        )
        conn.execute("COMMIT")
        for name in parts:
            _sync(draft / name)
        # last: without it nothing here is a backup
        write_whole(draft / manifest.FILE_NAME, manifest.encode(found))
        digest = manifest.state_of(draft / manifest.FILE_NAME, lambda *_: None).sha256
        (draft / LOCK).unlink()
        fsync_directory(draft)
        _refuse_if_taken(directory)
        draft.rename(directory)
        fsync_directory(directory.parent)
    return found, digest


@contextmanager
def _owner(url: str | None) -> Iterator[Connection]:
    if url is None:
        raise BackupRefused(NEEDS_OWNER)
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn:
        for setting in SETTINGS:
            conn.execute(setting.encode())
        yield conn


def _last_migration(conn: Connection) -> str:
    row = conn.execute("SELECT to_regclass('schema_migrations') IS NULL, to_regnamespace('restoring') IS NOT NULL")
    empty, restoring = row.fetchone() or (True, False)
    if restoring:
        raise BackupRefused("a restore into this database has not ended: there is nothing here to back up")
    last = None if empty else conn.execute(manifest.QUERIES["select_last_migration"]).fetchone()
    if last is None:
        raise BackupRefused("there is no ledger in this database: nothing to back up")
    return str(last[1])


def _refuse_if_taken(directory: Path) -> None:
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise BackupRefused(f"{directory} is there already: a backup goes into a new directory, or an empty one")
    if not directory.parent.is_dir():
        raise BackupRefused(f"{directory.parent} is no directory: make it first")


@contextmanager
def _draft(directory: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A directory beside the one that is wanted, readable by us alone; gone afterwards, unless it was renamed. Its
    lock is held by us and by the tools, so that one which nobody holds was left by somebody who was killed."""
    prefix = f".{directory.name}.partial-"
    for left in directory.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), open_lock(left / LOCK) as lock:
            if try_lock(lock):
                shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    try:
        with open_lock(draft / LOCK) as lock:
            try_lock(lock)
            yield draft, lock
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sync(path: Path) -> None:
    path.chmod(0o600)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
