"""Payout runs: proposed by one person, approved by another as exactly that, sent on their way, and compared with the
bank."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, openapi, schemas, schemas_payouts
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import payruns, reads, threeway
from ledger.domain import money, payout_run, restore
from ledger.domain.errors import WrongState
from ledger.domain.event import Answer
from ledger.domain.payout_run import FileFacts, PayoutRunApproved, PayoutRunRejected
from ledger.domain.proposing import DecideRun
from ledger.projections import payouts
from ledger.projections.payouts import PayoutRow

blueprint = Blueprint("payout_runs", __name__, description="Who is paid: two people each, then files for the bank.")
_RUN = "/payout-runs/<ext:run_id>"
FILE_KINDS = {"xml": "application/xml", "csv": "text/csv"}


@blueprint.route("/payout-runs", methods=["POST"])
@operation("proposePayoutRun", {201: documents.RunAnswer, 200: documents.RunAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.RunProposal)
def propose_payout_run(caller: Caller, body: dict[str, Any]) -> Response:
    """Propose a run of a period, currency and method, or come back to the open one."""
    money.exponent("currency", body["currency"])
    answer = payruns.propose(caller.ledger, caller.program, meta=caller.meta, **body)
    run_id = answer.body["run_id"]
    proposed = payruns.load_run(caller.ledger, caller.program, run_id).proposed if run_id else None
    figures = ("payout_count", "amount", "transfer_amount", "left_out_count", "hash")
    shown = {name: getattr(proposed, name) for name in figures} if proposed else {}
    return answers.written(Answer(answer.outcome, answer.body | shown, answer.position))


@blueprint.route("/payout-runs", methods=["GET"])
@operation("listPayoutRuns", {200: documents.Runs})
@blueprint.arguments(schemas_payouts.RunsPage, location="query")
def list_payout_runs(caller: Caller, page: dict[str, Any]) -> Response:
    """Runs in the order of their ids."""
    with caller.ledger.reading(caller.program) as (cur, id_):
        found = payouts.runs(cur, id_, answers.after_id(page), page["limit"] + 1, page["status"])
    items = [one._asdict() for one in found]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["run_id"])))


@blueprint.route(_RUN, methods=["GET"])
@operation("getPayoutRun", {200: documents.RunDocument})
@blueprint.arguments(schemas.Nothing, location="query")
def get_payout_run(caller: Caller, _: dict[str, Any], run_id: str) -> Response:
    """A run: its cut, what was proposed and decided, its payouts by status, and its files."""
    with reads.reading(caller.ledger, caller.program) as look:
        document = _run(look, run_id)
    return answers.read(document)


def _run(look: reads.Look, run_id: str) -> dict[str, Any]:
    stream = payout_run.key_of(run_id)
    events = look.events([stream])
    series: payout_run.SeriesState | None = None
    for event in events:
        series = payout_run.fold(series, event.body)
    state = payout_run.find(series, run_id)
    if state is None:
        raise Problem(404, NO_SUCH_RECORD)
    own = [event for event in events if event.body.run_id == run_id]  # type: ignore[attr-defined]
    begun = state.begun
    fields = ("run_id", "period", "currency", "method", "attempt", "cut_position", "ends_at", "proposed_by")
    document = {field: getattr(begun, field) for field in fields} | {
        "status": state.status,
        "position": own[-1].position,
        "totals": [one._asdict() for one in payouts.run_totals(look.cur, look.program_id, run_id)],
        "files": state.files,
        "left_out_count": len(state.left_out),
    }
    if state.proposed is not None:
        for name in ("payout_count", "amount", "transfer_amount", "hash"):
            document[name] = getattr(state.proposed, name)
    for event in own:
        if isinstance(event.body, PayoutRunApproved | PayoutRunRejected):
            document |= {"decided_by": event.actor, "decided_at": event.recorded_at}
        if isinstance(event.body, PayoutRunRejected):
            document["reason"] = look.unseal("program", stream, f"reason.{run_id}", event.body.reason)
    if state.initiation is not None:
        document["execution_on"] = state.initiation.execution_on
    return document


@blueprint.route(f"{_RUN}/payouts", methods=["GET"])
@operation("listRunPayouts", {200: documents.Payouts})
@blueprint.arguments(schemas_payouts.RunPayoutsPage, location="query")
def list_run_payouts(caller: Caller, page: dict[str, Any], run_id: str) -> Response:
    """A run's payouts in the order of their ids."""
    payruns.load_run(caller.ledger, caller.program, run_id)
    with caller.ledger.reading(caller.program) as (cur, id_):
        found = payouts.of_run(cur, id_, run_id, answers.after_id(page), page["limit"] + 1, page["status"])
    return payouts_page(found, page["limit"])


def payouts_page(found: list[PayoutRow], limit: int) -> Response:
    """A page of payouts that were asked for one more than limit."""
    items = [one._asdict() | {"transfer_amount": one.transfer_amount} for one in found]
    return answers.read(answers.page(items, limit, lambda item: answers.cursor(item["payout_id"])))


@blueprint.route(f"{_RUN}/left-out", methods=["GET"])
@operation("listLeftOut", {200: documents.LeftOut})
@blueprint.arguments(schemas.Page, location="query")
def list_left_out(caller: Caller, page: dict[str, Any], run_id: str) -> Response:
    """Who is owed money and is not paid by a run, and why, in the order of affiliates."""
    after = answers.after_id(page)
    lines = [one for one in payruns.left_out(caller.ledger, caller.program, run_id) if one[0] > after]
    items = [{"affiliate_id": who, "amount": amount, "reason": why} for who, amount, why in lines]
    page_of = answers.page(items[: page["limit"] + 1], page["limit"], lambda one: answers.cursor(one["affiliate_id"]))
    return answers.read(page_of)


# --- deciding and sending ----------------------------------------------------------------------------------


@blueprint.route(f"{_RUN}/approve", methods=["POST"])
@operation("approvePayoutRun", {200: documents.RunAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.RunApproval)
def approve_payout_run(caller: Caller, body: dict[str, Any], run_id: str) -> Response:
    """A second person approves exactly the run whose hash they saw."""
    command = DecideRun(run_id=run_id, approve=True, hash=body["hash"])
    return answers.written(caller.execute(command), creates=False)


@blueprint.route(f"{_RUN}/reject", methods=["POST"])
@operation("rejectPayoutRun", {200: documents.RunAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.Why)
def reject_payout_run(caller: Caller, body: dict[str, Any], run_id: str) -> Response:
    """A second person refuses the run; another may be proposed."""
    command = DecideRun(run_id=run_id, approve=False, reason=body["reason"])
    return answers.written(caller.execute(command), creates=False)


@blueprint.route(f"{_RUN}/initiate", methods=["POST"])
@operation("initiatePayoutRun", {200: documents.RunAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.Initiation, required=False)
def initiate_payout_run(caller: Caller, body: dict[str, Any], run_id: str) -> Response:
    """Send an approved run on its way: each line initiated, or excluded with the reason."""
    answer = payruns.initiate(caller.ledger, caller.program, run_id, caller.meta, body["execution_on"])
    return answers.written(answer, creates=False)


@blueprint.route(f"{_RUN}/render", methods=["POST"])
@operation("renderPayoutRun", {200: documents.RenderAnswer}, writes=True)
@blueprint.arguments(schemas.Nothing, required=False)
def render_payout_run(caller: Caller, _: dict[str, Any], run_id: str) -> Response:
    """Make an initiated run's files, read them back, and record what they are."""
    answer, made = payruns.render(caller.ledger, caller.program, run_id, caller.meta)
    facts = [FileFacts(name=one.name, sha256=one.sha256, count=one.count, control_sum=one.control_sum) for one in made]
    return answers.written(Answer(answer.outcome, {"run_id": run_id, "files": facts}, answer.position), creates=False)


@blueprint.route(f"{_RUN}/files/<ext:name>", methods=["GET"])
@operation(
    "getPayoutFile",
    {},
    responses=openapi.responses({}, (401, 403, 404, 409, 422, 500, 503))
    | {
        "200": {
            "description": "The file's bytes",
            "content": {kind: {"schema": {"type": "string"}} for kind in FILE_KINDS.values()},
        }
    },
)
@blueprint.arguments(schemas.Nothing, location="query")
def get_payout_file(caller: Caller, _: dict[str, Any], run_id: str, name: str) -> Response:
    """A rendered file, byte for byte; it holds bank details in full."""
    state = payruns.load_run(caller.ledger, caller.program, run_id)
    recorded = next((one for one in state.files if one.name == name), None)
    if recorded is None:
        raise Problem(404, NO_SUCH_RECORD)
    _refuse_while_blocked(caller)
    made = next((one for one in payruns.rendered(caller.ledger, caller.program, run_id) if one.name == name), None)
    if made is None or made.sha256 != recorded.sha256:
        raise WrongState(f"the files of payout run {run_id} came out otherwise before")
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    kind = FILE_KINDS.get(name.rpartition(".")[2], "application/octet-stream")
    return Response(made.content, 200, headers, content_type=kind)


def _refuse_while_blocked(caller: Caller) -> None:
    """Raise WrongState between a restore and the day the bank has been matched: the file may have been sent."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(restore.KEY)
    if found is not None and found.state.matched is None:
        raise WrongState("the books were restored from a backup: match the bank's statements, then confirm it")


@blueprint.route(f"{_RUN}/reconciliation", methods=["GET"])
@operation("getRunReconciliation", {200: documents.RunReconciliation})
@blueprint.arguments(schemas.Nothing, location="query")
def get_run_reconciliation(caller: Caller, _: dict[str, Any], run_id: str) -> Response:
    """A run in three views, the books, its files read again, and the bank, with what differs and what is open."""
    found = threeway.of_run(caller.ledger, caller.program, run_id)
    shown = (
        "break_id", "type", "detail", "affiliate_id", "reference", "expected_amount", "found_amount", "currency",
        "owner", "opened_at", "age_days",
    )  # fmt: skip
    said = [one.document() for one in found.open_breaks]
    return answers.read(
        {
            "run_id": run_id,
            "currency": found.run.begun.currency,
            "status": found.run.status,
            "ledger": [one._asdict() for one in found.ledger],
            "files": found.files,
            "file_problem": found.file_problem,
            "bank": [one._asdict() for one in found.bank],
            "in_transit_amount": found.in_transit_amount,
            "differences": [one._asdict() | {"difference": one.difference} for one in found.differences],
            "apart": found.apart,
            "open_breaks": [{name: one[name] for name in shown} for one in said],
        }
    )
