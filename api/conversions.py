"""Conversions: sales as they come in, one or many, and what happens to them."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from api import answers, body
from api.auth import Caller, operation
from api.errors import Problem, unavailable
from api.inputs import ConversionInput
from ledger.domain.errors import Refusal, Unavailable
from ledger.domain.event import Answer

blueprint = Blueprint("conversions", __name__, description="Sales, and what happens to them.")
_decode = body.StrictDecoder(ConversionInput)
LINES_AT_ONCE = 1000


@blueprint.route("/conversions", methods=["POST"])
@operation("recordConversions")
def record_conversions(caller: Caller) -> Response:
    """Record a sale, or up to 10,000 (NDJSON)."""
    if request.mimetype == body.NDJSON:
        return answers.ndjson(_record_lines(caller, body.read(body.NDJSON_LIMIT)))
    if not body.is_json():
        raise body.unsupported("application/json", body.NDJSON)
    return answers.written(caller.execute(_decode(body.read())))


def _record_lines(caller: Caller, raw: bytes) -> list[dict[str, Any]]:
    """A result a line; each line is recorded, or refused, on its own."""
    results: list[dict[str, Any]] = []
    commands: list[ConversionInput] = []
    places: list[int] = []
    numbered = list(body.lines(raw))
    for number, line in numbered:
        found = body.decode_line(_decode, line)
        if isinstance(found, Problem):
            results.append(answers.line_result(number, found))
        else:
            commands.append(found)
            places.append(number)
    for start in range(0, len(commands), LINES_AT_ONCE):
        outcomes = _execute(caller, commands[start : start + LINES_AT_ONCE], first=start == 0)
        for number, outcome in zip(places[start:], outcomes, strict=False):
            results.append(answers.line_result(number, outcome))
    results.sort(key=lambda result: result["line"])
    return results


def _execute(caller: Caller, commands: list[ConversionInput], first: bool) -> list[Answer | Refusal | Problem]:
    try:
        return list(caller.ledger.execute_many(caller.program, commands, caller.meta))
    except Unavailable:
        # Earlier lines are recorded and said to be; these can be sent again.
        if first:
            raise
        return [unavailable()] * len(commands)
