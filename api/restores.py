"""Restores: whether the books came from a backup, and the word of a person that they agree with the bank."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas, schemas_payouts
from api.auth import Caller, operation
from api.blueprint import Blueprint
from ledger import reads
from ledger.domain import restore
from ledger.domain.restore import BankMatched, BooksRestored, ConfirmBankMatched

blueprint = Blueprint("restores", __name__, description="Books that came from a backup.")


@blueprint.route("/restores", methods=["GET"])
@operation("getRestore", {200: documents.RestoreDocument})
@blueprint.arguments(schemas.Nothing, location="query")
def get_restore(caller: Caller, _: dict[str, Any]) -> Response:
    """The newest restore, and whether it keeps payouts from being made."""
    with reads.reading(caller.ledger, caller.program) as look:
        document = _restore(look)
    return answers.read(document)


def _restore(look: reads.Look) -> dict[str, Any]:
    document: dict[str, Any] = {"payouts": "allowed", "position": 0}
    for event in look.events([restore.KEY]):
        if isinstance(event.body, BooksRestored):
            document = {
                "payouts": "blocked",
                "restored_position": event.body.position,
                "backup_created_at": event.body.backup_created_at,
                "restored_at": event.recorded_at,
            }
        elif isinstance(event.body, BankMatched):
            field = restore.reason_field(event.body.position)
            document |= {
                "payouts": "allowed",
                "confirmed_by": event.actor,
                "confirmed_at": event.recorded_at,
                "reason": look.unseal(restore.SUBJECT, restore.KEY, field, event.body.reason),
            }
        document["position"] = event.position
    return document


@blueprint.route("/restores/confirm-bank-match", methods=["POST"])
@operation("confirmBankMatch", {200: documents.BankMatchAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.Why)
def confirm_bank_match(caller: Caller, body: dict[str, Any]) -> Response:
    """Say that the restored books were compared with the bank and agree: payouts may go on."""
    return answers.written(caller.execute(ConfirmBankMatched(reason=body["reason"])), creates=False)
