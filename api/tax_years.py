"""A year's payments by affiliate: the data of a 1099-NEC or DAC7 report."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from marshmallow import fields, validate

from api import answers, openapi, schemas
from api.access import CHECKER, MAKER
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import statements as documents
from ledger import reads
from ledger.projections import programs, tax_totals
from ledger.store.database import allow_long

blueprint = Blueprint("tax_years", __name__, description="What was paid to affiliates in a year.")
CSV = "text/csv; charset=utf-8; header=present"
_RESPONSES = openapi.responses({200: documents.TaxYear}, (401, 403, 404, 422, 500, 503))
_RESPONSES["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
_RESPONSES["304"] = {"description": "Not Modified"}


class TaxYearQuery(schemas.Strict):
    """json or csv; without it, Accept decides."""

    format = fields.String(load_default=None, validate=validate.OneOf(("json", "csv")))


@blueprint.route("/tax/years/<int:year>", methods=["GET"])
@operation("getTaxYear", {200: documents.TaxYear}, responses=_RESPONSES)
@blueprint.arguments(TaxYearQuery, location="query")
def get_tax_year(caller: Caller, asked: dict[str, Any], year: int) -> Response:
    """Settlements less returns by affiliate, currency and quarter; in CSV with tax numbers, for finance only."""
    as_csv = (asked["format"] or _accepted()) == "csv"
    numbers: dict[str, str] | None = None
    with reads.reading(caller.ledger, caller.program) as look:
        allow_long(look.cur)
        zone = programs.state(look.cur, look.program_id, caller.program).zone
        made = tax_totals.totals(look.cur, look.program_id, year, zone)
        if as_csv and caller.role in (MAKER, CHECKER):
            numbers = tax_totals.tax_numbers(look.cur, look.program_id, look.unseal, made)
    if not as_csv:
        response = answers.read({"year": year, "zone": zone, "items": made})
    else:
        response = Response(tax_totals.csv_file(year, made, numbers), 200, content_type=CSV)
        response.headers["Content-Disposition"] = f'attachment; filename="tax-totals-{caller.program}-{year}.csv"'
        response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Vary"] = "Accept"
    return response


def _accepted() -> str:
    liked = request.accept_mimetypes.best_match([answers.JSON, "text/csv"])
    return "csv" if liked == "text/csv" else "json"
