"""Breaks: differences between the books and what others say, to be listed, assigned and resolved."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain.breaks import SUBJECT, AssignBreak, ResolveBreak, key, reason_field
from ledger.projections import breaks

blueprint = Blueprint("breaks", __name__, description="Differences from the merchant's export and the bank.")


@blueprint.route("/breaks", methods=["GET"])
@operation("listBreaks", {200: documents.Breaks})
@blueprint.arguments(schemas.BreaksPage, location="query")
def list_breaks(caller: Caller, page: dict[str, Any]) -> Response:
    """Breaks, oldest opening first, and how old what is open has become."""
    (after,) = answers.place(page["after"], int) or (0,)
    now = caller.ledger.clock()
    with reads.reading(caller.ledger, caller.program) as look:
        found = breaks.page(
            look.cur, look.program_id, now, after=after, limit=page["limit"] + 1, status=page["status"],
            type_=page["type"],
        )  # fmt: skip
        shown = answers.page(found, page["limit"], lambda one: answers.cursor(one.opening))
        shown["items"] = [_document(look, one) for one in shown["items"]]
        shown["ageing"] = breaks.ageing(look.cur, look.program_id, now)
    return answers.read(shown)


@blueprint.route("/breaks/<ext:break_id>", methods=["GET"])
@operation("getBreak", {200: documents.BreakDocument})
def get_break(caller: Caller, break_id: str) -> Response:
    """A break."""
    with reads.reading(caller.ledger, caller.program) as look:
        events = look.events([key(break_id)])
        if not events:
            raise Problem(404, NO_SUCH_RECORD)
        document = _document(look, breaks.seen(break_id, events, caller.ledger.clock()))
    return answers.read(document)


def _document(look: reads.Look, found: breaks.Break) -> dict[str, Any]:
    state, stream = found.state, key(found.break_id)
    texts = {"text": look.unseal(SUBJECT, stream, "text", state.opened.text)}
    if state.status == "resolved":
        texts["reason"] = look.unseal(SUBJECT, stream, reason_field(state.resolutions), state.reason)
    return found.document() | texts


@blueprint.route("/breaks/<ext:break_id>/assign", methods=["POST"])
@operation("assignBreak", {200: documents.BreakAnswer}, writes=True)
@blueprint.arguments(schemas.BreakOwner)
def assign_break(caller: Caller, body: dict[str, Any], break_id: str) -> Response:
    """Give an open break an owner."""
    return answers.written(caller.execute(AssignBreak(break_id=break_id, **body)), creates=False)


@blueprint.route("/breaks/<ext:break_id>/resolve", methods=["POST"])
@operation("resolveBreak", {200: documents.BreakAnswer}, writes=True)
@blueprint.arguments(schemas.BreakResolution)
def resolve_break(caller: Caller, body: dict[str, Any], break_id: str) -> Response:
    """Settle a break, with a cause and a reason. Found again, it is opened again, unless exactly it was accepted."""
    return answers.written(caller.execute(ResolveBreak(break_id=break_id, **body)), creates=False)
