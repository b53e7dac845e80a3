"""Who asks: `Authorization: Bearer clk_<key id>_<secret>`, checked before anything else is looked at."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, NamedTuple
from uuid import UUID

from flask import current_app, g, request
from psycopg.rows import TupleRow

from api import openapi
from api.access import ACCESS, AFFILIATE, OF_THE_PROGRAM, PUBLIC
from api.body import NDJSON
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.application import KEY_PREFIX, CommissionLedger
from ledger.desk import Meta
from ledger.domain.errors import Unavailable
from ledger.domain.event import Answer, Command
from ledger.domain.ids import program_id

REMEMBERED_SECONDS = 2.0  # so that a revocation is in force within five
MOST_REMEMBERED = 10_000
_NO_KEY = b"\x00" * 32


class Caller:
    """An authenticated request: which key asks what of which program."""

    __slots__ = ("affiliate_id", "ledger", "meta", "program", "program_id", "role")

    def __init__(
        self, ledger: CommissionLedger, program: str, program_id: UUID, role: str, affiliate_id: str, meta: Meta
    ) -> None:
        self.ledger, self.program, self.program_id = ledger, program, program_id
        self.role, self.affiliate_id, self.meta = role, affiliate_id, meta

    def execute(self, command: Command) -> Answer:
        """Run a command as the caller. Raises Refusal."""
        return self.ledger.execute(self.program, command, self.meta)


class _Key(NamedTuple):
    """A key as it stood in the database at `read_at` (monotonic seconds)."""

    program_id: UUID
    secret_hmac: bytes
    role: str
    holder: str
    affiliate_id: str
    expires_at: datetime
    read_at: float


class Authenticator:
    """Checks keys; remembers good ones for two seconds, database or none."""

    def __init__(self, ledger: CommissionLedger) -> None:
        self._ledger = ledger
        self._keys: dict[tuple[str, str], _Key] = {}
        self._down = False
        self._trying = threading.Lock()

    def check(self, program: str, header: str | None, request_id: str) -> Caller:
        """The caller of a request. Raises Problem 401 (the same for whatever is wrong), or what the database raises
        when it is down and the key was not seen just now."""
        prefix, _, rest = (header or "").partition(f" {KEY_PREFIX}_")
        key_id, _, secret = rest.partition("_")
        if prefix.lower() != "bearer" or not secret or not rest.isascii() or "\x00" in key_id:
            raise unauthorized()
        key = self._key(program, key_id)
        # An unknown key takes the same way as a wrong secret, and so the same time.
        given = self._ledger.secrets.access_hmac(secret)
        good = hmac.compare_digest(given, key.secret_hmac if key else _NO_KEY)
        if key is None or not good or key.expires_at <= self._ledger.clock():
            raise unauthorized()
        meta = Meta(key.holder, key_id, request_id)
        return Caller(self._ledger, program, key.program_id, key.role, key.affiliate_id, meta)

    def _key(self, program: str, key_id: str) -> _Key | None:
        known = self._keys.get((program, key_id))
        now = time.monotonic()
        if known is not None and now - known.read_at < REMEMBERED_SECONDS:
            return known
        id_ = program_id(program)
        row = self._look_up(id_, key_id)
        if row is None or row[5] is not None:
            self._keys.pop((program, key_id), None)
            return None
        if len(self._keys) >= MOST_REMEMBERED:
            self._keys.clear()
        secret_hmac, role, holder, affiliate_id, expires_at, _ = row
        found = _Key(id_, bytes(secret_hmac), role, holder, affiliate_id, expires_at.astimezone(UTC), now)
        self._keys[program, key_id] = found
        return found

    def _look_up(self, id_: UUID, key_id: str) -> TupleRow | None:
        """The key's row. While the database is down one request at a time waits for it and the others are told at
        once, so that an outage does not take every thread, and with them the links that need no database."""
        if not self._down:
            return self._ask(id_, key_id)
        if not self._trying.acquire(blocking=False):
            raise Unavailable()
        try:
            return self._ask(id_, key_id)
        finally:
            self._trying.release()

    def _ask(self, id_: UUID, key_id: str) -> TupleRow | None:
        try:
            row = reads.access_key(self._ledger.pool, id_, key_id)
        except Exception:
            self._down = True
            raise
        self._down = False
        return row


def unauthorized() -> Problem:
    """401, whatever was wrong."""
    return Problem(
        401,
        "A valid access key for this program is needed: Authorization: Bearer clk_…",
        headers={"WWW-Authenticate": 'Bearer realm="commission-ledger"'},
    )


View = Callable[..., Any]


_READ_ERRORS = (401, 403, 404, 422, 500, 503)
_WRITE_ERRORS = (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)


def operation(
    operation_id: str, answers: openapi.Answers, *, writes: bool = False, streams: type | None = None, **documented: Any
) -> Callable[[View], View]:
    """Bind a view to a row of the access table. The view is called as view(caller, …, **path parameters).

    answers: status → struct, for the document; streams: the struct of a line of its NDJSON form; documented: more of
    the operation's OpenAPI description. Goes right under the blueprint's route().
    """
    roles = ACCESS[operation_id]
    allowed = frozenset(roles)
    of_the_program = operation_id in OF_THE_PROGRAM

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(program: str, **parameters: Any) -> Any:
            authenticator: Authenticator = current_app.extensions["authenticator"]
            caller = authenticator.check(program, request.environ.get("HTTP_AUTHORIZATION"), g.request_id)
            g.caller = caller
            if caller.role not in allowed:
                raise Problem(403, f"A key of the role {caller.role} may not do this.")
            own = of_the_program or parameters.get("affiliate_id") == caller.affiliate_id
            if caller.role == AFFILIATE and not own:
                raise Problem(404, NO_SUCH_RECORD)
            return view(caller, **parameters)

        responses = openapi.responses(answers, _WRITE_ERRORS if writes else _READ_ERRORS)
        if streams is not None:
            responses["200"]["content"] |= openapi.content(streams, NDJSON)
        if not writes:
            responses["304"] = {"description": "Not Modified"}
        more = {"x-roles": list(roles), "security": [{"bearer": []}], "responses": responses, **documented}
        describe(checked, operationId=operation_id, **more)
        return checked

    return decorate


def public(
    operation_id: str, answers: openapi.Answers, errors: tuple[int, ...] = (), **documented: Any
) -> Callable[[View], View]:
    """Document a view that needs no key. Goes right under the blueprint's route()."""
    assert operation_id in PUBLIC

    def decorate(view: View) -> View:
        more = {"x-roles": [], "security": [], "responses": openapi.responses(answers, errors), **documented}
        return describe(view, operationId=operation_id, **more)

    return decorate


def describe(view: View, **documented: Any) -> View:
    """Note what the OpenAPI document says of a view, beside what its decorators say."""
    apidoc = dict(getattr(view, "_apidoc", {}))
    apidoc["manual_doc"] = {**apidoc.get("manual_doc", {}), **documented}
    view._apidoc = apidoc  # type: ignore[attr-defined]
    return view
