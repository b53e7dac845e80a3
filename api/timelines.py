"""Timelines: what happened to an affiliate, a conversion or a payout, entry by entry, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from flask import Response
from marshmallow import ValidationError, validates_schema

from api import answers, schemas
from api.access import AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import timelines as documents
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads, timeline
from ledger.domain import affiliate, conversion, payout
from ledger.domain.event import EPOCH
from ledger.timeline import BEGINNING, Entry, Place

blueprint = Blueprint("timelines", __name__, description="What happened, entry by entry.")
_MICROSECOND = timedelta(microseconds=1)


class AffiliateTimelinePage(schemas.Page):
    """An affiliate's timeline, or that of one of its own conversions or payouts."""

    order_id = schemas.external_id(load_default=None, metadata={"description": "only this order, if it is credited"})
    payout_id = schemas.external_id(load_default=None, metadata={"description": "only this payout, if it is its own"})

    @validates_schema
    def _one_of_them(self, data: dict[str, Any], **_: Any) -> None:
        if data["order_id"] is not None and data["payout_id"] is not None:
            raise ValidationError("Give either order_id or payout_id.", "payout_id")


@blueprint.route("/affiliates/<slug:affiliate_id>/timeline", methods=["GET"])
@operation("getAffiliateTimeline", {200: documents.AffiliateTimeline})
@blueprint.arguments(AffiliateTimelinePage, location="query")
def get_affiliate_timeline(caller: Caller, asked: dict[str, Any], affiliate_id: str) -> Response:
    """Everything that names the affiliate; for its own key without who in the program did it."""
    own = caller.role == AFFILIATE
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        after, most = _after(asked), asked["limit"] + 1
        if asked["order_id"] is None and asked["payout_id"] is None:
            found = timeline.of_affiliate(look, affiliate_id, after, most, own)
        else:
            found = timeline.page(_narrowed(look, affiliate_id, asked, own), after, most)
    return _page(found, asked["limit"], affiliate_id if own else None)


def _narrowed(look: reads.Look, affiliate_id: str, asked: dict[str, Any], own: bool) -> Sequence[Entry]:
    """The timeline of one of the affiliate's own conversions or payouts. Another's is as one that does not exist."""
    order_id, payout_id = asked["order_id"], asked["payout_id"]
    if order_id is not None:
        order = look.record(conversion.key(order_id))
        if order is None or all(credited != affiliate_id for credited, _ in order.state.commissions):
            raise Problem(404, NO_SUCH_RECORD)
        entries = timeline.of_conversion(look, order_id, affiliate_id if own else "")
    else:
        record = look.record(payout.key(payout_id))
        if record is None or record.state.proposed.affiliate_id != affiliate_id:
            raise Problem(404, NO_SUCH_RECORD)
        entries = timeline.of_payout(look, payout_id)
    return [one for one in entries if one.topic in timeline.OWN_TOPICS] if own else entries


@blueprint.route("/conversions/<ext:order_id>/timeline", methods=["GET"])
@operation("getConversionTimeline", {200: documents.Timeline})
@blueprint.arguments(schemas.Page, location="query")
def get_conversion_timeline(caller: Caller, asked: dict[str, Any], order_id: str) -> Response:
    """A sale's click, events, reversals, differences, disputes, statements and payouts."""
    with reads.reading(caller.ledger, caller.program) as look:
        entries = timeline.of_conversion(look, order_id)
    return _whole(entries, asked)


@blueprint.route("/payouts/<ext:payout_id>/timeline", methods=["GET"])
@operation("getPayoutTimeline", {200: documents.Timeline})
@blueprint.arguments(schemas.Page, location="query")
def get_payout_timeline(caller: Caller, asked: dict[str, Any], payout_id: str) -> Response:
    """A payout's events, its run's, its file, the bank's lines and differences about it."""
    with reads.reading(caller.ledger, caller.program) as look:
        entries = timeline.of_payout(look, payout_id)
    return _whole(entries, asked)


def _whole(entries: Sequence[Entry], asked: dict[str, Any]) -> Response:
    if not entries:
        raise Problem(404, NO_SUCH_RECORD)
    return _page(timeline.page(entries, _after(asked), asked["limit"] + 1), asked["limit"], None)


def _page(entries: Sequence[Entry], limit: int, affiliate_id: str | None) -> Response:
    body = answers.page(entries, limit, _cursor)
    if affiliate_id is not None:
        body["items"] = [timeline.for_the_affiliate(one, affiliate_id) for one in body["items"]]
    return answers.read(body)


def _cursor(entry: Entry) -> str:
    return answers.cursor((entry.recorded_at - EPOCH) // _MICROSECOND, entry.log, entry.position)


def _after(asked: dict[str, Any]) -> Place:
    found = answers.place(asked["after"], int, str, int)
    if found is None:
        return BEGINNING
    try:
        if found[1] in timeline.LOGS:
            return Place(EPOCH + found[0] * _MICROSECOND, found[1], found[2])
    except OverflowError:
        pass
    errors = [{"parameter": "after", "detail": "must be the next of an earlier page"}]
    raise Problem(422, "The cursor is not one of ours.", code="invalid_input", errors=errors)
