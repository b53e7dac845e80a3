"""Opening the ledger for a process that serves: also while the database is down, and never on one that would not
keep its promises."""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import ExitStack, suppress

import psycopg
import psycopg_pool

from ledger.application import CommissionLedger
from ledger.service import POOL_MAX, home_of, is_embedded, refuse_unfit, tune_collector
from ledger.store import migrate
from ledger.store.database import Pool, make_pool, open_database
from ledger.store.vault import Secrets, load_master_key


class Preflight:
    """Whether the database was found to keep the ledger's promises; asked until it once was."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._passed = False

    def check(self) -> None:
        """Raises StartupRefused, or what psycopg raises while the database is down."""
        with self._lock:
            if self._passed:
                return
            with self._pool.connection() as conn:
                refuse_unfit(conn)
            self._passed = True


def open_ledger() -> tuple[CommissionLedger, Preflight]:
    """The ledger that the environment names, open until the process ends.

    Raises StartupRefused, MasterKeyMissing, EmbeddedServerError, MigrationError; nothing for a DATABASE_URL that does
    not answer: /readyz looks at it again.
    """
    env = os.environ
    tune_collector()
    with ExitStack() as stack:
        secrets = Secrets(load_master_key(home_of(env), env))
        database = stack.enter_context(open_database(env))
        if is_embedded(env):
            assert database.owner_url is not None
            migrate.migrate(database.owner_url)
        pool = stack.enter_context(make_pool(database.app_url, min_size=2, max_size=POOL_MAX, name="ledger-api"))
        looked = Preflight(pool)
        with suppress(psycopg_pool.PoolTimeout, psycopg.OperationalError):
            looked.check()
        atexit.register(stack.pop_all().close)
    return CommissionLedger(pool, secrets), looked
