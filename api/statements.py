"""Statements: what was owed to an affiliate, every line that moved it, what is owed; in the form the reader wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import Any

import msgspec
from flask import Response, current_app, g, request
from marshmallow import fields, validate

from api import answers, openapi, schemas
from api.access import ADMIN, AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import statements as documents
from api.errors import NO_SUCH_RECORD, Problem
from api.periods import MOST_VERSIONS, VersionQuery, place_after
from ledger import presenting, reads
from ledger.domain import affiliate
from ledger.presenting import Found, Lines, StatementDiffers
from ledger.projections import periods
from ledger.statements.document import canonical
from ledger.statements.presentation import Presentation
from ledger.statements.render import FORMATS, content_type, file_name, render
from ledger.statements.words import LANGUAGES

blueprint = Blueprint("statements", __name__, description="Statements of closed periods.")
CANONICAL = "canonical"  # the hashed bytes and nothing else; 'json' puts them into an envelope
_MEDIA_TYPES = {kind.content_type.partition(";")[0]: name for name, kind in FORMATS.items()}
_encode = msgspec.json.Encoder().encode
# The page brings its style and its pictures along; nothing else may run, load, frame it or be sent from it.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RESPONSES = openapi.responses({200: documents.StatementEnvelope}, (401, 403, 404, 422, 500, 503))
_RESPONSES["200"]["content"] |= {kind: _BINARY for kind in _MEDIA_TYPES if kind != answers.JSON}
_RESPONSES["304"] = {"description": "Not Modified"}


class StatementQuery(VersionQuery):
    """Which version, as what, in which language; without format and language, Accept and Accept-Language decide."""

    format = fields.String(load_default=None, validate=validate.OneOf((*FORMATS, CANONICAL)))
    language = fields.String(load_default=None, validate=validate.OneOf(LANGUAGES))


class VersionsQuery(schemas.Strict):
    """Two versions of a period, the later one second; by default the newest and the one before it."""

    from_version = fields.Integer(data_key="from", load_default=None, validate=validate.Range(1, MOST_VERSIONS))
    to_version = fields.Integer(data_key="to", load_default=None, validate=validate.Range(1, MOST_VERSIONS))


@blueprint.route("/affiliates/<slug:affiliate_id>/statements", methods=["GET"])
@operation("listStatements", {200: documents.Statements})
@blueprint.arguments(schemas.Page, location="query")
def list_statements(caller: Caller, page: dict[str, Any], affiliate_id: str) -> Response:
    """An affiliate's statements, newest first, every version."""
    before, version = place_after(page)
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        found = periods.statements_of(look.cur, look.program_id, affiliate_id, None, before, page["limit"] + 1, version)
    items = [one._asdict() for one in found]
    next_of = lambda item: answers.cursor(item["ends_at"].isoformat(), item["version"])  # noqa: E731
    return answers.read(answers.page(items, page["limit"], next_of))


@blueprint.route("/affiliates/<slug:affiliate_id>/statements/<slug:period>", methods=["GET"])
@operation("getStatement", {200: documents.StatementEnvelope}, responses=_RESPONSES)
@blueprint.arguments(StatementQuery, location="query")
def get_statement(caller: Caller, asked: dict[str, Any], affiliate_id: str, period: str) -> Response:
    """A statement as JSON with its hash (or the hashed bytes alone: canonical), CSV, XLSX, HTML or PDF."""
    found = presenting.find_statement(caller.ledger, caller.program, affiliate_id, period, asked["version"])
    format = asked["format"] or _accepted_format()
    language = asked["language"] or request.accept_languages.best_match(LANGUAGES) or LANGUAGES[0]
    named = caller.role in (ADMIN, AFFILIATE)
    shown = presenting.present(caller.ledger, caller.program, found, language, named)
    headers = {"ETag": _tag(shown, format), "Vary": "Accept, Accept-Language", "Cache-Control": "private, no-cache"}
    if request.if_none_match.contains_weak(headers["ETag"].removeprefix("W/").strip('"')):
        return Response(status=304, headers=headers)
    response = _streamed(_proven(caller, found), lambda lines: _pieces(shown, lines, format))
    response.headers.update(headers)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if format == CANONICAL:
        response.content_type = answers.JSON
        response.headers["Content-Disposition"] = f'attachment; filename="{file_name(shown, "json")}"'
    elif format != "json":
        response.content_type = content_type(format)
        kept = "inline" if format == "html" else "attachment"
        response.headers["Content-Disposition"] = f'{kept}; filename="{file_name(shown, format)}"'
    if format == "html":
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _accepted_format() -> str:
    """The format of the media type that the reader likes best; JSON for one who says nothing that we have."""
    return _MEDIA_TYPES.get(request.accept_mimetypes.best_match(_MEDIA_TYPES) or "", "json")


def _tag(shown: Presentation, format: str) -> str:
    """The hash, or what else the form shows too. A document's is weak: another version of ours may set it otherwise."""
    if format == CANONICAL:
        return f'"{shown.hash}"'
    if format == "json":
        return f'"{blake2b(_encode([shown.hash, shown.disputes]), digest_size=16).hexdigest()}"'
    return f'W/"{blake2b(_encode([shown, format]), digest_size=16).hexdigest()}"'


def _pieces(shown: Presentation, lines: Lines, format: str) -> Iterator[bytes]:
    if format not in (CANONICAL, "json"):
        return render(shown, lines, format)
    body = canonical(shown.head, lines())
    return body if format == CANONICAL else _enveloped(shown, body)


def _enveloped(shown: Presentation, body: Iterable[bytes]) -> Iterator[bytes]:
    envelope = {"hash": shown.hash, "version": shown.head.version, "open_disputes": shown.disputes}
    yield _encode(envelope).removesuffix(b"}") + b',"statement":'
    yield from body
    yield b"}"


def _proven(caller: Caller, found: Found) -> Lines:
    try:
        return presenting.read_lines(caller.ledger, caller.program, found)
    except StatementDiffers as error:
        current_app.extensions["log"].msg("statement_differs", request_id=g.request_id, detail=str(error))
        detail = "The lines in the books do not lead to the hash that was issued; this statement is not shown."
        raise Problem(500, detail, code="statement_differs") from error


def _streamed(lines: Lines, made: Any) -> Response:
    """A response that lets go of the lines at its end. What cannot be made fails before the first byte is sent."""
    try:
        pieces = made(lines)
        first = next(pieces, b"")
    except BaseException:
        lines.close()
        raise
    response = Response(chain((first,), pieces), 200, content_type=answers.JSON)
    response.call_on_close(lines.close)
    return response


@blueprint.route("/affiliates/<slug:affiliate_id>/statements/<slug:period>/diff", methods=["GET"])
@operation("compareStatements", {200: documents.StatementDifference})
@blueprint.arguments(VersionsQuery, location="query")
def compare_statements(caller: Caller, asked: dict[str, Any], affiliate_id: str, period: str) -> Response:
    """What a reissue changed: the lines that it added, and what the statement closes with otherwise."""
    found = presenting.compare_versions(
        caller.ledger, caller.program, affiliate_id, period, asked["from_version"], asked["to_version"]
    )

    def pieces(lines: Lines) -> Iterator[bytes]:
        version = {name: getattr(found, name) for name in ("before", "after")}
        told = {name: one and {"version": one.version, "hash": one.hash} for name, one in version.items()}
        envelope = {"affiliate_id": affiliate_id, "period": period, **told, "changes": found.changes}
        yield _encode(envelope).removesuffix(b"}") + b',"lines":['
        separator = b""
        for line in lines():
            yield separator + _encode(line)
            separator = b","
        yield b"]}"

    return _streamed(found.lines, pieces)
