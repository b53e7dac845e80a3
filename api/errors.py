"""Problems: every error the API gives is a problem document (RFC 9457) with a code, and a pointer per field."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import psycopg_pool
from flask import Flask, Response, current_app, g
from werkzeug.exceptions import HTTPException

from ledger.batches import retryable
from ledger.domain.errors import (
    DiffersFromOriginal,
    InvalidInput,
    KeyReused,
    NotFound,
    Refusal,
    SamePerson,
    Unavailable,
    WrongState,
)
from ledger.payouts.bank import BankFileError
from ledger.payouts.orders import PayoutFileError

PROBLEM_TYPE = "application/problem+json"
NOTHING_HERE = "There is nothing at this address."
NO_SUCH_RECORD = "There is no such record in this program."
STATUS_OF: dict[type[Refusal], int] = {
    InvalidInput: 422,
    NotFound: 404,
    DiffersFromOriginal: 409,
    KeyReused: 422,
    WrongState: 409,
    PayoutFileError: 409,
    SamePerson: 403,
    Unavailable: 503,
}
_CODE_OF_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}
RETRY_SECONDS = 1


class Problem(Exception):
    """An error on its way to the caller. errors: [{"pointer" | "parameter" | "header": where, "detail": what would
    be right}]."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "",
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.code = code or _CODE_OF_STATUS.get(status, "error")
        self.errors, self.headers, self.members = errors, dict(headers or {}), members

    def document(self) -> dict[str, Any]:
        """The problem document, without the instance that names the request."""
        found: dict[str, Any] = {
            "type": f"urn:commission-ledger:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            found["errors"] = self.errors
        return found | self.members


def at(field: str, detail: str) -> dict[str, str]:
    """One error, at the place that a domain's field name means: a header, or a dotted path into the body."""
    if field == "Idempotency-Key":
        return {"header": field, "detail": detail}
    return {"pointer": "/" + field.replace(".", "/"), "detail": detail}


def problem_of(refusal: Refusal) -> Problem:
    """The problem that a refusal of the ledger is told as."""
    status = next((code for kind, code in STATUS_OF.items() if isinstance(refusal, kind)), 500)
    if status == 500:
        return Problem(500, "Something went wrong here; the request id finds it in our logs.")
    errors: list[dict[str, str]] | None = None
    headers: dict[str, str] = {}
    if isinstance(refusal, BankFileError):
        errors = None  # the whole body is the file: its message names the place
    elif isinstance(refusal, InvalidInput):
        errors = [at(refusal.field, refusal.message.removeprefix(f"{refusal.field}: "))]
        if (mistakes := refusal.details.get("mistakes")) is not None:  # of a plan, which has pointers of its own
            errors = [{"pointer": f"/plan{one['pointer']}", "detail": one["detail"]} for one in mistakes]
    elif isinstance(refusal, DiffersFromOriginal):
        errors = [at(field, "differs from what was recorded") for field in refusal.fields]
    elif isinstance(refusal, KeyReused):
        fields = refusal.details.get("fields", [])
        errors = [at(field, "differs from what was sent with this key before") for field in fields]
    elif isinstance(refusal, Unavailable):
        headers["Retry-After"] = str(RETRY_SECONDS)
    return Problem(status, refusal.message, code=refusal.code, errors=errors, headers=headers)


def unavailable() -> Problem:
    """The database cannot answer just now."""
    return problem_of(Unavailable())


def respond(problem: Problem) -> Response:
    """The problem as a response."""
    body = problem.document() | {"instance": g.get("request_id", "")}
    response = Response(msgspec.json.encode(body), problem.status, content_type=PROBLEM_TYPE)
    response.headers.update(problem.headers)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:
        return error.get_response()  # type: ignore[return-value]
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    detail = {
        404: NOTHING_HERE,
        405: "This address does not take this method.",
        413: "The body is larger than this address takes.",
    }.get(status, HTTPStatus(status).description or HTTPStatus(status).phrase)
    return respond(Problem(status, detail, headers=kept))


def _refused(refusal: Refusal) -> Response:
    if type(refusal) is Refusal:  # the ledger's word for a failure that it did not foresee
        _note(refusal.__cause__ or refusal)
    return respond(problem_of(refusal))


def _unforeseen(error: Exception) -> Response:
    if isinstance(error, psycopg.errors.QueryCanceled) or retryable(error):
        return respond(unavailable())
    _note(error)
    return respond(problem_of(Refusal()))


def _note(error: BaseException) -> None:
    """Log where it happened and of which kind; not its text, because a driver's message quotes values, and those
    may be personal."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    current_app.extensions["log"].msg(
        "unhandled", request_id=g.get("request_id", ""), error=type(error).__name__, where=where
    )


def register(app: Flask) -> None:
    """Answer every error of the app with a problem document."""
    app.register_error_handler(Problem, respond)
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(psycopg_pool.PoolTimeout, _unforeseen)
    app.register_error_handler(Exception, _unforeseen)
