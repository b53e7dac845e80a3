"""Receivables: what affiliates owe, and for how long they have."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from ledger.projections import receivables

blueprint = Blueprint("receivables", __name__, description="What affiliates owe.")


@blueprint.route("/receivables", methods=["GET"])
@operation("getReceivables", {200: documents.Receivables})
@blueprint.arguments(schemas.Page, location="query")
def get_receivables(caller: Caller, page: dict[str, Any]) -> Response:
    """Negative payable balances by affiliate and currency, since when they are, and the ageing of all of them."""
    after, now = answers.place(page["after"], str, str) or ("", ""), caller.ledger.clock()
    with caller.ledger.reading(caller.program) as (cur, id_):
        found = receivables.page(cur, id_, now, (after[0], after[1]), page["limit"] + 1)
        ageing = receivables.ageing(cur, id_, now)
    items = [one._asdict() for one in found]
    next_of = lambda item: answers.cursor(item["affiliate_id"], item["currency"])  # noqa: E731
    return answers.read(answers.page(items, page["limit"], next_of) | {"ageing": [one._asdict() for one in ageing]})
