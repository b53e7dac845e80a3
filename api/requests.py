"""What surrounds every request: its id, and one line in the log."""

from __future__ import annotations

import re
import sys
import time
from secrets import token_hex
from typing import Any

import msgspec
import structlog
from flask import Flask, Response, g, request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


def _json(event: dict[str, Any], **_: Any) -> str:
    # msgspec writes control characters as escapes, so that no value can start a line of its own
    return msgspec.json.encode(event, enc_hook=lambda value: type(value).__name__).decode()


def make_log() -> Any:
    """A logger of JSON lines on standard error."""
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )


def register(app: Flask, log: Any | None) -> None:
    """Give each request an id, and log its end (log None: do not): never a query string, body or header value."""

    @app.before_request
    def begin() -> None:
        given = request.environ.get("HTTP_X_REQUEST_ID")
        g.request_id = given if given and _REQUEST_ID(given) else token_hex(12)
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        if log is not None:
            rule = request.url_rule
            caller = g.get("caller")
            log.msg(
                "request",
                request_id=g.request_id,
                method=request.method,
                route=rule.rule if rule else None,
                program=caller.program if caller else None,
                key_id=caller.meta.key_id if caller else None,
                status=response.status_code,
                ms=round((time.perf_counter() - g.began) * 1000, 1),
            )
        return response
