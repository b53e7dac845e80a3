"""Affiliates: partner records, and the decisions about them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from flask import Response

from api import answers, documents, schemas, schemas_earning
from api.access import ADMIN, AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import earning
from api.errors import NO_SUCH_RECORD, Problem
from ledger import goals, reads
from ledger.domain.affiliate import (
    PERSONAL_FIELDS,
    DecideAffiliate,
    EnrolAffiliate,
    GroupAffiliate,
    RecruitAffiliate,
    key,
)

blueprint = Blueprint("affiliates", __name__, description="Partner records.")


@blueprint.route("/affiliates", methods=["POST"])
@operation("enrolAffiliate", {201: documents.AffiliateAnswer, 200: documents.AffiliateAnswer}, writes=True)
@blueprint.arguments(schemas.Enrolment)
def enrol_affiliate(caller: Caller, enrolment: dict[str, Any]) -> Response:
    """Take an application."""
    return answers.written(caller.execute(EnrolAffiliate(**enrolment)))


@blueprint.route("/affiliates", methods=["GET"])
@operation("listAffiliates", {200: documents.Affiliates})
@blueprint.arguments(schemas.AffiliatesPage, location="query")
def list_affiliates(caller: Caller, page: dict[str, Any]) -> Response:
    """Affiliates in the order of their ids, with the group that each is in now."""
    now, most = caller.ledger.clock(), page["limit"] + 1
    with reads.reading(caller.ledger, caller.program) as look:
        at_once = most if page["group"] is None else reads.AFFILIATES_AT_ONCE
        some = look.affiliates(now, answers.after_id(page), page["status"], page["group"], at_once)
        found = list(islice(some, most))
    items = [
        {
            "affiliate_id": one.record_id,
            "status": one.state.status,
            "group": one.state.group_at(now),
            "recruiter_id": one.state.recruiter_id,
            "position": one.position,
        }
        for one in found
    ]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["affiliate_id"])))


@blueprint.route("/affiliates/<slug:affiliate_id>", methods=["GET"])
@operation("getAffiliate", {200: documents.AffiliateDocument})
def get_affiliate(caller: Caller, affiliate_id: str) -> Response:
    """An affiliate."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(key(affiliate_id))
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        document = {
            "affiliate_id": affiliate_id,
            "status": found.state.status,
            "group": found.state.group_at(caller.ledger.clock()),
            "position": found.position,
        }
        if caller.role != AFFILIATE:  # who else is in the program is not told to affiliates
            document["recruiter_id"] = found.state.recruiter_id
        if caller.role in (ADMIN, AFFILIATE):
            stream = key(affiliate_id)
            for field in PERSONAL_FIELDS:
                document[field] = look.unseal(stream, stream, field, getattr(found.state, field))
    return answers.read(document)


@blueprint.route("/affiliates/<slug:affiliate_id>/group", methods=["PUT"])
@operation("putAffiliateGroup", {201: documents.AffiliateGroup, 200: documents.AffiliateGroup}, writes=True)
@blueprint.arguments(schemas.GroupBody)
def put_affiliate_group(caller: Caller, body: dict[str, Any], affiliate_id: str) -> Response:
    """Put an affiliate into a group, by which plans may pay it otherwise."""
    return answers.written(caller.execute(GroupAffiliate(affiliate_id=affiliate_id, **body)))


@blueprint.route("/affiliates/<slug:affiliate_id>/recruiter", methods=["PUT"])
@operation("putAffiliateRecruiter", {201: documents.AffiliateRecruiter, 200: documents.AffiliateRecruiter}, writes=True)
@blueprint.arguments(schemas.RecruiterBody)
def put_affiliate_recruiter(caller: Caller, body: dict[str, Any], affiliate_id: str) -> Response:
    """Say who recruited an affiliate, once and for ever."""
    return answers.written(caller.execute(RecruitAffiliate(affiliate_id=affiliate_id, **body)))


@blueprint.route("/affiliates/<slug:affiliate_id>/goals", methods=["GET"])
@operation("listGoals", {200: earning.Goals})
@blueprint.arguments(schemas_earning.GoalsAt, location="query")
def list_goals(caller: Caller, asked: dict[str, Any], affiliate_id: str) -> Response:
    """How far an affiliate has come towards each goal that is set to it, and every bonus that it earned."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = goals.progress(look, caller.program, affiliate_id, asked["at"] or caller.ledger.clock())
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        earned = goals.earned(look, affiliate_id)
    return answers.read({"items": found, "earned": earned})


@blueprint.route("/goals", methods=["GET"])
@operation("listAllGoals", {200: earning.GoalsOfAll})
@blueprint.arguments(schemas_earning.GoalsPage, location="query")
def list_all_goals(caller: Caller, page: dict[str, Any]) -> Response:
    """How far every affiliate that has begun has come towards each goal, the highest percentage first."""
    # a percentage below zero is none: what was taken back counts at most as much as what came
    after = answers.place(page["after"], int, str, str, str, str)
    behind = goals.Place(-after[0], *after[1:]) if after else None
    with reads.reading(caller.ledger, caller.program) as look:
        found = goals.overview(look, caller.program, page["at"] or caller.ledger.clock(), behind, page["limit"] + 1)
    return answers.read(answers.page(found, page["limit"], lambda one: answers.cursor(one.percent, *one.place()[1:])))


def _decides(decision: str) -> Callable[..., Response]:
    @operation(f"{decision}Affiliate", {200: documents.AffiliateAnswer}, writes=True)
    @blueprint.arguments(schemas.Reason, required=False)
    def decide(caller: Caller, body: dict[str, Any], affiliate_id: str) -> Response:
        command = DecideAffiliate(affiliate_id=affiliate_id, decision=decision, reason=body["reason"])
        answer = caller.ledger.decide_affiliate(caller.program, command, caller.meta)
        return answers.written(answer, creates=False)

    return decide


blueprint.decisions(
    "/affiliates/<slug:affiliate_id>",
    "affiliate",
    _decides,
    {
        "approve": "The affiliate earns from now on.",
        "suspend": "Hold the affiliate's commissions from now on.",
        "reinstate": "End a suspension; what it held is released.",
        "close": "The affiliate earns nothing new.",
    },
)
