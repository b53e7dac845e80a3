"""Exceptions: well-formed facts that could not be applied, to be listed and resolved."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain.exceptions import ExceptionState
from ledger.domain.resolution import ResolveException

blueprint = Blueprint("exceptions", __name__, description="Facts that could not be applied: kept until resolved.")


@blueprint.route("/exceptions", methods=["GET"])
@operation("listExceptions", {200: documents.Exceptions})
@blueprint.arguments(schemas.ExceptionsPage, location="query")
def list_exceptions(caller: Caller, page: dict[str, Any]) -> Response:
    """Exceptions in the order of their ids."""
    with reads.reading(caller.ledger, caller.program) as look:
        after = answers.after_id(page)
        found = look.records("exception", after, page["limit"] + 1, page["status"], page["type"])
        items = [_document(look, one) for one in found]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["exception_id"])))


@blueprint.route("/exceptions/<record:exception_id>", methods=["GET"])
@operation("getException", {200: documents.ExceptionDocument})
def get_exception(caller: Caller, exception_id: str) -> Response:
    """An exception."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.exception(exception_id)
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        document = _document(look, found)
    return answers.read(document)


def _document(look: reads.Look, found: reads.Found) -> dict[str, Any]:
    state: ExceptionState = found.state
    raised, resolution = state.raised, state.resolution
    document: dict[str, Any] = {
        "exception_id": raised.exception_id,
        "type": raised.type,
        "status": "open" if state.open else "resolved",
        "detail": raised.detail,
        "fact": raised.fact,
        "affiliate_id": raised.affiliate_id,
        "position": found.position,
    }
    if resolution is not None:
        subject = f"affiliate:{raised.affiliate_id}" if raised.affiliate_id else "program"
        reason = look.unseal(subject, raised.exception_id, f"reason.{raised.type}", resolution.reason)
        document |= {"action": resolution.action, "reason": reason}
    return document


@blueprint.route("/exceptions/<record:exception_id>/resolve", methods=["POST"])
@operation("resolveException", {200: documents.ResolutionAnswer}, writes=True)
@blueprint.arguments(schemas.Resolution)
def resolve_exception(caller: Caller, body: dict[str, Any], exception_id: str) -> Response:
    """Apply the fact now, or dismiss it with a reason."""
    return answers.written(caller.execute(ResolveException(exception_id=exception_id, **body)), creates=False)
