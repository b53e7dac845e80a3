"""What is owed and why: balances, entries, the trial balance."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from api import answers
from api.auth import Caller, operation
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads

blueprint = Blueprint("books", __name__, description="What is owed, and why.")


@blueprint.route("/affiliates/<slug:affiliate_id>/balance", methods=["GET"])
@operation("getBalance")
def get_balance(caller: Caller, affiliate_id: str) -> Response:
    """What an affiliate is owed and was paid."""
    found = reads.balance_now(caller.ledger.pool, caller.program_id, affiliate_id)
    if found is None:
        raise Problem(404, NO_SUCH_RECORD)
    position, balances = found
    return answers.read({"affiliate_id": affiliate_id, "position": position, "balances": balances})
