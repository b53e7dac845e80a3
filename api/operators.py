"""For operators: is it up, is it ready, and its figures."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, redirect
from werkzeug.wrappers import Response as WerkzeugResponse

from api import answers
from api.errors import unavailable
from api.startup import Preflight
from ledger import reads
from ledger.application import CommissionLedger
from ledger.store.database import StartupRefused

blueprint = Blueprint("operators", __name__)
_ALIVE = b'{"status":"ok"}'


@blueprint.route("/")
def root() -> WerkzeugResponse:
    """Whoever opens the bare address finds the documentation page."""
    return redirect("/docs/")


@blueprint.route("/healthz")
def healthz() -> Response:
    """The process answers."""
    return Response(_ALIVE, 200, content_type=answers.JSON)


@blueprint.route("/readyz")
def readyz() -> Response:
    """The database answers and keeps the ledger's promises; 503 while it does not."""
    ledger: CommissionLedger = current_app.extensions["ledger"]
    looked: Preflight | None = current_app.extensions["preflight"]
    try:
        if looked is not None:
            looked.check()
        reads.fetch(ledger.pool, "SELECT 1", {})
    except StartupRefused as objection:
        current_app.extensions["log"].msg("refused", objection=str(objection))
        raise unavailable() from None
    except Exception:
        raise unavailable() from None
    return answers.json_response({"status": "ready"})
