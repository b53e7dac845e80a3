"""The same work as a user of the `eventsourcing` library does it, with nothing but what the library brings:
PostgreSQL recorders, JSON transcoder, Application.save, ProjectionRunner, one balance upsert an event."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any, LiteralString
from urllib.parse import unquote, urlsplit
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import get_topic
from psycopg.sql import SQL, Identifier

from benchmarks.harness import BenchmarkError
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer

DATABASE = "stock"
WAIT_SECONDS = 600.0


def datastore(server: EmbeddedServer) -> PostgresDatastore:
    """The library's connections to a database of its own on the same server."""
    place = _place(server)
    return PostgresDatastore(place["dbname"], place["host"], place["port"], place["user"], place["password"])


def environment(server: EmbeddedServer) -> dict[str, str]:
    """The library's own settings for it; everything not named is the library's default."""
    place = {f"POSTGRES_{name.upper()}": value for name, value in _place(server).items()}
    return {"PERSISTENCE_MODULE": "eventsourcing.postgres", **place}


def _place(server: EmbeddedServer) -> dict[str, str]:
    store.make_database(server, DATABASE)
    url = urlsplit(server.url(DATABASE, "ledger_owner"))
    return {
        "dbname": DATABASE,
        "host": url.hostname or "",
        "port": str(url.port),
        "user": url.username or "",
        "password": unquote(url.password or ""),
    }


class Sale(Aggregate):
    """A conversion: recorded, accrued, approved or reversed."""

    class Recorded(Aggregate.Created):
        """The sale."""

        order_id: str
        offer_id: str
        amount: int
        currency: str
        occurred_at: datetime
        click_id: str

    class Accrued(Aggregate.Event):
        """A commission is owed."""

        affiliate_id: str
        commission: int
        currency: str

    class Approved(Aggregate.Event):
        """It is payable."""

        affiliate_id: str
        commission: int
        currency: str

    class Reversed(Aggregate.Event):
        """It is not owed any more."""

        affiliate_id: str
        commission: int
        currency: str

    @event(Recorded)
    def __init__(
        self, order_id: str, offer_id: str, amount: int, currency: str, occurred_at: datetime, click_id: str
    ) -> None:
        self.order_id, self.offer_id, self.amount = order_id, offer_id, amount
        self.currency, self.occurred_at, self.click_id = currency, occurred_at, click_id
        self.affiliate_id, self.commission, self.status = "", 0, "recorded"

    @event(Accrued)
    def accrue(self, affiliate_id: str, commission: int, currency: str) -> None:
        """Owe a commission."""
        self.affiliate_id, self.commission, self.status = affiliate_id, commission, "pending"

    @event(Approved)
    def approve(self, affiliate_id: str, commission: int, currency: str) -> None:
        """Make it payable."""
        self.status = "approved"

    @event(Reversed)
    def reverse(self, affiliate_id: str, commission: int, currency: str) -> None:
        """Take it back."""
        self.status = "reversed"


class Sales(Application[UUID]):
    """The stock application."""

    name = "sales"


class BalancesView(PostgresTrackingRecorder):
    """What is owed, a row an affiliate and currency, moved together with the position."""

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        table = Identifier(datastore.schema, "owed")
        self.sql_create_statements.append(
            SQL(
                "CREATE TABLE IF NOT EXISTS {0} (affiliate_id text, currency text, pending bigint, payable bigint,"
                " PRIMARY KEY (affiliate_id, currency)) WITH (fillfactor = 70)"
            ).format(table)
        )
        self.upsert = SQL(
            "INSERT INTO {0} AS t VALUES (%s, %s, %s, %s) ON CONFLICT (affiliate_id, currency) DO UPDATE"
            " SET pending = t.pending + EXCLUDED.pending, payable = t.payable + EXCLUDED.payable"
        ).format(table)
        self.goal = 0
        self.reached = threading.Event()

    def move(self, domain_event: Any, pending: int, payable: int, tracking: Tracking) -> None:
        """The one upsert of an event, and its position, in one transaction."""
        with self.datastore.transaction(commit=True) as curs:
            self._insert_tracking(curs, tracking)
            owner = (domain_event.affiliate_id, domain_event.currency)
            curs.execute(self.upsert, (*owner, pending, payable), prepare=True)
        if tracking.notification_id >= self.goal > 0:
            self.reached.set()

    def balances(self) -> dict[str, tuple[int, int]]:
        """(pending, payable) by affiliate."""
        with self.datastore.cursor() as curs:
            curs.execute("SELECT affiliate_id, pending, payable FROM owed")
            return {row["affiliate_id"]: (row["pending"], row["payable"]) for row in curs.fetchall()}


class Balances(Projection[BalancesView]):
    """The stock projection. Events that move no balance are not even read."""

    name = "balances"
    topics = (get_topic(Sale.Accrued), get_topic(Sale.Approved), get_topic(Sale.Reversed))

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Move what is owed."""
        raise BenchmarkError(f"unexpected event {domain_event!r}")

    @process_event.register
    def _(self, domain_event: Sale.Accrued, tracking: Tracking) -> None:
        self.view.move(domain_event, domain_event.commission, 0, tracking)

    @process_event.register
    def _(self, domain_event: Sale.Approved, tracking: Tracking) -> None:
        self.view.move(domain_event, -domain_event.commission, domain_event.commission, tracking)

    @process_event.register
    def _(self, domain_event: Sale.Reversed, tracking: Tracking) -> None:
        self.view.move(domain_event, -domain_event.commission, 0, tracking)


Runner = ProjectionRunner[Sales, BalancesView]


def start_runner(env: dict[str, str]) -> Runner:
    """Application and projection; the projection follows in a thread of its own from here on."""
    return ProjectionRunner(application_class=Sales, projection_class=Balances, view_class=BalancesView, env=env)


def wait_for(runner: Runner, position: int) -> None:
    """Wait until the projection has come to a position. Raises what it raised, or BenchmarkError.

    Not the library's wait(), whose polling would add up to 0.8 s to what is measured.
    """
    view = runner.view
    view.goal = position
    if (view.max_tracking_id(runner.app_name) or 0) >= position:
        return
    waited = 0.0
    while not view.reached.wait(timeout=0.5):
        waited += 0.5
        if runner.is_interrupted.is_set():
            runner.run_forever(timeout=0)
        if waited > WAIT_SECONDS:
            raise BenchmarkError(f"the stock projection did not reach {position}")


def forget_events(server: EmbeddedServer) -> None:
    """Empty the application's log, and undo the projection."""
    forget(server)
    _empty(server, "sales_events", "TRUNCATE sales_events")


def forget(server: EmbeddedServer) -> None:
    """Undo the projection, so that a runner starts from the beginning."""
    _empty(server, "owed", "TRUNCATE owed")
    _empty(server, "balances_tracking", "DELETE FROM balances_tracking WHERE application_name = 'sales'")


def _empty(server: EmbeddedServer, table: str, statement: LiteralString) -> None:
    store.make_database(server, DATABASE)
    with psycopg.connect(server.url(DATABASE, "ledger_owner")) as conn:
        found = conn.execute("SELECT to_regclass(%s)", (table,)).fetchone()
        if found is not None and found[0] is not None:
            conn.execute(statement)
