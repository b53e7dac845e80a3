"""For operators: is it up, is it ready, and its figures."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

from api import answers
from api.errors import unavailable
from ledger import reads
from ledger.application import CommissionLedger

blueprint = Blueprint("operators", __name__)
_ALIVE = b'{"status":"ok"}'


@blueprint.route("/healthz")
def healthz() -> Response:
    """The process answers."""
    return Response(_ALIVE, 200, content_type=answers.JSON)


@blueprint.route("/readyz")
def readyz() -> Response:
    """The database answers, too; 503 while it does not."""
    ledger: CommissionLedger = current_app.extensions["ledger"]
    try:
        reads.fetch(ledger.pool, "SELECT 1", {})
    except Exception:
        raise unavailable() from None
    return answers.json_response({"status": "ready"})
