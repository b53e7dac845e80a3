"""Disputes: an affiliate says that a statement line is wrong; finance answers, and accepts or rejects."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.access import AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import affiliate
from ledger.domain.dispute import (
    AnswerDispute,
    DecideDispute,
    DisputeAccepted,
    DisputeState,
    OpenDispute,
    WithdrawDispute,
    answer_field,
    key,
)
from ledger.projections import decisions, disputes

blueprint = Blueprint("disputes", __name__, description="Statement lines that an affiliate says are wrong.")


# --- the affiliate -----------------------------------------------------------------------------------------


@blueprint.route("/affiliates/<slug:affiliate_id>/disputes", methods=["POST"])
@operation("openDispute", {201: documents.DisputeAnswer, 200: documents.DisputeAnswer}, writes=True)
@blueprint.arguments(schemas.DisputeBody)
def open_dispute(caller: Caller, body: dict[str, Any], affiliate_id: str) -> Response:
    """Dispute a line of a statement, named by the position and line_no that it has there."""
    with reads.reading(caller.ledger, caller.program) as look:
        if not disputes.line_on_statement(
            look.cur, look.program_id, affiliate_id, body["period"], body["position"], body["line_no"]
        ):
            detail = f"is no line of the statement of {body['period']}"
            errors = [{"pointer": "/position", "detail": detail}]
            raise Problem(422, f"The line {detail}.", code="invalid_input", errors=errors)
    return answers.written(caller.execute(OpenDispute(affiliate_id=affiliate_id, **body)))


@blueprint.route("/affiliates/<slug:affiliate_id>/disputes", methods=["GET"])
@operation("listOwnDisputes", {200: documents.Disputes})
@blueprint.arguments(schemas.OwnDisputesPage, location="query")
def list_own_disputes(caller: Caller, page: dict[str, Any], affiliate_id: str) -> Response:
    """An affiliate's disputes, in the order of their ids."""
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        found = disputes.of_affiliate(
            look.cur, look.program_id, affiliate_id, after=answers.after_id(page), limit=page["limit"] + 1,
            status=page["status"], period=page["period"],
        )  # fmt: skip
        people = _people(look, caller, [one.dispute_id for one in found])
        items = [
            _document(look, one.dispute_id, one.state, one.position) | people.get(one.dispute_id, {}) for one in found
        ]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["dispute_id"])))


@blueprint.route("/affiliates/<slug:affiliate_id>/disputes/<ext:dispute_id>/withdraw", methods=["POST"])
@operation("withdrawDispute", {200: documents.DisputeAnswer}, writes=True)
@blueprint.arguments(schemas.Nothing, required=False)
def withdraw_dispute(caller: Caller, _: dict[str, Any], affiliate_id: str, dispute_id: str) -> Response:
    """Take a dispute back."""
    command = WithdrawDispute(dispute_id=dispute_id, affiliate_id=affiliate_id)
    return answers.written(caller.execute(command), creates=False)


# --- finance -----------------------------------------------------------------------------------------------


@blueprint.route("/disputes", methods=["GET"])
@operation("listDisputes", {200: documents.Disputes})
@blueprint.arguments(schemas.DisputesPage, location="query")
def list_disputes(caller: Caller, page: dict[str, Any]) -> Response:
    """Disputes of all affiliates, in the order of their ids."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.records("dispute", answers.after_id(page), page["limit"] + 1, page["status"])
        people = _people(look, caller, [one.record_id for one in found])
        items = [
            _document(look, one.record_id, one.state, one.position) | people.get(one.record_id, {}) for one in found
        ]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["dispute_id"])))


@blueprint.route("/disputes/<ext:dispute_id>", methods=["GET"])
@operation("getDispute", {200: documents.DisputeDocument})
def get_dispute(caller: Caller, dispute_id: str) -> Response:
    """A dispute."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(key(dispute_id))
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        people = _people(look, caller, [dispute_id])
        document = _document(look, dispute_id, found.state, found.position) | people.get(dispute_id, {})
    return answers.read(document)


@blueprint.route("/disputes/<ext:dispute_id>/answer", methods=["POST"])
@operation("answerDispute", {200: documents.DisputeAnswer}, writes=True)
@blueprint.arguments(schemas.DisputeText)
def answer_dispute(caller: Caller, body: dict[str, Any], dispute_id: str) -> Response:
    """Write back to the affiliate without deciding."""
    return answers.written(caller.execute(AnswerDispute(dispute_id=dispute_id, **body)), creates=False)


@blueprint.route("/disputes/<ext:dispute_id>/accept", methods=["POST"])
@operation("acceptDispute", {200: documents.DisputeAnswer}, writes=True)
@blueprint.arguments(schemas.DisputeRemedy)
def accept_dispute(caller: Caller, body: dict[str, Any], dispute_id: str) -> Response:
    """The affiliate is right: propose an adjustment (amount), which a second person approves, or release a held
    conversion (order_id)."""
    remedy = body | {"order_id": body["order_id"] or ""}
    command = DecideDispute(dispute_id=dispute_id, accept=True, **remedy)
    return answers.written(caller.execute(command), creates=False)


@blueprint.route("/disputes/<ext:dispute_id>/reject", methods=["POST"])
@operation("rejectDispute", {200: documents.DisputeAnswer}, writes=True)
@blueprint.arguments(schemas.DisputeText)
def reject_dispute(caller: Caller, body: dict[str, Any], dispute_id: str) -> Response:
    """The line stands."""
    command = DecideDispute(dispute_id=dispute_id, accept=False, **body)
    return answers.written(caller.execute(command), creates=False)


def _people(look: reads.Look, caller: Caller, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Dispute id → who opened, answered and decided it; nothing for the affiliate, who is not told staff's names."""
    if caller.role == AFFILIATE:
        return {}
    trails = decisions.of_records(look.cur, look.program_id, [key(id_) for id_ in ids])
    fields = ("answered_by", "answered_at", "decided_by", "decided_at")
    return {
        one.record_id: {"opened_by": one.proposed_by}
        | {field: getattr(one, field) for field in fields if getattr(one, field) is not None}
        for of_stream in trails.values()
        for one in of_stream
    }


def _document(look: reads.Look, dispute_id: str, state: DisputeState, position: int) -> dict[str, Any]:
    opened, stream = state.opened, key(dispute_id)
    subject = affiliate.key(opened.affiliate_id)
    document: dict[str, Any] = {
        "dispute_id": dispute_id,
        "affiliate_id": opened.affiliate_id,
        "period": opened.period,
        "line": {"position": opened.position, "line_no": opened.line_no},
        "status": state.status,
        "text": look.unseal(subject, stream, "text", opened.text),
        "answers": [
            look.unseal(subject, stream, answer_field(number), sealed) for number, sealed in enumerate(state.answers, 1)
        ],
        "position": position,
    }
    if state.decision is not None:
        document["decision"] = look.unseal(subject, stream, "decision", state.decision.text)
    if isinstance(state.decision, DisputeAccepted):
        remedy = {"adjustment_id": state.decision.adjustment_id, "order_id": state.decision.order_id}
        document |= {name: id_ for name, id_ in remedy.items() if id_}
    return document
