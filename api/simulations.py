"""What would be: simulations are asked for, run by the worker, proposed, approved by a second person, and applied."""

from __future__ import annotations

from itertools import islice
from typing import Any

from flask import Response
from marshmallow import fields, validate

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import Problem
from ledger import simulations
from ledger.domain.errors import InvalidInput
from ledger.simulating.trial import MODELS, trial_of

blueprint = Blueprint("simulations", __name__, description="Other terms, tried on all of history: two people to apply.")
_ONE = "/simulations/<ext:simulation_id>"
BATCHES_NOW = 2  # of an application; the worker goes on with the rest


class SimulationBody(schemas.Strict):
    """What to try on an offer's sales: terms (as they would be published), a model of attribution, or both; from and to
    bound occurred_at."""

    body_limit = schemas.TermsBody.body_limit
    offer_id = schemas.slug(required=True)
    terms = fields.Dict(
        keys=fields.String(), load_default=None, metadata={"description": "the body of POST /offers/{offer_id}/terms"}
    )
    model = fields.String(load_default=None, validate=validate.OneOf(MODELS))
    since = schemas.InstantField(data_key="from", load_default=None)
    until = schemas.InstantField(data_key="to", load_default=None)


class ProposalBody(schemas.Strict):
    """over_earlier: propose it also where it undoes what an earlier simulation decided."""

    over_earlier = schemas.StrictBoolean(load_default=False)


class ApprovalBody(schemas.Strict):
    """lines_hash: of the lines that were looked at; others are not approved."""

    lines_hash = fields.String(load_default="", validate=validate.Regexp(r"^([0-9a-f]{64})?\Z"))


@blueprint.route("/simulations", methods=["POST"])
@operation("requestSimulation", {202: documents.SimulationAnswer, 200: documents.SimulationAnswer}, writes=True)
@blueprint.arguments(schemas.IdempotencyHeader, location="headers")
@blueprint.arguments(SimulationBody)
def request_simulation(caller: Caller, headers: dict[str, Any], body: dict[str, Any]) -> Response:
    """Ask for a simulation; its id is the Idempotency-Key. The worker runs it."""
    simulation_id = headers["idempotency_key"]
    if simulation_id is None:
        errors = [{"header": "Idempotency-Key", "detail": "is required: an id of yours for this simulation"}]
        raise Problem(400, "An Idempotency-Key is required.", code="idempotency_key_required", errors=errors)
    try:
        trial = trial_of(**body)
    except InvalidInput as wrong:
        found = wrong.details.get("of_terms")
        if found is None:
            raise
        errors = [{"pointer": f"/terms{one['pointer']}", "detail": one["detail"]} for one in found]
        raise Problem(422, f"terms/{wrong.message}", code=wrong.code, errors=errors) from None
    answer = simulations.ask(caller.ledger, caller.program, simulation_id, trial, caller.meta)
    status = 202 if answer.outcome == "recorded" else 200
    return answers.json_response({**answer.body, "position": answer.position}, status)


@blueprint.route("/simulations", methods=["GET"])
@operation("listSimulations", {200: documents.Simulations})
@blueprint.arguments(schemas.Page, location="query")
def list_simulations(caller: Caller, page: dict[str, Any]) -> Response:
    """Simulations in the order of their ids, without what they found."""
    items = simulations.page(caller.ledger, caller.program, answers.after_id(page), page["limit"] + 1)
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["simulation_id"])))


@blueprint.route(_ONE, methods=["GET"])
@operation("getSimulation", {200: documents.SimulationDocument})
def get_simulation(caller: Caller, simulation_id: str) -> Response:
    """A simulation: how far it has come, what it found, what was decided and applied."""
    return answers.read(simulations.shown(caller.ledger, caller.program, simulation_id))


@blueprint.route(f"{_ONE}/propose", methods=["POST"])
@operation("proposeSimulation", {200: documents.SimulationAnswer}, writes=True)
@blueprint.arguments(ProposalBody, required=False)
def propose_simulation(caller: Caller, body: dict[str, Any], simulation_id: str) -> Response:
    """Propose to apply what it found. Refused where it would undo an earlier simulation, unless that is asked for."""
    undo_earlier = body.get("over_earlier", False)
    answer = simulations.propose(caller.ledger, caller.program, simulation_id, caller.meta, undo_earlier)
    return answers.written(answer, creates=False)


@blueprint.route(f"{_ONE}/approve", methods=["POST"])
@operation("approveSimulation", {200: documents.SimulationAnswer}, writes=True)
@blueprint.arguments(ApprovalBody, required=False)
def approve_simulation(caller: Caller, body: dict[str, Any], simulation_id: str) -> Response:
    """A second person approves exactly the lines that were proposed."""
    lines_hash = body.get("lines_hash", "")
    answer = simulations.decide(caller.ledger, caller.program, simulation_id, True, caller.meta, lines_hash)
    return answers.written(answer, creates=False)


@blueprint.route(f"{_ONE}/reject", methods=["POST"])
@operation("rejectSimulation", {200: documents.SimulationAnswer}, writes=True)
@blueprint.arguments(schemas.Nothing, required=False)
def reject_simulation(caller: Caller, _: dict[str, Any], simulation_id: str) -> Response:
    """A second person refuses it."""
    answer = simulations.decide(caller.ledger, caller.program, simulation_id, False, caller.meta)
    return answers.written(answer, creates=False)


@blueprint.route(f"{_ONE}/apply", methods=["POST"])
@operation("applySimulation", {200: documents.SimulationDocument}, writes=True)
@blueprint.arguments(schemas.Nothing, required=False)
def apply_simulation(caller: Caller, _: dict[str, Any], simulation_id: str) -> Response:
    """Apply an approved simulation: its first orders now, the rest by the worker."""
    work = simulations.apply(caller.ledger, caller.program, simulation_id, caller.meta)
    for _step in islice(work, BATCHES_NOW):
        pass
    return answers.json_response(simulations.shown(caller.ledger, caller.program, simulation_id))
