"""Postbacks: conversions as affiliate networks and shop systems report them, signed instead of carrying a key.

docs/postback.md is what senders read: the names, the signature, what is answered. In short:

- parameters come in the query of a GET, or in a POST's form or flat JSON object; never in two places;
- NAMES are ours; EXTRAS are other trackers' macros, which are signed like the rest and otherwise ignored; anything
  else is refused, because a misspelt `currency` must not become another amount of money; an empty value counts as
  absent, because that is what an unfilled macro becomes;
- the signature is checked first, so that strangers learn nothing, not even which programs exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from flask import Response, current_app, g, request
from msgspec import Struct
from msgspec.structs import replace
from werkzeug.exceptions import MethodNotAllowed

from api import answers, body, openapi
from api.auth import public
from api.blueprint import Blueprint
from api.documents import Kept, Position
from api.errors import Problem
from api.signature import TOKEN, TOLERANCE, instant, is_signed, is_timely
from ledger import reads
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain import conversion, money, reversal
from ledger.domain.conversion import Step
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound
from ledger.domain.event import Answer
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.ids import program_id, stream_id
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.store import log

blueprint = Blueprint("postback", __name__, description="Signed reports of sales, with the names the field uses.")

NAMES = frozenset(
    {
        "transaction_id", "click_id", "order_id", "amount", "currency", "event_id", "coupon_code", "offer_id",
        "affiliate_id", "customer_id", "status", "timestamp", "occurred_at", TOKEN,
    }
)  # fmt: skip
EXTRAS = frozenset({*(f"sub{n}" for n in range(1, 6)), *(f"adv{n}" for n in range(1, 6)), "goal_id"})
RECORDS = ("", "pending", "approved")
TAKES_BACK = ("rejected", "declined", "reversed")
MOST_BYTES = 16 * 1024
MOST_PARAMETERS = 40
LONGEST_ID = 128
FORM = "application/x-www-form-urlencoded"
# what the domain calls some of the names
NAME_OF_FIELD = {"coupon": "coupon_code", "reversal_id": "order_id"}
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?").fullmatch

Command = RecordConversion | RecordReversal


class PostbackAnswer(Struct, omit_defaults=True):
    """What became of the sale, as POST /conversions says it; or, for a status that takes it back, of its reversal."""

    order_id: str
    position: Position
    reversal_id: str = ""
    status: str = ""
    affiliate_id: str = ""
    commission: int = 0
    currency: str = ""
    matures_at: datetime | None = None
    until: datetime | None = None
    steps: list[Step] = []


_ANSWERS: openapi.Answers = {201: PostbackAnswer, 200: PostbackAnswer, 202: Kept}
_ERRORS = (400, 403, 404, 409, 422, 500, 503)
_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in sorted(NAMES | EXTRAS)},
    "required": ["order_id", "timestamp", TOKEN],
}
_QUERY = [
    {"in": "query", "name": name, "required": name in _SCHEMA["required"], "schema": {"type": "string"}}
    for name in sorted(NAMES | EXTRAS)
]
_BODY = {"required": True, "content": {kind: {"schema": _SCHEMA} for kind in (FORM, "application/json")}}


@blueprint.route("/postback", methods=["GET"])
@public("recordPostback", _ANSWERS, (*_ERRORS, 414), parameters=_QUERY)
def record_postback(program: str) -> Response:
    """Record, or take back, a sale that the query tells of."""
    if request.method == "HEAD":  # a look at the address must not record anything
        raise MethodNotAllowed(["GET", "POST"])
    return Postback(program, _pairs(request.query_string)).answer()


@blueprint.route("/postback", methods=["POST"])
@public("recordPostbackByPost", _ANSWERS, (*_ERRORS, 413, 415), requestBody=_BODY)
def record_postback_by_post(program: str) -> Response:
    """Record, or take back, a sale that a form or a JSON object tells of."""
    if request.query_string:
        raise Problem(400, "Send the parameters in the body or in the query of a GET, not in both.")
    if request.mimetype == FORM:
        return Postback(program, _pairs(body.read(MOST_BYTES))).answer()
    if body.is_json():
        return Postback(program, _members(body.decode(body.read(MOST_BYTES))), place="pointer").answer()
    raise body.unsupported(FORM, "application/json")


# --- reading -----------------------------------------------------------------------------------------------


def _pairs(raw: bytes) -> dict[str, str]:
    """A query's or form's parameters. Raises Problem 400, 414."""
    if len(raw) > MOST_BYTES:
        raise Problem(414, f"The parameters are longer than {MOST_BYTES} bytes.")
    try:
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, strict_parsing=bool(raw), errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )  # fmt: skip
    except UnicodeDecodeError:
        raise Problem(400, "The parameters are not UTF-8.") from None
    except ValueError:
        raise Problem(400, f"The parameters are not name=value pairs, at most {MOST_PARAMETERS}.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            detail = {"parameter": name[:100], "detail": "is there twice"}
            raise Problem(400, "A parameter is there twice.", errors=[detail])
        found[name] = value
    return found


def _members(document: Any) -> dict[str, str]:
    """A JSON object's members as text. Raises Problem 400, 422."""
    if not isinstance(document, dict):
        raise Problem(422, "The body must be a JSON object.", code="invalid_input")
    found: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            # 49.90 and 49.9 are one number and two texts, and the signature is of text
            error = {"pointer": f"/{body.escaped(name)}", "detail": 'must be a string, such as "49.90"'}
            raise Problem(422, "A member is not a string.", code="invalid_input", errors=[error])
        found[name] = value
    return found


class Postback:
    """One postback: checked when made, then turned into commands. place: how errors point at a parameter."""

    def __init__(self, program: str, parameters: Mapping[str, str], *, place: str = "parameter") -> None:
        self.program, self.program_id = program, program_id(program)
        self._place = place
        self.ledger: CommissionLedger = current_app.extensions["ledger"]
        if not is_signed(self.ledger.secrets.postback_secret(self.program_id), parameters):
            detail = "must be the HMAC-SHA256 of the other parameters, as docs/postback.md says"
            self._refuse(TOKEN, detail, status=403, code="bad_signature")
        for name in parameters:
            if name not in NAMES and name not in EXTRAS:
                self._refuse(name, f"is not a parameter of a postback; those are {', '.join(sorted(NAMES))}")
        self.given = {name: value for name, value in parameters.items() if value and name in NAMES}
        self.timestamp = self._instant("timestamp")
        if not is_timely(self.timestamp, self.ledger.clock()):
            minutes = int(TOLERANCE.total_seconds() / 60)
            detail = f"must be within {minutes} minutes of now; sign again to send again"
            self._refuse("timestamp", detail, status=403, code="stale_timestamp")

    def answer(self) -> Response:
        """Record, and take back if that is what the status says; answer as POST /conversions does."""
        status = self.given.get("status", "").lower()
        if status not in (*RECORDS, *TAKES_BACK):
            self._refuse("status", f"must be one of {', '.join((*RECORDS[1:], *TAKES_BACK))}")
        try:
            if status in RECORDS:
                return answers.written(self._execute(self._conversion()))
            return answers.written(self._take_back())
        except InvalidInput as refusal:
            self._refuse(NAME_OF_FIELD.get(refusal.field, refusal.field), _said(refusal))
        except DiffersFromOriginal as refusal:
            names = [NAME_OF_FIELD.get(field, field) for field in refusal.fields]
            errors = [self._error(name, "differs from what was recorded") for name in names]
            message = f"order {self.given['order_id']} exists already and differs in: {', '.join(names)}"
            raise Problem(409, message, code=refusal.code, errors=errors) from None

    def _take_back(self) -> Answer:
        """Take back the whole order; record it first, if the postback tells of it and it is not there."""
        taken_back = self._reversal()
        if "amount" in self.given:
            # An order that is there already is taken back whole, whatever else is said of it now.
            with suppress(DiffersFromOriginal):
                self._execute(self._conversion())
        return self._execute(taken_back)

    # --- commands ------------------------------------------------------------------------------------------

    def _conversion(self) -> RecordConversion:
        click_id = self._click_id()
        currency = self.given.get("currency") or self._currency_of_program()
        amount = self._required("amount")
        if not _AMOUNT(amount):
            self._refuse("amount", "must be a decimal number such as 49.90, in major units")
        return RecordConversion(
            order_id=self._required("order_id"),
            offer_id=self.given.get("offer_id") or self._offer_of(click_id),
            amount=money.minor_units("amount", amount, currency),
            currency=currency,
            occurred_at=self._instant("occurred_at") if "occurred_at" in self.given else self.timestamp,
            customer_id=self.given.get("customer_id"),
            click_id=click_id,
            coupon=self.given.get("coupon_code"),
            affiliate_id=self.given.get("affiliate_id"),
            event_id=self.given.get("event_id"),
        )

    def _reversal(self) -> RecordReversal:
        """All that is left of the order. One per order, so that a retry is the same one."""
        order_id = self._required("order_id")
        reversal_id = f"postback:{order_id}"
        if len(reversal_id) > LONGEST_ID:
            reversal_id = f"postback:{sha256(order_id.encode()).hexdigest()}"
        return RecordReversal(
            reversal_id=reversal_id,
            order_id=order_id,
            occurred_at=self.timestamp,
            reason_code="cancelled",
        )

    def _execute(self, command: Command) -> Answer:
        """Run a command; what was recorded before stays when only our reading of its time differs: a sender that
        tries again signs a new timestamp, and means the same sale."""
        meta = Meta("postback", request_id=g.request_id)
        try:
            return self.ledger.execute(self.program, command, meta)
        except DiffersFromOriginal as refusal:
            explicit = isinstance(command, RecordConversion) and "occurred_at" in self.given
            if refusal.fields != ["occurred_at"] or explicit:
                raise
            same = replace(command, occurred_at=self._when_recorded(command))
            return self.ledger.execute(self.program, same, meta)

    def _when_recorded(self, command: Command) -> datetime:
        """The occurred_at that the log has."""
        if isinstance(command, RecordConversion):
            stream = conversion.key(command.order_id)
        else:
            stream = reversal.key(command.reversal_id)
        with self.ledger.reading(self.program) as (cur, id_):
            for record in log.select_streams(cur, id_, [stream_id(id_, stream)]):
                event = record.body
                if isinstance(event, conversion.ConversionRecorded | reversal.ReversalRecorded):
                    return event.occurred_at
                if isinstance(event, ExceptionRaised):
                    return instant(event.fact["occurred_at"])
        return command.occurred_at

    # --- parameters ----------------------------------------------------------------------------------------

    def _click_id(self) -> str | None:
        ours, theirs = self.given.get("click_id"), self.given.get("transaction_id")
        if ours and theirs and ours != theirs:
            self._refuse("transaction_id", "must be the same as click_id, or be left out: the two are one")
        return ours or theirs

    def _offer_of(self, click_id: str | None) -> str:
        token = self.ledger.secrets.read_click(self.program_id, click_id) if click_id else None
        if token is None:
            self._refuse("offer_id", "is required, unless click_id is one that our tracking link made")
        return token.offer_id

    def _currency_of_program(self) -> str:
        rows = reads.fetch(self.ledger.pool, log.CURRENCY_OF, {"program_id": self.program_id})
        if not rows:
            raise NotFound(f"program {self.program} does not exist")
        return str(rows[0][0])

    def _required(self, name: str) -> str:
        return self.given.get(name) or self._refuse(name, "is required")

    def _instant(self, name: str) -> datetime:
        try:
            return instant(self._required(name))
        except ValueError:
            self._refuse(name, "must be unix seconds or RFC 3339 with a zone, such as 2026-01-31T12:00:00Z")

    def _refuse(self, name: str, detail: str, *, status: int = 422, code: str = "invalid_input") -> NoReturn:
        raise Problem(status, f"{name[:100]}: {detail}", code=code, errors=[self._error(name, detail)])

    def _error(self, name: str, detail: str) -> dict[str, str]:
        place = f"/{body.escaped(name)}" if self._place == "pointer" else name[:100]
        return {self._place: place, "detail": detail}


def _said(refusal: InvalidInput) -> str:
    return refusal.message.removeprefix(f"{refusal.field}: ")
