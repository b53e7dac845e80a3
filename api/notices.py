"""Notices: what affiliates were told of, and whether their mail server took it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import affiliate, notice
from ledger.domain.event import Recorded
from ledger.domain.notice import NoticeState
from ledger.projections import directory
from ledger.projections.directory import Entry
from ledger.store import log

blueprint = Blueprint("notices", __name__, description="What affiliates were told.")


@blueprint.route("/affiliates/<slug:affiliate_id>/notices", methods=["GET"])
@operation("listNotices", {200: documents.Notices})
@blueprint.arguments(schemas.Page, location="query")
def list_notices(caller: Caller, page: dict[str, Any], affiliate_id: str) -> Response:
    """What an affiliate was told, or is about to be, in the order of ids."""
    after, limit = answers.after_id(page), page["limit"]
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        entries = directory.page(
            look.cur, look.program_id, "notice", after=after, limit=limit + 1, affiliate_id=affiliate_id
        )
        items = _notices(look, entries)
    return answers.read(answers.page(items, limit, lambda item: answers.cursor(item["notice_id"])))


def _notices(look: reads.Look, entries: list[Entry]) -> list[dict[str, Any]]:
    streams: dict[UUID, list[Recorded]] = {entry.originator_id: [] for entry in entries}
    for event in log.select_streams(look.cur, look.program_id, list(streams)):
        streams[event.originator_id].append(event)
    return [_notice(streams[entry.originator_id]) for entry in entries]


def _notice(events: list[Recorded]) -> dict[str, Any]:
    state: NoticeState | None = None
    for event in events:
        state = notice.fold(state, event.body)
    assert state is not None
    queued = state.queued
    return {
        "notice_id": queued.notice_id,
        "template": queued.template,
        "facts": queued.facts,
        "status": state.status,
        "attempts": state.attempts,
        "retry_at": state.retry_at,
        "queued_at": events[0].recorded_at,
        "position": events[-1].position,
    }
