"""Payouts: what became of each transfer, by a person's word or the bank's statements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from flask import Response, request

from api import answers, body, documents, schemas, schemas_payouts
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from api.payout_runs import payouts_page
from ledger import banking, reads
from ledger.banking import Imported
from ledger.domain import affiliate, payout
from ledger.domain.bank import BankStatementImported, statement_key
from ledger.domain.event import Recorded
from ledger.domain.ids import BIGINT_MAX
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout import PayoutProposed, PayoutState
from ledger.domain.proposing import ExcludePayout
from ledger.domain.topics import TOPIC_OF
from ledger.payouts.bank import BankStatement, read_statement
from ledger.projections import books, invoices, payout_lists, payouts
from ledger.projections.payout_lists import Sent

blueprint = Blueprint("payouts", __name__, description="Transfers to affiliates, and the bank's word on them.")
FILE_LIMIT = body.NDJSON_LIMIT
FILE_KINDS = ("application/xml", "text/xml", "text/plain")


@blueprint.route("/payouts", methods=["GET"])
@operation("listPayouts", {200: documents.Payouts})
@blueprint.arguments(schemas_payouts.PayoutsPage, location="query")
def list_payouts(caller: Caller, page: dict[str, Any]) -> Response:
    """Payouts in the order of their ids."""
    after, limit = answers.after_id(page), page["limit"]
    with caller.ledger.reading(caller.program) as (cur, id_):
        found = payouts.page(cur, id_, after, limit + 1, page["status"], page["affiliate_id"])
    return payouts_page(found, limit)


@blueprint.route("/affiliates/<slug:affiliate_id>/payouts", methods=["GET"])
@operation("listAffiliatePayouts", {200: documents.SentPayouts})
@blueprint.arguments(schemas.Page, location="query")
def list_affiliate_payouts(caller: Caller, page: dict[str, Any], affiliate_id: str) -> Response:
    """What an affiliate was sent, newest first."""
    (before,) = answers.place(page["after"], int) or (BIGINT_MAX,)
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        found = payout_lists.sent_to(look.cur, look.program_id, affiliate_id, before, page["limit"] + 1)
    paged = answers.page(found, page["limit"], lambda one: answers.cursor(one.initiated_position))
    return answers.read(paged | {"items": [_sent(one) for one in paged["items"]]})


def _sent(one: Sent) -> dict[str, Any]:
    fields = (
        "payout_id", "currency", "method", "status", "amount", "vat_amount", "withholding_amount", "transfer_amount",
        "invoice_number", "initiated_at", "ended_at", "position",
    )  # fmt: skip
    return {field: getattr(one.payout, field) for field in fields}


@blueprint.route("/payouts/<ext:payout_id>", methods=["GET"])
@operation("getPayout", {200: documents.PayoutDocument})
@blueprint.arguments(schemas.Nothing, location="query")
def get_payout(caller: Caller, _: dict[str, Any], payout_id: str) -> Response:
    """A payout: how it stands, every event, and the journal lines each made."""
    with reads.reading(caller.ledger, caller.program) as look:
        events = look.events([payout.key(payout_id)])
        if not events:
            raise Problem(404, NO_SUCH_RECORD)
        document = _payout(look, events, caller.ledger.clock())
    return answers.read(document)


def _payout(look: reads.Look, events: list[Recorded], now: datetime) -> dict[str, Any]:
    state: PayoutState | None = None
    for event in events:
        state = payout.fold(state, event.body)
    assert state is not None
    lines: dict[int, list[dict[str, Any]]] = {}
    for line in books.lines_of(look.cur, look.program_id, [event.position for event in events]):
        lines.setdefault(line.pop("position"), []).append(line)
    issued = (state.proposed.payout_id, state.initiated_at)
    notes = invoices.credit_notes(look.cur, look.program_id, [issued], now)
    own = ("status", "fee_amount", "invoice_number", "initiated_at", "ended_at", "bank_line_id", "transfer_amount")
    proposed: dict[str, Any] = msgspec.structs.asdict(state.proposed)
    proposed.pop("tax_rules_version")
    return {
        **proposed,
        **{field: getattr(state, field) for field in own},
        "credit_notes": notes.get(state.proposed.payout_id, []),
        "reason": state.code,
        "events": [
            _event(look, state.proposed, number, event, lines.get(event.position, []))
            for number, event in enumerate(events)
        ],
        "position": events[-1].position,
    }


def _event(
    look: reads.Look, proposed: PayoutProposed, number: int, event: Recorded, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    """An event of a payout's timeline. number: 0 for its proposal; a reason is sealed to the number of its event."""
    fields: dict[str, Any] = msgspec.to_builtins(event.body)
    told = {
        "position": event.position,
        "topic": TOPIC_OF[type(event.body)],
        "recorded_at": event.recorded_at,
        "actor": event.actor,
        "request_id": event.request_id,
        "cause": event.cause,
        "fields": {name: value for name, value in fields.items() if name != "reason"},
        "lines": lines,
    }
    if sealed := fields.get("reason"):
        subject, stream = affiliate.key(proposed.affiliate_id), payout.key(proposed.payout_id)
        told["reason"] = look.unseal(subject, stream, f"reason.{number}", sealed)
    return told


# --- what people decide --------------------------------------------------------------------------------------

_PAYOUT = "/payouts/<ext:payout_id>"


def _decides(operation_id: str, outcome: str, schema: type[schemas.Strict], summary: str) -> Any:
    @operation(operation_id, {200: documents.PayoutDecision}, writes=True)
    @blueprint.arguments(schema)
    def decide(caller: Caller, said: dict[str, Any], payout_id: str) -> Response:
        command = DecidePayout(payout_id=payout_id, outcome=outcome, **said)
        return answers.written(caller.execute(command), creates=False)

    decide.__doc__ = summary
    return decide


for _verb, _decide in {
    "settle": _decides(
        "settlePayout", "settle", schemas_payouts.Settlement, "A person says that the bank booked the payout."
    ),
    "fail": _decides(
        "failPayout", "fail", schemas_payouts.Outcome, "A person says that the payout never left; it is payable again."
    ),
    "return": _decides(
        "returnPayout", "return", schemas_payouts.Outcome, "A person says that a settled payout came back."
    ),
    "mark-unknown": _decides(
        "markPayoutUnknown",
        "mark_unknown",
        schemas_payouts.Why,
        "Nobody knows whether the bank took the payout; its funds stay in transit.",
    ),
}.items():
    blueprint.add_url_rule(f"{_PAYOUT}/{_verb}", f"{_verb}_payout", _decide, methods=["POST"])


@blueprint.route(f"{_PAYOUT}/exclude", methods=["POST"])
@operation("excludePayout", {200: documents.PayoutDecision}, writes=True)
@blueprint.arguments(schemas_payouts.Why)
def exclude_payout(caller: Caller, said: dict[str, Any], payout_id: str) -> Response:
    """Take a payout out of its run before its money leaves."""
    return answers.written(caller.execute(ExcludePayout(payout_id=payout_id, reason=said["reason"])), creates=False)


# --- what the bank says ----------------------------------------------------------------------------------------


@blueprint.route("/bank-statements", methods=["POST"])
@operation(
    "importBankStatement",
    {200: documents.BankImportAnswer},
    writes=True,
    requestBody={"required": True, "content": {kind: {"schema": {"type": "string"}} for kind in FILE_KINDS}},
)
@blueprint.arguments(schemas_payouts.BankFile, location="query")
def import_bank_statement(caller: Caller, asked: dict[str, Any]) -> Response:
    """Match a bank's file (camt.053 or MT940, up to 16 MiB) with payouts; a line that was known changes nothing."""
    if request.mimetype not in FILE_KINDS:
        raise body.unsupported(*FILE_KINDS)
    statements = read_statement(body.read(FILE_LIMIT), asked["format"], name="the file")
    done = banking.import_statements(caller.ledger, caller.program, statements, caller.meta)
    with reads.reading(caller.ledger, caller.program) as look:
        told = [_imported(look, read, one) for read, one in zip(statements, done, strict=True)]
    return answers.json_response({"statements": told})


def _imported(look: reads.Look, read: BankStatement, done: Imported) -> dict[str, Any]:
    recorded = look.record(statement_key(done.statement_id))
    return {
        "statement_id": done.statement_id,
        "currency": read.currency,
        "line_count": done.line_count,
        "outcomes": done.outcomes,
        "unchanged": done.unchanged,
        "refused": [{"line_id": line_id, "detail": why} for line_id, why in done.refused],
        "break_ids": done.break_ids,
        "notes": read.notes,
        "position": recorded.position if recorded else 0,
    }


@blueprint.route("/bank-statements", methods=["GET"])
@operation("listBankStatements", {200: documents.BankStatements})
@blueprint.arguments(schemas.Page, location="query")
def list_bank_statements(caller: Caller, page: dict[str, Any]) -> Response:
    """The bank statements that were imported, in the order of their ids."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.records("bank_statement", answers.after_id(page), page["limit"] + 1)
    items = [_statement(one) for one in found]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["statement_id"])))


def _statement(found: reads.Found) -> dict[str, Any]:
    imported: BankStatementImported = found.state.imported
    return {**msgspec.structs.asdict(imported), "position": found.position}
