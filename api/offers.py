"""Offers, the versions of their terms, and coupons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import money
from ledger.domain.coupon import AssignCoupon, CouponState
from ledger.domain.coupon import key as coupon_key
from ledger.domain.errors import InvalidInput
from ledger.domain.offer import DecideTerms, OfferState, PublishOffer, PublishTerms, key, terms_of
from ledger.projections import decisions
from ledger.projections.decisions import Trail

blueprint = Blueprint("offers", __name__, description="Offers, the versions of their terms, and coupons.")


@blueprint.route("/offers/<slug:offer_id>", methods=["PUT"])
@operation("putOffer", {201: documents.OfferAnswer, 200: documents.OfferAnswer}, writes=True)
@blueprint.arguments(schemas.OfferBody)
def put_offer(caller: Caller, body: dict[str, Any], offer_id: str) -> Response:
    """Name an offer and its landing page."""
    return answers.written(caller.execute(PublishOffer(offer_id=offer_id, **body)))


@blueprint.route("/offers", methods=["GET"])
@operation("listOffers", {200: documents.Offers})
@blueprint.arguments(schemas.Page, location="query")
def list_offers(caller: Caller, page: dict[str, Any]) -> Response:
    """Offers in the order of their ids."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.records("offer", answers.after_id(page), page["limit"] + 1)
        keys = [key(one.record_id) for one in found]
        trails = decisions.of_records(look.cur, look.program_id, keys)
        published = decisions.published(look.cur, look.program_id, keys)
        now = caller.ledger.clock()
        items = [_offer(one, trails[of], published[of], now, _LISTED) for of, one in zip(keys, found, strict=True)]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["offer_id"])))


@blueprint.route("/offers/<slug:offer_id>", methods=["GET"])
@operation("getOffer", {200: documents.OfferDocument})
def get_offer(caller: Caller, offer_id: str) -> Response:
    """An offer and its terms."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(key(offer_id))
        trails = decisions.of_records(look.cur, look.program_id, [key(offer_id)])[key(offer_id)]
        published = decisions.published(look.cur, look.program_id, [key(offer_id)])[key(offer_id)]
    if found is None:
        raise Problem(404, NO_SUCH_RECORD)
    return answers.read(_offer(found, trails, published, caller.ledger.clock(), (*_LISTED, "plan")))


_LISTED = ("effective_from", "hold_days", "window_days", "rate_bps", "amount", "currency", "plan_hash")


def _offer(
    found: reads.Found,
    trails: list[Trail],
    published: dict[int, tuple[str, datetime]],
    now: datetime,
    fields: Sequence[str],
) -> dict[str, Any]:
    state: OfferState = found.state
    every = [*state.terms, *([terms_of(state.proposed.terms)] if state.proposed is not None else [])]
    terms = []
    for one in every:
        by, at = published.get(one.version, (None, None))
        said = {
            "terms_version": one.version,
            "status": state.status_at(one.version, now),
            "effective_until": state.ends_at(one.version),
            "published_by": by,
            "published_at": at,
        }
        said |= {field: one.document if field == "plan" else getattr(one, field) for field in fields}
        terms.append(said | decisions.who(trails, one.version))
    return {
        "offer_id": state.offer_id,
        "offer_name": state.offer_name,
        "landing_url": state.landing_url,
        "terms": terms,
        "position": found.position,
    }


@blueprint.route("/offers/<slug:offer_id>/terms", methods=["POST"])
@operation("publishTerms", {201: documents.TermsAnswer, 200: documents.TermsAnswer}, writes=True)
@blueprint.arguments(schemas.TermsBody)
def publish_terms(caller: Caller, body: dict[str, Any], offer_id: str) -> Response:
    """Publish a version of an offer's terms; one that reaches back behind now waits for a second person."""
    percent = body.pop("percent")
    if percent is not None:
        if body["rate_bps"] is not None:
            raise InvalidInput("percent", "give either percent or rate_bps")
        body["rate_bps"] = money.rate_bps("percent", percent)
    return answers.written(caller.execute(PublishTerms(offer_id=offer_id, **body)))


def _decides(decision: str) -> Any:
    @operation(f"{decision}Terms", {200: documents.TermsAnswer}, writes=True)
    @blueprint.arguments(schemas.Nothing, required=False)
    def decide(caller: Caller, _: dict[str, Any], offer_id: str, terms_version: int) -> Response:
        command = DecideTerms(offer_id=offer_id, terms_version=terms_version, approve=decision == "approve")
        return answers.written(caller.execute(command), creates=False)

    return decide


blueprint.decisions(
    "/offers/<slug:offer_id>/terms/<version:terms_version>",
    "terms",
    _decides,
    {
        "approve": "A second person puts proposed terms in force.",
        "reject": "A second person refuses proposed terms.",
    },
)


# --- coupons -----------------------------------------------------------------------------------------------


@blueprint.route("/coupons/<ext:code>", methods=["PUT"])
@operation("putCoupon", {201: documents.CouponAnswer, 200: documents.CouponAnswer}, writes=True)
@blueprint.arguments(schemas.CouponBody)
def put_coupon(caller: Caller, body: dict[str, Any], code: str) -> Response:
    """Give a coupon to an affiliate."""
    return answers.written(caller.execute(AssignCoupon(coupon=code, **body)))


@blueprint.route("/coupons", methods=["GET"])
@operation("listCoupons", {200: documents.Coupons})
@blueprint.arguments(schemas.Page, location="query")
def list_coupons(caller: Caller, page: dict[str, Any]) -> Response:
    """Coupons in the order of their codes."""
    with reads.reading(caller.ledger, caller.program) as look:
        items = [_coupon(one) for one in look.records("coupon", answers.after_id(page), page["limit"] + 1)]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["coupon"])))


@blueprint.route("/coupons/<ext:code>", methods=["GET"])
@operation("getCoupon", {200: documents.CouponDocument})
def get_coupon(caller: Caller, code: str) -> Response:
    """A coupon and every assignment it has had."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(coupon_key(code))
    if found is None:
        raise Problem(404, NO_SUCH_RECORD)
    return answers.read(_coupon(found))


def _coupon(found: reads.Found) -> dict[str, Any]:
    state: CouponState = found.state
    fields = ("affiliate_id", "offer_id", "valid_from", "valid_until")
    assignments = [{field: getattr(one, field) for field in fields} for one in state.assignments]
    return {"coupon": found.record_id, "assignments": assignments, "position": found.position}
