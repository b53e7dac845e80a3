"""Conversions: sales as they come in, one or many, and what happens to them."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from api import answers, body, documents, ndjson, openapi, schemas, story
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from api.inputs import ConversionInput
from ledger import explanations, reads
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.reversal import RecordReversal

blueprint = Blueprint("conversions", __name__, description="Sales, and what happens to them.")
_decode = body.StrictDecoder(ConversionInput)
LINES_AT_ONCE = 1000


@blueprint.route("/conversions", methods=["POST"])
@operation(
    "recordConversions",
    {201: documents.ConversionAnswer, 200: documents.ConversionAnswer, 202: documents.Kept},
    writes=True,
    streams=documents.LineResult,
    requestBody=openapi.one_or_many(ConversionInput),
)
def record_conversions(caller: Caller) -> Response:
    """Record a sale, or up to 10,000 (NDJSON)."""
    if body.is_json():
        return answers.written(caller.execute(_decode(body.read())))
    if request.mimetype == body.NDJSON:
        return ndjson.record_lines(
            _decode, LINES_AT_ONCE, lambda sales: caller.ledger.execute_many(caller.program, sales, caller.meta)
        )
    raise body.unsupported("application/json", body.NDJSON)


@blueprint.route("/conversions/<ext:order_id>/reversals", methods=["POST"])
@operation(
    "recordReversal",
    {201: documents.ReversalAnswer, 200: documents.ReversalAnswer, 202: documents.Kept},
    writes=True,
)
@blueprint.arguments(schemas.ReversalBody)
def record_reversal(caller: Caller, asked: dict[str, Any], order_id: str) -> Response:
    """Take back some or all of a sale; it may come before the sale."""
    command = RecordReversal(order_id=order_id, sale_amount=asked.pop("amount"), **asked)
    return answers.written(caller.execute(command))


@blueprint.route("/conversions/<ext:order_id>", methods=["GET"])
@operation("getConversion", {200: documents.ConversionDocument})
def get_conversion(caller: Caller, order_id: str) -> Response:
    """The whole story: every event, the journal lines each made, and why the commission is what it is."""
    with reads.reading(caller.ledger, caller.program) as look:
        told = story.tell(look, order_id)
    if told is None:
        raise Problem(404, NO_SUCH_RECORD)
    return answers.read(told)


@blueprint.route("/affiliates/<slug:affiliate_id>/conversions/<ext:order_id>", methods=["GET"])
@operation("getCreditedConversion", {200: documents.CreditedConversion})
def get_credited_conversion(caller: Caller, affiliate_id: str, order_id: str) -> Response:
    """What a sale brought an affiliate who is credited with it, why, and what became of it since."""
    # Looked up first: telling another's story, only to withhold it, would take longer than finding no such order.
    if not reads.is_credited(caller.ledger.pool, caller.program_id, order_id, affiliate_id):
        raise Problem(404, NO_SUCH_RECORD)
    with reads.reading(caller.ledger, caller.program) as look:
        told = story.tell(look, order_id, affiliate_id)
    if told is None:
        raise Problem(404, NO_SUCH_RECORD)
    return answers.read(story.for_the_affiliate(told))


@blueprint.route("/conversions/<ext:order_id>/explanation", methods=["GET"])
@operation("explainConversion", {200: documents.Explanation})
def explain_conversion(caller: Caller, order_id: str) -> Response:
    """Why each commission on a sale is what it is: who is credited and by which touches, version, rule, tier, caps,
    exchange rate and rounding, and what became of it; as data and in words."""
    return _explained(caller, order_id)


@blueprint.route("/affiliates/<slug:affiliate_id>/conversions/<ext:order_id>/explanation", methods=["GET"])
@operation("explainCreditedConversion", {200: documents.Explanation})
def explain_credited_conversion(caller: Caller, affiliate_id: str, order_id: str) -> Response:
    """The same for an affiliate who is credited: its own commissions and touches, and nothing of other affiliates."""
    # looked up first, as in get_credited_conversion()
    if not reads.is_credited(caller.ledger.pool, caller.program_id, order_id, affiliate_id):
        raise Problem(404, NO_SUCH_RECORD)
    return _explained(caller, order_id, affiliate_id)


def _explained(caller: Caller, order_id: str, affiliate_id: str = "") -> Response:
    with reads.reading(caller.ledger, caller.program) as look:
        found = explanations.explanation_of(look, order_id, affiliate_id)
    if found is None:
        raise Problem(404, NO_SUCH_RECORD)
    return answers.read(found)


def _decides(decision: str) -> Any:
    @operation(f"{decision}Conversion", {200: documents.ConversionDecision}, writes=True)
    @blueprint.arguments(schemas.Reason, required=False)
    def decide(caller: Caller, asked: dict[str, Any], order_id: str) -> Response:
        command = DecideConversion(order_id=order_id, decision=decision, reason=asked["reason"])
        return answers.written(caller.execute(command), creates=False)

    return decide


blueprint.decisions(
    "/conversions/<ext:order_id>",
    "conversion",
    _decides,
    {
        "hold": "Hold a pending commission back.",
        "release": "End a hold.",
        "approve": "Make a commission payable; before it matures with a reason.",
        "reject": "The commission is not owed after all.",
    },
)
