"""Registers for auditors: every number of an invoice, and every decision with the two people who made it."""

from __future__ import annotations

from itertools import islice
from typing import Any

from flask import Response

from api import answers, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import auditing as documents
from ledger import reads
from ledger.projections import decisions, invoices, programs

blueprint = Blueprint("auditing", __name__, description="Registers: invoice numbers, and who decided what.")


@blueprint.route("/invoices/<int:year>", methods=["GET"])
@operation("listInvoices", {200: documents.Invoices})
@blueprint.arguments(schemas.Page, location="query")
def list_invoices(caller: Caller, page: dict[str, Any], year: int) -> Response:
    """A year's self-billing invoices and credit notes, in the order of their numbers."""
    (after,) = answers.place(page["after"], int) or (0,)
    with reads.reading(caller.ledger, caller.program) as look:
        zone = programs.state(look.cur, look.program_id, caller.program).zone
        events = invoices.series(look.cur, look.program_id, year)
        found = invoices.register(look.cur, look.program_id, events, zone, after)
        items = list(islice(found, page["limit"] + 1))
    head = {"year": year, "last_number": invoices.last_number(events), "gaps": invoices.gaps(events)}
    return answers.read(head | answers.page(items, page["limit"], lambda one: answers.cursor(one.sequence)))


@blueprint.route("/decisions", methods=["GET"])
@operation("listDecisions", {200: documents.Decisions})
@blueprint.arguments(schemas.Page, location="query")
def list_decisions(caller: Caller, page: dict[str, Any]) -> Response:
    """What one person proposed and another approved or rejected, in the order of the log."""
    (after,) = answers.place(page["after"], int) or (0,)
    with caller.ledger.reading(caller.program) as (cur, id_):
        found = decisions.page(cur, id_, after, page["limit"] + 1)
    items = [one.document() for one in found]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["position"])))
