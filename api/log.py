"""The sealed logs: signed checkpoints, proofs, and the tree in tiles (C2SP tlog-tiles). Whoever has a checkpoint and a
verifier key can check all of it without trusting this service, which has no signing key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from flask import Response, request
from marshmallow import fields, validate

from api import answers, openapi, schemas
from api.access import AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.documents import log as documents
from api.errors import Problem
from ledger.audit import proofs
from ledger.audit.merkle import Tile
from ledger.audit.tree import published_note
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.ids import BIGINT_MAX
from ledger.projections import books

blueprint = Blueprint("log", __name__, description="The sealed logs: checkpoints, proofs and tiles.")
NOTE = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
NEWEST_SECONDS = 5  # sealing runs every ten
# What is below a checkpoint never changes. Shared caches keep nothing: each request is authorised.
FOR_EVER = "private, max-age=31536000, immutable"


def _responses(kind: str, format: str | None = None) -> dict[str, Any]:
    found = openapi.responses({}, (401, 403, 404, 422, 500, 503))
    schema = {"type": "string"} | ({"format": format} if format else {})
    found["200"] = {"description": "OK", "content": {kind: {"schema": schema}}}
    found["304"] = {"description": "Not Modified"}
    return found


_NOTES, _BYTES = _responses("text/plain"), _responses(BINARY, "binary")


class InclusionQuery(schemas.Strict):
    """Of which event, in the log of which checkpoint."""

    position = fields.Integer(required=True, validate=validate.Range(1, BIGINT_MAX))
    size = fields.Integer(
        load_default=None,
        validate=validate.Range(1, BIGINT_MAX),
        metadata={"description": "of a checkpoint; the newest unless said"},
    )


class ConsistencyQuery(schemas.Strict):
    """From which size to the log of which checkpoint."""

    old = fields.Integer(
        data_key="from",
        required=True,
        validate=validate.Range(1, BIGINT_MAX),
        metadata={"description": "events that are known"},
    )
    new = fields.Integer(
        data_key="to",
        load_default=None,
        validate=validate.Range(1, BIGINT_MAX),
        metadata={"description": "size of a checkpoint; the newest unless said"},
    )


@blueprint.route("/log/<log:log>/checkpoint", methods=["GET"])
@operation("getCheckpoint", {}, responses=_NOTES)
def get_checkpoint(caller: Caller, log: str) -> Response:
    """The newest checkpoint: a signed note, with what witnesses signed under it so far."""
    response = _checkpoint(caller, log, None)
    response.headers["Cache-Control"] = f"private, max-age={NEWEST_SECONDS}"
    return response


@blueprint.route("/log/<log:log>/checkpoint/<position:size>", methods=["GET"])
@operation("getCheckpointOfSize", {}, responses=_NOTES)
def get_checkpoint_of_size(caller: Caller, log: str, size: int) -> Response:
    """The checkpoint of so many events."""
    return _checkpoint(caller, log, size)


def _checkpoint(caller: Caller, log: str, size: int | None) -> Response:
    with caller.ledger.reading(caller.program) as (cur, program_id):
        found = proofs.sealed(cur, program_id, log, size)
        note = published_note(cur, program_id, log, found)
    return _tagged(note.encode(), NOTE)


@blueprint.route("/log/<log:log>/keys", methods=["GET"])
@operation("listVerifierKeys", {200: documents.VerifierKeys})
def list_verifier_keys(caller: Caller, log: str) -> Response:
    """The keys that sign and signed this log's checkpoints. Get them by another way, too, before you trust them."""
    with caller.ledger.reading(caller.program) as (cur, program_id):
        return answers.read(proofs.keys(cur, program_id, log))


@blueprint.route("/log/<log:log>/proof/inclusion", methods=["GET"])
@operation("getInclusionProof", {200: documents.InclusionProof})
@blueprint.arguments(InclusionQuery, location="query")
def get_inclusion_proof(caller: Caller, asked: dict[str, Any], log: str) -> Response:
    """That the event at a position (from 1; its leaf index is one less) is in the log of a checkpoint. An affiliate
    may ask that of the entries of its own account: a proof of another event would show its leaf hash."""
    with caller.ledger.reading(caller.program) as (cur, program_id):
        position = asked["position"]
        if caller.role == AFFILIATE and not (
            log == "books" and books.has_entry(cur, program_id, caller.affiliate_id, position)
        ):
            raise NotFound(f"No entry of yours stands at position {position} of {log}.")
        return answers.read(proofs.inclusion(cur, program_id, log, position, asked["size"]))


@blueprint.route("/log/<log:log>/proof/consistency", methods=["GET"])
@operation("getConsistencyProof", {200: documents.ConsistencyProof})
@blueprint.arguments(ConsistencyQuery, location="query")
def get_consistency_proof(caller: Caller, asked: dict[str, Any], log: str) -> Response:
    """That nothing was changed or taken away between two sizes: the second log begins with the first."""
    with caller.ledger.reading(caller.program) as (cur, program_id), _in_the_address():
        return answers.read(proofs.consistency(cur, program_id, log, asked["old"], asked["new"]))


@blueprint.route("/log/<log:log>/tile/entries/<tile:tile>", methods=["GET"])
@operation("getEntryBundle", {}, responses=_BYTES)
def get_entry_bundle(caller: Caller, log: str, tile: Tile) -> Response:
    """The export lines of up to 256 events, each behind its length in two bytes, big-endian."""
    with caller.ledger.reading(caller.program) as (cur, program_id), _in_the_address():
        return _for_ever(proofs.entries(cur, program_id, log, tile))


@blueprint.route("/log/<log:log>/tile/<level:level>/<tile:tile>", methods=["GET"])
@operation("getTile", {}, responses=_BYTES)
def get_tile(caller: Caller, log: str, level: int, tile: Tile) -> Response:
    """Up to 256 hashes of the tree, side by side; those of level 0 are the leaf hashes."""
    with caller.ledger.reading(caller.program) as (cur, program_id):
        return _for_ever(proofs.tile(cur, program_id, log, tile._replace(level=level)))


@contextmanager
def _in_the_address() -> Iterator[None]:
    """What is wrong stands in the address, not in a body."""
    try:
        yield
    except InvalidInput as problem:
        said = problem.message.removeprefix(f"{problem.field}: ")
        errors = [{"parameter": problem.field, "detail": said}]
        raise Problem(422, problem.message, code=problem.code, errors=errors) from None


def _for_ever(content: bytes) -> Response:
    response = _tagged(content, BINARY)
    response.headers["Cache-Control"] = FOR_EVER
    return response


def _tagged(content: bytes, kind: str) -> Response:
    tag = blake2b(content, digest_size=12).hexdigest()
    if request.if_none_match.contains_weak(tag):
        response = Response(status=304)
    else:
        response = Response(content, 200, content_type=kind)
    response.headers["ETag"] = f'"{tag}"'
    return response
