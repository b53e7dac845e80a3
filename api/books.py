"""What is owed and why: balances, entries, the trial balance."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import affiliate, conversion
from ledger.domain.postings import RULES, accounts_of
from ledger.domain.topics import TOPIC_OF
from ledger.projections import books
from ledger.projections.books import AsOf
from ledger.store import log

blueprint = Blueprint("books", __name__, description="What is owed, and why.")
_point_in_time = schemas.PointInTime()
# whose reference is an order; of other lines it is an adjustment or a payout
_OF_CONVERSIONS = frozenset(TOPIC_OF[kind] for kind in RULES if kind.__module__ == conversion.__name__)


@blueprint.route("/affiliates/<slug:affiliate_id>/balance", methods=["GET"])
@operation("getBalance", {200: documents.Balance}, parameters=schemas.parameters(schemas.PointInTime))
def get_balance(caller: Caller, affiliate_id: str) -> Response:
    """What an affiliate is owed and was paid: now, or as of a point in time on either axis."""
    if request.query_string:
        asked = Blueprint.ARGUMENTS_PARSER.parse(_point_in_time, location="query")
        return _balance_as_of(caller, affiliate_id, asked)
    found = reads.balance_now(caller.ledger.pool, caller.program_id, affiliate_id)
    if found is None:
        raise Problem(404, NO_SUCH_RECORD)
    position, balances = found
    return answers.read({"affiliate_id": affiliate_id, "position": position, "balances": balances})


def _balance_as_of(caller: Caller, affiliate_id: str, asked: dict[str, Any]) -> Response:
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        position = _position(look, asked)
        as_of = AsOf(position, asked["effective"])
        rows = books.account_balances(look.cur, look.program_id, as_of, affiliate_id)
    body = {"affiliate_id": affiliate_id, "position": position, "balances": reads.owed(rows)}
    return answers.read(body if asked["effective"] is None else body | {"effective": asked["effective"]})


def _position(look: reads.Look, asked: dict[str, Any]) -> int:
    """The position that as_of means: at most the log's last."""
    last = log.last_position(look.cur, look.program_id, "books")
    found = books.as_of_position(look.cur, look.program_id, asked["as_of"])
    return last if found is None else min(found, last)


@blueprint.route("/affiliates/<slug:affiliate_id>/entries", methods=["GET"])
@operation("listEntries", {200: documents.Entries})
@blueprint.arguments(schemas.Page, location="query")
def list_entries(caller: Caller, page: dict[str, Any], affiliate_id: str) -> Response:
    """The lines of an affiliate's account, oldest first."""
    after = answers.place(page["after"], int, int) or (0, 0)
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        items = books.entries(look.cur, look.program_id, affiliate_id, after, page["limit"] + 1)
    bucket_of = {account: bucket for bucket, account in accounts_of(affiliate_id).items()}
    for item in items:
        signed = ((item["debit"], -item["amount"]), (item["credit"], item["amount"]))
        item["order_id"] = item["reference"] if item["event"] in _OF_CONVERSIONS else None
        item["changes"] = {bucket_of[account]: amount for account, amount in signed if account in bucket_of}
    next_of = lambda item: answers.cursor(item["position"], item["line_no"])  # noqa: E731
    return answers.read(answers.page(items, page["limit"], next_of))


@blueprint.route("/trial-balance", methods=["GET"])
@operation("getTrialBalance", {200: documents.TrialBalance})
@blueprint.arguments(schemas.PointInTime, location="query")
def get_trial_balance(caller: Caller, asked: dict[str, Any]) -> Response:
    """Every account, now or as of a point in time; sums to zero in every currency."""
    with reads.reading(caller.ledger, caller.program) as look:
        position = _position(look, asked)
        as_of = AsOf(position, asked["effective"])
        accounts = books.trial_balance(look.cur, look.program_id, as_of)
    totals: dict[str, int] = {}
    for one in accounts:
        totals[one["currency"]] = totals.get(one["currency"], 0) + one["amount"]
    body = {"position": position, "accounts": accounts, "totals": totals}
    return answers.read(body if asked["effective"] is None else body | {"effective": asked["effective"]})
