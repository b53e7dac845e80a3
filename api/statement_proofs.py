"""Statements' proofs: one file with which an affiliate checks its statement without trusting this service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import Any

from flask import Response, current_app, g

from api import answers, openapi
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import Problem
from api.periods import VersionQuery
from ledger.presenting import StatementDiffers
from ledger.statement_proofs import statement_proof

blueprint = Blueprint("statement_proofs", __name__, description="Proofs of statements, to be checked offline.")
MEMORY_MOST = 1 << 20  # bytes of a proof that are kept in memory; more go to a temporary file
PIECE = 1 << 16
TIMEOUT = "60s"  # of one SQL statement; what takes longer is for the command line
_making: set[tuple[str, str]] = set()  # (program, key id) of those that wait for a proof
_lock = threading.Lock()
_RESPONSES = openapi.responses({}, (401, 403, 404, 409, 422, 429, 500, 503))
_RESPONSES["200"] = {
    "description": "OK",
    "content": {answers.JSON: {"schema": {"type": "object", "description": "see docs/statement-proofs.md"}}},
}


@contextmanager
def _one_at_a_time(caller: Caller) -> Iterator[None]:
    """A key has one proof made at a time by a process: each costs seconds in large books, and whoever may ask could ask
    often enough to keep everybody else from the database. Raises Problem."""
    who = caller.program, caller.meta.key_id
    with _lock:
        if who in _making:
            detail = "Another proof is being made for this key; ask again when it is there."
            raise Problem(429, detail, headers={"Retry-After": "1"})
        _making.add(who)
    try:
        yield
    finally:
        with _lock:
            _making.discard(who)


@blueprint.route("/affiliates/<slug:affiliate_id>/statements/<slug:period>/proof", methods=["GET"])
@operation("getStatementProof", {}, responses=_RESPONSES)
@blueprint.arguments(VersionQuery, location="query")
def get_statement_proof(caller: Caller, asked: dict[str, Any], affiliate_id: str, period: str) -> Response:
    """The proof that a statement is what the sealed log says and that no entry was left out; `ledger verify` and
    docs/verify_statement.py check it offline. 409 while its events are not sealed yet; 429 while
    another proof is made for the same key."""
    kept = SpooledTemporaryFile(max_size=MEMORY_MOST)  # noqa: SIM115  (closed with the response)
    try:
        with _one_at_a_time(caller):
            for piece in statement_proof(
                caller.ledger, caller.program, affiliate_id, period, asked["version"], TIMEOUT
            ):
                kept.write(piece)
    except StatementDiffers as error:
        kept.close()
        current_app.extensions["log"].msg("statement_differs", request_id=g.request_id, detail=str(error))
        detail = "The books do not lead to the statement that was issued; it cannot be proven."
        raise Problem(500, detail, code="statement_differs") from error
    except BaseException:
        kept.close()
        raise
    size = kept.tell()
    kept.seek(0)

    def pieces() -> Iterator[bytes]:
        while piece := kept.read(PIECE):
            yield piece

    response = Response(pieces(), 200, content_type=answers.JSON)
    response.content_length = size
    response.headers["Cache-Control"] = "private, no-cache"
    name = f"proof-{caller.program}-{affiliate_id}-{period}.json"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.call_on_close(kept.close)
    return response
