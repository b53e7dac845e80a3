"""Answers: JSON straight from the domain's values, with an ETag on what was read and a position on what was written."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from flask import Response, request

from api.errors import Problem, problem_of
from ledger.domain.errors import Refusal
from ledger.domain.event import Answer
from ledger.domain.ids import BIGINT_MAX

JSON = "application/json"
_encode = msgspec.json.Encoder().encode

STATUS_OF_OUTCOME = {"recorded": 201, "unchanged": 200, "exception": 202}


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(_encode(body), status, headers, content_type=JSON)


def read(body: Any) -> Response:
    """What a GET found, with its ETag; 304 when the caller has it already. Shared caches keep nothing of it, because
    the request was authorised (RFC 9111, section 3.5)."""
    raw = _encode(body)
    tag = blake2b(raw, digest_size=12).hexdigest()
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(tag):
        return Response(status=304, headers={"ETag": f'"{tag}"'})
    response = Response(raw, 200, content_type=JSON)
    response.headers["ETag"] = f'"{tag}"'
    return response


def status_of(answer: Answer, creates: bool = True) -> int:
    """201 for what is new (200 where nothing is created), 200 for what was there, 202 for what is kept as an
    exception."""
    return 200 if answer.outcome == "recorded" and not creates else STATUS_OF_OUTCOME[answer.outcome]


def written(answer: Answer, creates: bool = True) -> Response:
    """The answer to a write: the domain's body and the position."""
    # a copy: requests that came with the same command in one batch share the body
    body = {**answer.body, "position": answer.position}
    return Response(_encode(body), status_of(answer, creates), content_type=JSON)


def line_result(number: int, outcome: Answer | Refusal | Problem) -> dict[str, Any]:
    """What became of one line of NDJSON: its status, and its result or problem."""
    if isinstance(outcome, Answer):
        result = {**outcome.body, "position": outcome.position}
        return {"line": number, "status": status_of(outcome), "result": result}
    problem = problem_of(outcome) if isinstance(outcome, Refusal) else outcome
    return {"line": number, "status": problem.status, "problem": problem.document()}


def ndjson(results: Sequence[Mapping[str, Any]]) -> Response:
    """One result a line."""
    return Response(msgspec.json.Encoder().encode_lines(results), 200, content_type="application/x-ndjson")


# --- pages -------------------------------------------------------------------------------------------------


def cursor(*place: str | int) -> str:
    """An opaque cursor of a place in a list."""
    return base64.urlsafe_b64encode(_encode(place)).rstrip(b"=").decode()


def place(after: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """The place that a cursor says. Raises Problem 422 for one that we did not make."""
    if not after:
        return None
    try:
        raw = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        found: tuple[Any, ...] = msgspec.json.decode(raw, type=tuple[kinds])  # type: ignore[valid-type]
        if all(part.isprintable() if isinstance(part, str) else 0 <= part <= BIGINT_MAX for part in found):
            return found
    except ValueError:
        pass
    errors = [{"parameter": "after", "detail": "must be the next of an earlier page"}]
    raise Problem(422, "The cursor is not one of ours.", code="invalid_input", errors=errors)


def after_id(asked: Mapping[str, Any]) -> str:
    """The id behind which a page begins, '' for the first."""
    found = place(asked["after"], str)
    return found[0] if found else ""


def page(items: Sequence[Any], limit: int, next_of: Callable[[Any], str]) -> dict[str, Any]:
    """{"items", "next"} of a list that was asked for one more than limit."""
    more = len(items) > limit
    shown = list(items[:limit])
    return {"items": shown, "next": next_of(shown[-1]) if more else None}
