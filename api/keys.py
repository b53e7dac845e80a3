"""Access keys: issued to somebody else, rotated, revoked. A token is shown once, in the answer that makes it."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.application import IssuedKey
from ledger.domain.access import KeyIssued, key
from ledger.domain.errors import WrongState

blueprint = Blueprint("keys", __name__, description="Access keys.")


@blueprint.route("/keys", methods=["POST"])
@operation("issueKey", {201: documents.KeyAnswer}, writes=True)
@blueprint.arguments(schemas.KeyBody)
def issue_key(caller: Caller, body: dict[str, Any]) -> Response:
    """Issue a key to somebody else. Not idempotent: each call makes a key, and its token is shown only here."""
    body["affiliate_id"] = body["affiliate_id"] or ""
    return _shown(caller.ledger.issue_key(caller.program, meta=caller.meta, **body))


def _shown(issued: IssuedKey) -> Response:
    body = {"key_id": issued.key_id, "token": issued.token, "position": issued.answer.position}
    return answers.json_response(body, 201, {"Cache-Control": "no-store"})


@blueprint.route("/keys", methods=["GET"])
@operation("listKeys", {200: documents.Keys})
@blueprint.arguments(schemas.Page, location="query")
def list_keys(caller: Caller, page: dict[str, Any]) -> Response:
    """Keys in the order of their ids, revoked ones too; never a secret."""
    items = reads.access_keys(caller.ledger.pool, caller.program_id, answers.after_id(page), page["limit"] + 1)
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["key_id"])))


@blueprint.route("/keys/<slug:key_id>/rotate", methods=["POST"])
@operation("rotateKey", {201: documents.KeyAnswer}, writes=True)
@blueprint.arguments(schemas.RotationBody, required=False)
def rotate_key(caller: Caller, body: dict[str, Any], key_id: str) -> Response:
    """Issue the same holder a new key, and revoke the old one unless revoke_old is false."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(key(key_id))
    if found is None:
        raise Problem(404, NO_SUCH_RECORD)
    if found.state.revoked:
        raise WrongState(f"key {key_id} is revoked: issue a new one instead")
    old: KeyIssued = found.state.issued
    issued = caller.ledger.issue_key(
        caller.program,
        role=old.role,
        holder=old.holder,
        holder_kind=old.holder_kind,
        expires_at=body["expires_at"] or old.expires_at,
        meta=caller.meta,
        affiliate_id=old.affiliate_id,
        rotates=key_id,
    )
    if body["revoke_old"]:
        caller.ledger.revoke_key(caller.program, key_id, caller.meta)
    return _shown(issued)


@blueprint.route("/keys/<slug:key_id>/revoke", methods=["POST"])
@operation("revokeKey", {200: documents.RevocationAnswer}, writes=True)
@blueprint.arguments(schemas.Nothing, required=False)
def revoke_key(caller: Caller, _: dict[str, Any], key_id: str) -> Response:
    """Revoke a key: it opens nothing any more, within five seconds everywhere."""
    return answers.written(caller.ledger.revoke_key(caller.program, key_id, caller.meta), creates=False)
