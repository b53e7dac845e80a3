"""Opening the ledger from the environment: what the command line and the API both do before anything else."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ledger.application import CommissionLedger, utc_now
from ledger.audit import kept
from ledger.store import erased, known, migrate
from ledger.store.database import Connection, Database, Pool, make_pool, open_database, preflight
from ledger.store.embedded import default_home
from ledger.store.vault import Secrets, load_master_key

ALLOCATIONS = 50_000  # of containers between two looks of the garbage collector
POOL_MAX = 16  # connections; the app's threads wait for one, never for the server
START_TIMEOUT = 5.0  # seconds for the first connection, which a busy server may be slow to give


def tune_collector() -> None:
    """For a process that works in batches: Python's collector would look through all that lives dozens of times a
    batch, for cycles that are not there (a third of a click's time). What is loaded by now is left out for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 20, 20)


@dataclass(frozen=True)
class Service:
    """An open ledger and what it stands on. embedded: the server is ours, in LEDGER_HOME or var/."""

    ledger: CommissionLedger
    pool: Pool
    secrets: Secrets
    database: Database
    embedded: bool


def is_embedded(env: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names no database, so that the embedded server is meant."""
    return not (os.environ if env is None else env).get("DATABASE_URL")


def home_of(env: Mapping[str, str] | None = None) -> Path | None:
    """Where the master key's file lies: the embedded server's home, else LEDGER_HOME. None for an operator's own
    database without one: then the key must come from the environment, for each host would make another."""
    env = os.environ if env is None else env
    if named := env.get("LEDGER_HOME"):
        return Path(named).absolute()
    return default_home() if is_embedded(env) else None


def known_positions_file(env: Mapping[str, str] | None = None) -> Path | None:
    """Where known positions are kept: LEDGER_KNOWN_POSITIONS_FILE, else a file in the home; None without either."""
    env = os.environ if env is None else env
    if named := env.get("LEDGER_KNOWN_POSITIONS_FILE"):
        return Path(named).absolute()
    home = home_of(env)
    return home / known.FILE_NAME if home is not None else None


def erased_subjects_file(env: Mapping[str, str] | None = None) -> Path | None:
    """Where erased subjects are listed: beside the known positions; None where those have no place."""
    path = known_positions_file(env)
    return erased.file_beside(path) if path is not None else None


def sealed_checkpoints_file(env: Mapping[str, str] | None = None) -> Path | None:
    """Where whoever signs remembers what was signed last: beside the known positions; None where they have no place."""
    path = known_positions_file(env)
    return kept.file_beside(path) if path is not None else None


def refuse_unfit(conn: Connection, env: Mapping[str, str] | None = None) -> None:
    """Refuse a database that would not keep the ledger's promises, lacks what is known of it, or has keys of subjects
    whose erasure it does not know. Raises StartupRefused."""
    preflight(conn)
    known.check(conn, known_positions_file(env))
    erased.check(conn, erased_subjects_file(env))


@contextmanager
def open_service(
    env: Mapping[str, str] | None = None,
    *,
    clock: Callable[[], datetime] = utc_now,
    coalesce: bool = True,
    pool_min: int = 1,
    pool_max: int = POOL_MAX,
    name: str = "ledger",
) -> Iterator[Service]:
    """The ledger on the database that the environment names, checked before use. name: of the connections.

    Without DATABASE_URL the embedded server is started and migrated. Raises EmbeddedServerError, MigrationError,
    MasterKeyMissing, StartupRefused (the database would not keep the ledger's promises, migrations are missing, or
    it is older than what is known of it), psycopg_pool.PoolTimeout when the database does not answer.
    """
    env = os.environ if env is None else env
    tune_collector()
    with open_database(env) as database:
        embedded = is_embedded(env)
        if embedded:
            assert database.owner_url is not None
            migrate.migrate(database.owner_url)
        secrets = Secrets(load_master_key(home_of(env), env))
        with make_pool(database.app_url, min_size=pool_min, max_size=pool_max, name=name) as pool:
            with pool.connection(timeout=START_TIMEOUT) as conn:
                refuse_unfit(conn, env)
            yield Service(CommissionLedger(pool, secrets, clock, coalesce), pool, secrets, database, embedded)
