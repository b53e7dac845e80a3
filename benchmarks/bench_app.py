"""The service under load: the real application on a ledger of our choosing (the modes are explained in
benchmarks.serve).

Only here is there an endpoint /bench/select-1, which takes a connection from the service's pool and asks it SELECT 1.
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from datetime import UTC, datetime

from flask import Flask, Response

from api import create_app
from benchmarks.serve import MODE
from ledger import reads
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain.event import Answer, Command
from ledger.service import open_service


class StopsAfterValidation(CommissionLedger):
    """Answers what it is asked to execute as if it had."""

    def execute(self, program: str, command: Command, meta: Meta) -> Answer:
        """An answer as large as a real one."""
        body = {
            "order_id": getattr(command, "order_id", ""),
            "status": "pending",
            "affiliate_id": "affiliate-00",
            "commission": 1000,
            "currency": "GBP",
            "matures_at": datetime(2026, 2, 1, tzinfo=UTC),
        }
        return Answer("recorded", body, 1)


def make_app() -> Flask:
    """The application in the mode that the environment names."""
    mode = os.environ[MODE]
    stack = ExitStack()
    atexit.register(stack.close)
    service = stack.enter_context(open_service(coalesce=mode != "alone"))
    ledger = service.ledger
    if mode == "validation":
        ledger = StopsAfterValidation(service.pool, service.secrets)
    app = create_app(ledger)

    @app.route("/bench/select-1")
    def select_1() -> Response:
        """The least that an endpoint can ask of the database."""
        ((one,),) = reads.fetch(service.pool, "SELECT 1", {})
        return Response(b'{"one":%d}' % one, content_type="application/json")

    return app
