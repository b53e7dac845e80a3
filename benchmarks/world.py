"""One server for all benchmarks: our own embedded PostgreSQL in a folder of its own, durable as in production."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from benchmarks.harness import BenchmarkError, say
from ledger.application import CommissionLedger
from ledger.batches import Outcome
from ledger.desk import Meta
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.event import Answer, Command
from ledger.domain.lifecycle import ApproveDue
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.store import database as store
from ledger.store.database import Database, Pool
from ledger.store.embedded import EmbeddedServer, default_home
from ledger.store.migrate import migrate
from ledger.store.vault import Secrets

AFFILIATES = 50
OFFER = "offer-1"
RATE_BPS = 1000
CURRENCY = "GBP"
START = datetime(2026, 1, 1, tzinfo=UTC)
MATURED = START + timedelta(days=365)
META = Meta("benchmark", "bench-key", "bench-request")
BATCH = 1000
# of ten conversions nine are approved and one is taken back
APPROVED_OF_TEN = 9


def affiliate_of(number: int, affiliates: int = AFFILIATES) -> str:
    """The affiliate that the number-th click or conversion belongs to, of so many."""
    return f"affiliate-{number % affiliates:02d}"


class World:
    """A migrated database on its own server, and a ledger on it."""

    ROOT = Path(__file__).resolve().parents[1]

    def __init__(self, server: EmbeddedServer, database: Database, pool: Pool, master_key: bytes) -> None:
        self.server, self.database, self.pool = server, database, pool
        self.master_key, self.secrets = master_key, Secrets(master_key)
        self.ledger = CommissionLedger(pool, self.secrets)
        self._books: dict[tuple[int, int], str] = {}

    @property
    def owner_url(self) -> str:
        """Where a benchmark may make tables of its own."""
        assert self.database.owner_url is not None
        return self.database.owner_url

    def environment(self) -> dict[str, str]:
        """For a process that is to work on this database."""
        ours = {
            "DATABASE_URL": self.database.app_url,
            "LEDGER_OWNER_URL": self.owner_url,
            "LEDGER_MASTER_KEY": self.master_key.hex(),
            "PYTHONPATH": str(self.ROOT),
        }
        return {**os.environ, **ours}

    def open_program(self, program: str, affiliates: int = AFFILIATES) -> str:
        """A program with affiliates and an offer that pays 10 %."""
        self.ledger.open_program(OpenProgram(program=program, currency=CURRENCY), META)
        self.do(program, [PublishOffer(offer_id=OFFER, landing_url="https://shop.example/")])
        self.do(program, [PublishTerms(offer_id=OFFER, hold_days=30, window_days=30, rate_bps=RATE_BPS)])
        names = [affiliate_of(number, affiliates) for number in range(affiliates)]
        self.do(program, [EnrolAffiliate(affiliate_id=name) for name in names])
        self.do(program, [DecideAffiliate(affiliate_id=name, decision="approve") for name in names])
        return program

    def do(self, program: str, commands: Sequence[Command]) -> None:
        """Commands of which each must be recorded. Raises BenchmarkError."""
        must_be_recorded(self.ledger.execute_many(program, commands, META))

    def program_with_books(self, entries: int, affiliates: int = AFFILIATES) -> str:
        """A program whose journal has so many entries (a multiple of 20), made by the public commands, once:
        accruals : approvals : reversals = 10 : 9 : 1."""
        if (entries, affiliates) not in self._books:
            program = self.open_program(f"books-{entries}-{affiliates}", affiliates)
            sales = entries // 2
            for start in range(0, sales, BATCH):
                self.sell(program, range(start, min(start + BATCH, sales)), affiliates)
                say(f"  {program}: {2 * min(start + BATCH, sales):,} of {entries:,} entries written")
            with psycopg.connect(self.owner_url, autocommit=True) as conn:
                conn.execute("VACUUM ANALYZE")
            self._books[entries, affiliates] = program
        return self._books[entries, affiliates]

    def sell(self, program: str, numbers: range, affiliates: int = AFFILIATES) -> None:
        """Sales of these numbers, of which nine of ten are approved and one is taken back."""
        sales = [
            RecordConversion(
                order_id=f"order-{n}",
                offer_id=OFFER,
                amount=1000 + 10 * (n % 5000),
                occurred_at=START + timedelta(seconds=n % 86_400),
                affiliate_id=affiliate_of(n, affiliates),
            )
            for n in numbers
        ]
        self.do(program, sales)
        kept = [n for n in numbers if n % 10 < APPROVED_OF_TEN]
        self.do(program, [ApproveDue(order_id=f"order-{n}", at=MATURED) for n in kept])
        returned = [n for n in numbers if n % 10 >= APPROVED_OF_TEN]
        self.do(program, [_reversal(n) for n in returned])


def _reversal(number: int) -> RecordReversal:
    at = START + timedelta(days=5)
    return RecordReversal(reversal_id=f"return-{number}", order_id=f"order-{number}", occurred_at=at)


def must_be_recorded(outcomes: Sequence[Outcome]) -> None:
    """Raises BenchmarkError naming the first command that was not."""
    for outcome in outcomes:
        if not isinstance(outcome, Answer) or outcome.outcome != "recorded":
            raise BenchmarkError(f"not recorded: {outcome!r}")


@contextmanager
def world() -> Iterator[World]:
    """A new server with a migrated database; both are gone afterwards."""
    # Beside the ledger's own data, because a temporary folder may be memory, where fsync costs nothing.
    home = default_home()
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home))
    try:
        with EmbeddedServer.start(folder) as server:
            store.make_roles(server)
            store.make_database(server, store.DATABASE)
            database = store.urls(server, store.DATABASE)
            assert database.owner_url is not None
            migrate(database.owner_url)
            with store.make_pool(database.app_url, min_size=2, max_size=8, name="benchmarks") as pool:
                yield World(server, database, pool, secrets.token_bytes(32))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
