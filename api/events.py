"""The log itself, for auditors: paged, or streamed line by line as it is exported and sealed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Response, request

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.body import NDJSON
from ledger import reads

blueprint = Blueprint("events", __name__, description="The log itself.")
LINES_AT_ONCE = 1000


@blueprint.route("/events", methods=["GET"])
@operation("listEvents", {200: documents.Events}, streams=documents.LogLine)
@blueprint.arguments(schemas.EventsPage, location="query")
def list_events(caller: Caller, page: dict[str, Any]) -> Response:
    """Events behind a position: a page, or (Accept: application/x-ndjson) a stream of export lines."""
    if request.accept_mimetypes.best_match([answers.JSON, NDJSON]) == NDJSON:
        lines = _stream(caller, page["log"], page["after"], page["limit"])
        return Response(lines, 200, content_type=NDJSON)
    limit = min(page["limit"] or 100, schemas.MOST_ITEMS)
    found = reads.log_lines(caller.ledger.pool, caller.program_id, page["log"], page["after"], limit + 1)
    shown = found[:limit]
    more = str(shown[-1][0]) if len(found) > limit else None
    return answers.read({"items": [msgspec.Raw(line) for _, line in shown], "next": more})


def _stream(caller: Caller, log: str, after: int, limit: int | None) -> Iterator[bytes]:
    """Export lines up to the end of the log, holding a thousand at a time and no connection in between."""
    left = limit
    while left is None or left > 0:
        at_once = LINES_AT_ONCE if left is None else min(left, LINES_AT_ONCE)
        found = reads.log_lines(caller.ledger.pool, caller.program_id, log, after, at_once)
        if found:
            yield b"".join(line + b"\n" for _, line in found)
            after = found[-1][0]
        if len(found) < at_once:
            return
        left = None if left is None else left - len(found)
