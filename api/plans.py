"""Commission plans: their JSON Schema, and a look at one before it is published."""

from __future__ import annotations

import flask
import msgspec
from flask import Response

from api import answers, body, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from ledger import plan_words
from ledger.domain.plans import plan, plan_check

blueprint = Blueprint("plans", __name__, description="Commission plans, before they are published as terms.")
public = flask.Blueprint("plan_schema", __name__)
_SCHEMA = msgspec.json.format(msgspec.json.encode(plan_check.schema()))


@public.route("/plan-schema")
def plan_schema() -> Response:
    """The JSON Schema of commission plans."""
    return Response(_SCHEMA, content_type="application/schema+json")


_BODY = {"type": "object", **schemas.PLAN}


@blueprint.route("/plans/check", methods=["POST"])
@operation(
    "checkPlan",
    {200: documents.PlanChecked},
    writes=True,
    requestBody={"required": True, "content": {answers.JSON: {"schema": _BODY}}},
)
def check_plan(caller: Caller) -> Response:
    """Say every mistake of a plan, or in words what it pays; nothing is recorded."""
    raw = body.read(body.PLAN_LIMIT)
    if not body.is_json():
        raise body.unsupported(answers.JSON)
    document = body.decode(raw)
    found = plan_check.mistakes(document)
    return answers.json_response(
        {
            "valid": not found,
            "plan_hash": None if found else plan.hash_of(document),
            "mistakes": [{"pointer": one.pointer, "detail": one.message} for one in found],
            "words": [] if found else plan_words.sentences(plan.read(document).plan),
        }
    )
