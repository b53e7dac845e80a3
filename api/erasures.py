"""Erasures: the key of a person's, or a month's, personal data destroyed for good, by two people."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import erasing, reads
from ledger.domain.erasure import DecideErasure, ErasureState, ProposeErasure, key
from ledger.projections import decisions
from ledger.projections.decisions import Trail

blueprint = Blueprint("erasures", __name__, description="Destroying the key of personal data: two people each.")


@blueprint.route("/erasures", methods=["POST"])
@operation("proposeErasure", {201: documents.ErasureAnswer, 200: documents.ErasureAnswer}, writes=True)
@blueprint.arguments(schemas.ErasureBody)
def propose_erasure(caller: Caller, body: dict[str, Any]) -> Response:
    """Propose to erase an affiliate, or what is personal in a month's clicks."""
    return answers.written(erasing.propose(caller.ledger, caller.program, ProposeErasure(**body), caller.meta))


@blueprint.route("/erasures", methods=["GET"])
@operation("listErasures", {200: documents.Erasures})
@blueprint.arguments(schemas.ErasuresPage, location="query")
def list_erasures(caller: Caller, page: dict[str, Any]) -> Response:
    """Erasures in the order of their subjects."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.records("erasure", answers.after_id(page), page["limit"] + 1, page["status"])
        trails = decisions.of_records(look.cur, look.program_id, [key(one.record_id) for one in found])
    items = [_document(one, trails[key(one.record_id)]) for one in found]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["subject"])))


@blueprint.route("/erasures/<ext:subject>", methods=["GET"])
@operation("getErasure", {200: documents.ErasureDocument})
def get_erasure(caller: Caller, subject: str) -> Response:
    """An erasure, by its subject."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(key(subject))
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        trails = decisions.of_records(look.cur, look.program_id, [key(subject)])
    return answers.read(_document(found, trails[key(subject)]))


def _document(found: reads.Found, trails: list[Trail]) -> dict[str, Any]:
    state: ErasureState = found.state
    said = {"subject": state.subject, "ground": state.ground, "status": state.status}
    return said | decisions.who(trails) | {"position": found.position}


def _decides(decision: str) -> Any:
    @operation(f"{decision}Erasure", {200: documents.ErasureAnswer}, writes=True)
    @blueprint.arguments(schemas.Nothing, required=False)
    def decide(caller: Caller, _: dict[str, Any], subject: str) -> Response:
        command = DecideErasure(subject=subject, approve=decision == "approve")
        file = current_app.extensions["erased_subjects_file"]
        answer = erasing.decide(caller.ledger, caller.program, command, caller.meta, file)
        return answers.written(answer, creates=False)

    return decide


blueprint.decisions(
    "/erasures/<ext:subject>",
    "erasure",
    _decides,
    {
        "approve": "A second person approves: the key is destroyed, for good.",
        "reject": "A second person refuses the erasure.",
    },
)
