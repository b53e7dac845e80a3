"""Reports for auditors, as JSON or CSV."""

from __future__ import annotations

from typing import Any

from flask import Response
from marshmallow import fields, validate

from api import answers, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import reports as documents
from ledger.jobplan import load_plan
from ledger.reports import catalogue
from ledger.reports.report import Asked, make

blueprint = Blueprint("reports", __name__, description="Reports for auditors.")
CSV = "text/csv; charset=utf-8"


class ReportQuestion(schemas.Strict):
    """Which part of the log, or of time, a report is about; each report says what it takes."""

    period = schemas.slug(load_default=None)
    since = schemas.InstantField(data_key="from", load_default=None)
    until = schemas.InstantField(load_default=None)
    offer = schemas.slug(load_default=None)
    days = fields.Integer(load_default=None, validate=validate.Range(0, 36_600))
    form = fields.String(data_key="format", load_default="json", validate=validate.OneOf(("json", "csv")))


@blueprint.route("/reports", methods=["GET"])
@operation("listReports", {200: documents.Reports})
def list_reports(caller: Caller) -> Response:
    """Which reports there are, by what rule, and what they take."""
    items = [
        {"report": one.name, "rule": one.rule, "takes": one.takes, "columns": one.columns}
        for one in catalogue.REPORTS.values()
    ]
    return answers.read({"items": items})


@blueprint.route("/reports/<slug:report>", methods=["GET"])
@operation("getReport", {200: documents.ReportDocument})
@blueprint.arguments(ReportQuestion, location="query")
def get_report(caller: Caller, asked: dict[str, Any], report: str) -> Response:
    """A report: its head with rule, code version, position, checkpoint and control totals, and its rows."""
    form = asked.pop("form")
    document = make(caller.ledger, caller.program, catalogue.find(report), Asked(**asked), load_plan())
    if form == "csv":
        return Response(catalogue.csv_pieces(document), 200, content_type=CSV)
    return answers.read(document)
