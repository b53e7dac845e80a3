"""A program of its own for each test behind the API: an approved affiliate, an offer of 10 % after 30 days, and a key
of every role."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask

from api import create_app
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain.access import ROLES
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.event import Command
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.store.database import Database, make_pool
from ledger.store.vault import Secrets

_numbers = itertools.count(1)
SOLD_AT = "2026-01-01T12:00:00Z"
OPERATOR = Meta("operator")


class World:
    """now: what the ledger's clock says. tokens: role → access key; holders are named after their role."""

    def __init__(self, ledger: CommissionLedger, app: Flask) -> None:
        self.ledger, self.app, self.program = ledger, app, f"shop{next(_numbers)}"
        self.client = app.test_client()
        self.tokens: dict[str, str] = {}
        self.now = datetime(2026, 6, 1, tzinfo=UTC)

    def issue(self, role: str, holder: str, program: str = "", affiliate_id: str = "", days: int = 365) -> str:
        """A new key's token."""
        return self.ledger.issue_key(
            program or self.program,
            role=role,
            holder=holder,
            holder_kind="person",
            expires_at=self.now + timedelta(days=days),
            meta=OPERATOR,
            affiliate_id=affiliate_id,
        ).token

    def call(
        self, role: str, method: str, path: str, json: Any = None, *, program: str = "", token: str = "", **more: Any
    ) -> Any:
        """The response (werkzeug's TestResponse) to a request with the role's key (role "": without a key)."""
        headers = dict(more.pop("headers", {}))
        if role or token:
            headers["Authorization"] = f"Bearer {token or self.tokens[role]}"
        if json is not None:
            more["json"] = json
        return self.client.open(f"/v1/programs/{program or self.program}{path}", method=method, headers=headers, **more)

    def sell(self, order_id: str = "A-1", amount: int = 1970, **more: Any) -> Any:
        """A sale of the affiliate uk."""
        return self.call("ingest", "POST", "/conversions", sale(order_id, amount, **more))

    def books_position(self) -> int:
        """The last position of the program's books."""
        with self.ledger.reading(self.program) as (cur, program_id):
            cur.execute("SELECT count(*) FROM book_events WHERE program_id = %s", (program_id,))
            row = cur.fetchone()
        assert row is not None
        return int(row[0])


def sale(order_id: str = "A-1", amount: int = 1970, **more: Any) -> dict[str, Any]:
    """A sale's body."""
    body = {"order_id": order_id, "offer_id": "spring", "amount": amount, "occurred_at": SOLD_AT, "affiliate_id": "uk"}
    return body | more


@contextmanager
def open_service(database: Database, config: Mapping[str, Any] | None = None) -> Iterator[Flask]:
    """The API over a database."""
    with make_pool(database.app_url, min_size=1, max_size=6, name="api-test") as pool:
        ledger = CommissionLedger(pool, Secrets(b"k" * 32))
        yield create_app(ledger, {"LOG_REQUESTS": False, **(config or {})})


def make_world(app: Flask) -> World:
    """A world in a program of its own."""
    ledger: CommissionLedger = app.extensions["ledger"]
    world = World(ledger, app)
    ledger.clock = lambda: world.now
    program = world.program
    ledger.open_program(OpenProgram(program=program, currency="GBP"), OPERATOR)
    commands: list[Command] = []
    for affiliate_id in ("uk", "fr"):
        commands.append(EnrolAffiliate(affiliate_id=affiliate_id, email=f"{affiliate_id}@example.org"))
        commands.append(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
    commands.append(PublishOffer(offer_id="spring", landing_url="https://shop.example/"))
    commands.append(PublishTerms(offer_id="spring", hold_days=30, window_days=30, rate_bps=1000))
    ledger.execute_many(program, commands, OPERATOR)
    for role in ROLES:
        world.tokens[role] = world.issue(role, f"{role}-holder", affiliate_id="uk" if role == "affiliate" else "")
    return world
