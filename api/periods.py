"""Periods: closed one after the other, each with a statement for every affiliate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Response
from marshmallow import ValidationError, fields, validate

from api import answers, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import statements as documents
from api.errors import Problem
from ledger import closing, presenting
from ledger.application import Progress
from ledger.domain.ids import check_slug
from ledger.projections import periods

blueprint = Blueprint("periods", __name__, description="Months, weeks or custom periods, and closing them.")
MOST_VERSIONS = 2**31 - 1


class CloseBody(schemas.Strict):
    """ends_at: for a custom period only; months (2026-03) and ISO weeks (2026-W12) know their own end."""

    ends_at = schemas.InstantField(load_default=None)


class ReissueBody(schemas.Strict):
    """The next version, and why. The reason is stored as ciphertext."""

    version = schemas.StrictInt(required=True, validate=validate.Range(2, MOST_VERSIONS))
    reason = fields.String(required=True, validate=validate.Length(1, 2000))


class VersionQuery(schemas.Strict):
    """Which version, the newest unless said."""

    version = fields.Integer(load_default=None, validate=validate.Range(1, MOST_VERSIONS))


def place_after(page: dict[str, Any]) -> tuple[datetime | None, int]:
    """The end and version of a period behind which a page begins. Raises Problem 422."""
    found = answers.place(page["after"], str, int)
    if found is None:
        return None, 0
    try:
        return schemas.to_instant(found[0]), min(found[1], MOST_VERSIONS)
    except ValidationError:
        errors = [{"parameter": "after", "detail": "must be the next of an earlier page"}]
        raise Problem(422, "The cursor is not one of ours.", code="invalid_input", errors=errors) from None


@blueprint.route("/periods", methods=["GET"])
@operation("listPeriods", {200: documents.Periods})
@blueprint.arguments(schemas.Page, location="query")
def list_periods(caller: Caller, page: dict[str, Any]) -> Response:
    """Closed periods, newest first, every version."""
    before, version = place_after(page)
    with caller.ledger.reading(caller.program) as (cur, program_id):
        found = periods.periods(cur, program_id, before, page["limit"] + 1, version)
    names = documents.PeriodListed.__struct_fields__
    items = [cut._asdict() | {"cut_position": cut.position} for cut in found]
    shown = [{name: item[name] for name in names} for item in items]
    next_of = lambda item: answers.cursor(item["ends_at"].isoformat(), item["version"])  # noqa: E731
    return answers.read(answers.page(shown, page["limit"], next_of))


@blueprint.route("/periods/<slug:period>", methods=["GET"])
@operation("getPeriod", {200: documents.PeriodDocument})
@blueprint.arguments(VersionQuery, location="query")
def get_period(caller: Caller, asked: dict[str, Any], period: str) -> Response:
    """A closed period: its cut, what its statements add up to, and their digest."""
    figures = presenting.find_period(caller.ledger, caller.program, period, asked["version"])
    return answers.read(presenting.period_document(figures))


@blueprint.route("/periods/<slug:period>/close", methods=["POST"])
@operation("closePeriod", {201: documents.PeriodDocument, 200: documents.PeriodDocument}, writes=True)
@blueprint.arguments(CloseBody, required=False)
def close_period(caller: Caller, body: dict[str, Any], period: str) -> Response:
    """Close a period and issue every statement. Interrupted, the same again goes on where it stopped."""
    check_slug("period", period)
    done = _is_closed(caller, period, 1)
    work = closing.close_period(caller.ledger, caller.program, period, caller.meta, body["ends_at"])
    return _worked_off(caller, work, period, 1, done)


@blueprint.route("/periods/<slug:period>/reissue", methods=["POST"])
@operation("reissuePeriod", {201: documents.PeriodDocument, 200: documents.PeriodDocument}, writes=True)
@blueprint.arguments(ReissueBody)
def reissue_period(caller: Caller, body: dict[str, Any], period: str) -> Response:
    """A new version of the last closed period's statements, for those to whom something was added since its cut."""
    done = _is_closed(caller, period, body["version"])
    work = closing.reissue_period(caller.ledger, caller.program, period, body["version"], body["reason"], caller.meta)
    return _worked_off(caller, work, period, body["version"], done)


def _is_closed(caller: Caller, period: str, version: int) -> bool:
    with caller.ledger.reading(caller.program) as (cur, program_id):
        cut = periods.cut(cur, program_id, period, version)
    return cut is not None and cut.status == "closed"


def _worked_off(caller: Caller, work: Iterator[Progress], period: str, version: int, done: bool) -> Response:
    """The period once all its statements are issued: 201, or 200 where that was done before."""
    try:
        for _ in work:
            pass
    except closing.DoesNotAddUp as error:
        raise Problem(500, str(error), code="does_not_add_up") from error
    figures = presenting.find_period(caller.ledger, caller.program, period, version)
    return answers.json_response(presenting.period_document(figures), 200 if done else 201)
