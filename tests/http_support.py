"""What the tests of clicks, links and postbacks share: an app on a ledger, a shop of its own for each test."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from conftest import fresh_database
from flask import Flask
from support import by, open_ledger, open_shop, read_log

from api import create_app
from api.tracking import Tracking, tracking
from ledger.application import CommissionLedger
from ledger.domain.ids import program_id
from ledger.domain.offer import PublishOffer
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer

LANDING = "https://shop.example/shoes?ref=1#size"
_programs = itertools.count(1)


@contextmanager
def ledger_of_module(server: EmbeddedServer, template: str) -> Iterator[CommissionLedger]:
    """A ledger on a database that the tests of one module share, each in a program of its own."""
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name)) as ledger:
        yield ledger


@contextmanager
def serving(ledger: CommissionLedger, **config: object) -> Iterator[Flask]:
    """An app on a ledger that does not limit anybody unless told to; its threads end afterwards."""
    unlimited = {"LOG_REQUESTS": False, "TRACKING_PER_SECOND": 1e6, "TRACKING_BURST": 10**6}
    app = create_app(ledger, {**unlimited, **config})
    try:
        yield app
    finally:
        tracking(app).close()


class Shop:
    """A program of its own with the affiliates ada and bob and the offer shoes, and its API."""

    def __init__(self, app: Flask) -> None:
        self.program = f"shop-{next(_programs)}"
        self.program_id = program_id(self.program)
        self.prefix = f"/v1/programs/{self.program}"
        self.link = f"{self.prefix}/c/ada/shoes"
        self.ledger: CommissionLedger = app.extensions["ledger"]
        self.tracking: Tracking = tracking(app)
        self.client = app.test_client()
        open_shop(self.ledger, self.program)
        self.publish()

    def publish(self, landing_url: str = LANDING, offer_id: str = "shoes") -> None:
        """Give an offer a landing page."""
        self.ledger.execute(self.program, PublishOffer(offer_id=offer_id, landing_url=landing_url), by())

    def bearer(self, role: str = "ingest") -> dict[str, str]:
        """Headers with a fresh key of a role."""
        affiliate_id = "ada" if role == "affiliate" else ""
        issued = self.ledger.issue_key(
            self.program, role=role, holder=f"{role}-holder", meta=by(),
            holder_kind="system" if role == "ingest" else "person",
            affiliate_id=affiliate_id, expires_at=self.ledger.clock() + timedelta(days=365),
        )  # fmt: skip
        return {"Authorization": f"Bearer {issued.token}"}

    def log(self, name: str = "traffic") -> list[dict[str, Any]]:
        """What the events of one of the program's logs say."""
        return [one.state for one in read_log(self.ledger, self.program, name)]

    def clicks(self, count: int) -> list[dict[str, Any]]:
        """The recorded clicks of a program that should have so many, once none is queued."""
        until(lambda: self.tracking.queue.depth == 0)
        found = self.log()
        assert len(found) == count, found
        return found


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for it, and fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
