"""Adjustments: a bonus or a correction, proposed by one person and approved by another."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import affiliate
from ledger.domain.adjustment import AdjustmentState, DecideAdjustment, ProposeAdjustment, key
from ledger.projections import decisions
from ledger.projections.decisions import Trail

blueprint = Blueprint("adjustments", __name__, description="Bonuses and corrections: two people each.")


@blueprint.route("/adjustments", methods=["POST"])
@operation("proposeAdjustment", {201: documents.AdjustmentAnswer, 200: documents.AdjustmentAnswer}, writes=True)
@blueprint.arguments(schemas.IdempotencyHeader, location="headers")
@blueprint.arguments(schemas.AdjustmentBody)
def propose_adjustment(caller: Caller, headers: dict[str, Any], body: dict[str, Any]) -> Response:
    """Propose a bonus or correction; its id is the Idempotency-Key."""
    idempotency_key = headers["idempotency_key"]
    if idempotency_key is None:
        errors = [{"header": "Idempotency-Key", "detail": "is required: an id of yours for this adjustment"}]
        raise Problem(400, "An Idempotency-Key is required.", code="idempotency_key_required", errors=errors)
    return answers.written(caller.execute(ProposeAdjustment(adjustment_id=idempotency_key, **body)))


@blueprint.route("/adjustments", methods=["GET"])
@operation("listAdjustments", {200: documents.Adjustments})
@blueprint.arguments(schemas.AdjustmentsPage, location="query")
def list_adjustments(caller: Caller, page: dict[str, Any]) -> Response:
    """Adjustments in the order of their ids."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.records("adjustment", answers.after_id(page), page["limit"] + 1, page["status"])
        trails = decisions.of_records(look.cur, look.program_id, [key(one.record_id) for one in found])
        items = [_document(look, one, trails[key(one.record_id)]) for one in found]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["adjustment_id"])))


@blueprint.route("/adjustments/<ext:adjustment_id>", methods=["GET"])
@operation("getAdjustment", {200: documents.AdjustmentDocument})
def get_adjustment(caller: Caller, adjustment_id: str) -> Response:
    """An adjustment."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(key(adjustment_id))
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        trails = decisions.of_records(look.cur, look.program_id, [key(adjustment_id)])
        document = _document(look, found, trails[key(adjustment_id)])
    return answers.read(document)


def _document(look: reads.Look, found: reads.Found, trails: list[Trail]) -> dict[str, Any]:
    state: AdjustmentState = found.state
    proposed = state.proposed
    fields = ("adjustment_id", "affiliate_id", "kind", "amount", "currency", "effective_at")
    said = {field: getattr(proposed, field) for field in fields}
    subject = affiliate.key(proposed.affiliate_id)
    reason = look.unseal(subject, key(proposed.adjustment_id), "reason", proposed.reason)
    return said | decisions.who(trails) | {"reason": reason, "status": state.status, "position": found.position}


def _decides(decision: str) -> Any:
    @operation(f"{decision}Adjustment", {200: documents.AdjustmentAnswer}, writes=True)
    @blueprint.arguments(schemas.Nothing, required=False)
    def decide(caller: Caller, _: dict[str, Any], adjustment_id: str) -> Response:
        command = DecideAdjustment(adjustment_id=adjustment_id, approve=decision == "approve")
        return answers.written(caller.execute(command), creates=False)

    return decide


blueprint.decisions(
    "/adjustments/<ext:adjustment_id>",
    "adjustment",
    _decides,
    {"approve": "A second person posts the adjustment.", "reject": "A second person refuses the adjustment."},
)
