"""What ordinary endpoints take, as marshmallow schemas: strict types, limits, and no unknown fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from api.body import PLAN_LIMIT
from ledger.domain import breaks, dispute, erasure
from ledger.domain.access import ROLES
from ledger.domain.adjustment import KINDS
from ledger.domain.affiliate import GROUP_PATTERN
from ledger.domain.errors import InvalidInput
from ledger.domain.event import in_utc
from ledger.domain.ids import AMOUNT_MAX, BIGINT_MAX
from ledger.domain.reversal import REASONS

MOST_ITEMS = 1000  # a page


# what OpenAPI says of a plan wherever one is sent
PLAN = {
    "description": "a commission plan: see GET /plan-schema, and docs/plans.md",
    "externalDocs": {"description": "The JSON Schema of plans", "url": "/plan-schema"},
    "examples": [
        {
            "plan": 1,
            "currency": "EUR",
            "rules": [
                {"id": "shoes", "when": {"category": ["shoes"], "customer": "new"}, "pay": {"rate_bps": 1200}},
                {"id": "all", "pay": {"rate_bps": 500}},
            ],
        }
    ],
}


class StrictInt(fields.Integer):
    """A JSON integer: no text, no fraction, no true."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if type(value) is not int:
            raise ValidationError("Must be an integer.")
        return value


class StrictBoolean(fields.Boolean):
    """true or false, nothing that resembles them."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise ValidationError("Must be true or false.")
        return value


def to_instant(value: object) -> datetime:
    """An RFC 3339 instant, in UTC. Raises ValidationError."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return in_utc("instant", msgspec.convert(value, datetime))
    except (ValueError, InvalidInput):
        raise ValidationError("Must be an instant with a zone, such as 2026-01-31T12:00:00Z.") from None


class InstantField(fields.DateTime):
    """An RFC 3339 instant with a zone."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        return to_instant(value)


class AsOf(fields.String):
    """A position or a recorded instant."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        text = str(value)
        if text.isascii() and text.isdigit():
            if len(text) > 18:
                raise ValidationError("Must be a position of the log, or an instant.")
            return int(text)
        return to_instant(text)


def external_id(**kwargs: Any) -> fields.String:
    """1-128 printable characters."""
    return fields.String(validate=validate.Length(1, 128), **kwargs)


def slug(**kwargs: Any) -> fields.String:
    """An affiliate's, offer's or holder's name."""
    rule = validate.Regexp(r"^[A-Za-z0-9._-]{1,64}\Z", error="Must be 1-64 characters of A-Z a-z 0-9 . _ -")
    return fields.String(validate=rule, metadata={"pattern": "^[A-Za-z0-9._-]{1,64}$"}, **kwargs)


def currency(**kwargs: Any) -> fields.String:
    """An ISO 4217 code."""
    rule = validate.Regexp(r"^[A-Z]{3}\Z", error="Must be an ISO 4217 currency code such as EUR")
    return fields.String(validate=rule, metadata={"pattern": "^[A-Z]{3}$"}, **kwargs)


def amount(least: int = 0, **kwargs: Any) -> StrictInt:
    """Minor units."""
    metadata = {"description": "minor units of the currency"}
    return StrictInt(validate=validate.Range(least, AMOUNT_MAX), metadata=metadata, **kwargs)


def text(longest: int, **kwargs: Any) -> fields.String:
    """Free text."""
    return fields.String(validate=validate.Length(max=longest), **kwargs)


class Strict(Schema):
    """Refuses what it does not know."""

    class Meta:
        unknown = RAISE


class Nothing(Strict):
    """No body, or an empty object."""


class Page(Strict):
    """Which part of a list."""

    after = fields.String(load_default="", metadata={"description": "`next` of the page before"})
    limit = fields.Integer(load_default=100, validate=validate.Range(1, MOST_ITEMS))


class AffiliatesPage(Page):
    """Affiliates, all or of a status, or in a group now."""

    status = fields.String(load_default=None, validate=validate.OneOf(("applied", "approved", "suspended", "closed")))
    group = fields.String(
        load_default=None,
        validate=validate.Regexp(r"^[a-z0-9_-]{1,40}\Z", error="Must be a group: 1-40 of a-z 0-9 _ -."),
        metadata={"pattern": "^[a-z0-9_-]{1,40}$"},
    )


class AdjustmentsPage(Page):
    """Adjustments, all or of a status."""

    status = fields.String(load_default=None, validate=validate.OneOf(("proposed", "posted", "rejected")))


class ExceptionsPage(Page):
    """Exceptions, all or of a status or type."""

    status = fields.String(load_default=None, validate=validate.OneOf(("open", "resolved")))
    type = fields.String(
        load_default=None,
        validate=validate.Regexp(r"^[a-z_]{1,64}\Z", error="Must be an exception's type, such as unknown_offer"),
        metadata={"pattern": "^[a-z_]{1,64}$"},
    )


class EventsPage(Strict):
    """Which part of which log."""

    log = fields.String(load_default="books", validate=validate.OneOf(("books", "traffic")))
    after = fields.Integer(load_default=0, validate=validate.Range(0, BIGINT_MAX))
    limit = fields.Integer(load_default=None, validate=validate.Range(1, BIGINT_MAX))


class PointInTime(Strict):
    """as_of: what was known after a position or instant; effective: of what had happened before an instant."""

    as_of = AsOf(load_default=None, metadata={"description": "a position, or a recorded instant"})
    effective = InstantField(load_default=None)


class Enrolment(Strict):
    """An application. Personal fields are stored as ciphertext."""

    affiliate_id = slug(required=True)
    display_name = text(200, load_default="")
    email = text(320, load_default="")
    note = text(2000, load_default="")


class Reason(Strict):
    """Why. Stored as ciphertext."""

    reason = text(2000, load_default="")


class GroupBody(Strict):
    """The group ('': none) that the affiliate is in, from now on unless effective_from says later."""

    group = fields.String(
        required=True,
        validate=validate.Regexp(
            GROUP_PATTERN.replace("$", r"\Z"), error="Must be 1-40 characters of a-z 0-9 _ -, or empty for none."
        ),
        metadata={"pattern": GROUP_PATTERN},
    )
    effective_from = InstantField(load_default=None, allow_none=True)


class RecruiterBody(Strict):
    """The affiliate who brought this one into the program."""

    recruiter_id = slug(required=True)


class OfferBody(Strict):
    """An offer's name and landing page."""

    offer_name = text(200, load_default="")
    landing_url = text(2000, load_default="", metadata={"description": "absolute http or https address"})


class TermsBody(Strict):
    """Terms: percent, rate_bps, or a flat amount with its currency, per conversion; or a plan."""

    body_limit = PLAN_LIMIT
    plan = fields.Dict(keys=fields.String(), load_default=None, metadata=PLAN)
    percent = fields.String(
        load_default=None, validate=validate.Length(1, 20), metadata={"description": "such as '10' or '2.9'"}
    )
    rate_bps = StrictInt(load_default=None, validate=validate.Range(0, 100_000))
    amount = amount(load_default=None)
    currency = currency(load_default=None)
    hold_days = StrictInt(required=True, validate=validate.Range(0, 3650))
    window_days = StrictInt(required=True, validate=validate.Range(0, 3650))
    effective_from = InstantField(load_default=None)


class CouponBody(Strict):
    """Whom a coupon credits, on which offer, and when."""

    affiliate_id = slug(required=True)
    offer_id = slug(required=True)
    valid_from = InstantField(load_default=None, allow_none=True)
    valid_until = InstantField(load_default=None, allow_none=True)


class ReversalBody(Strict):
    """Some (amount) or all (no amount) of what is left of an order is taken back."""

    reversal_id = external_id(required=True)
    amount = amount(load_default=None, allow_none=True)
    currency = currency(load_default=None, allow_none=True)
    occurred_at = InstantField(required=True)
    reason_code = fields.String(load_default="other", validate=validate.OneOf(REASONS))


class IdempotencyHeader(Schema):
    """The id of a write that has none of its own."""

    idempotency_key = fields.String(data_key="Idempotency-Key", load_default=None, validate=validate.Length(1, 128))


class AdjustmentBody(Strict):
    """A bonus (above zero) or a correction. reason is stored as ciphertext."""

    affiliate_id = slug(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    amount = amount(-AMOUNT_MAX, required=True)
    currency = currency(load_default=None, allow_none=True)
    reason = fields.String(required=True, validate=validate.Length(1, 2000))
    effective_at = InstantField(load_default=None, allow_none=True)


class Resolution(Strict):
    """retry: apply the fact now; dismiss: leave it, for a reason (stored as ciphertext)."""

    action = fields.String(required=True, validate=validate.OneOf(("retry", "dismiss")))
    reason = text(2000, load_default="")


class ErasuresPage(Page):
    """Erasures, all or of a status."""

    status = fields.String(load_default=None, validate=validate.OneOf(erasure.STATUSES))


class ErasureBody(Strict):
    """Whose key is to be destroyed, affiliate:ID or traffic:YYYY-MM, and on which ground; final once approved."""

    subject = fields.String(
        required=True,
        validate=validate.Regexp(
            erasure.SUBJECT_PATTERN.replace("$", r"\Z"),
            error="Must be affiliate:ID, or traffic:YYYY-MM for the clicks of a month.",
        ),
        metadata={"pattern": erasure.SUBJECT_PATTERN},
    )
    ground = fields.String(required=True, validate=validate.OneOf(erasure.GROUNDS))


class BreaksPage(Page):
    """Breaks, all or of a status or type."""

    status = fields.String(load_default=None, validate=validate.OneOf(breaks.STATUSES))
    type = fields.String(load_default=None, validate=validate.OneOf(breaks.ALL_TYPES))


class BreakOwner(Strict):
    """The staff id of whoever looks after a break."""

    owner = slug(required=True)


class BreakResolution(Strict):
    """What became of a break, where it came from, and why (stored as ciphertext)."""

    resolution = fields.String(required=True, validate=validate.OneOf(breaks.PERSONS_RESOLUTIONS))
    cause = fields.String(required=True, validate=validate.OneOf(breaks.CAUSES))
    reason = fields.String(required=True, validate=validate.Length(1, breaks.TEXT_MAX))


class DisputesPage(Page):
    """Disputes, all or of a status."""

    status = fields.String(load_default=None, validate=validate.OneOf(dispute.STATUSES))


class OwnDisputesPage(DisputesPage):
    """An affiliate's disputes, all or of a status or period."""

    period = slug(load_default=None)


class DisputeText(Strict):
    """What the affiliate is told. Stored as ciphertext."""

    text = fields.String(required=True, validate=validate.Length(1, dispute.TEXT_MAX))


class DisputeBody(DisputeText):
    """A line of a statement, and what is wrong with it (stored as ciphertext)."""

    period = slug(required=True)
    position = StrictInt(required=True, validate=validate.Range(1, BIGINT_MAX))
    line_no = StrictInt(required=True, validate=validate.Range(1, 32_767))


class DisputeRemedy(DisputeText):
    """amount: of the adjustment to propose, in minor units of currency (default: the program's); or order_id: the held
    conversion to release."""

    amount = amount(-AMOUNT_MAX, load_default=None)
    currency = currency(load_default=None)
    order_id = external_id(load_default=None)


class KeyBody(Strict):
    """A key for a person or a system; affiliate_id for the role affiliate, and for no other."""

    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    holder = slug(required=True)
    holder_kind = fields.String(required=True, validate=validate.OneOf(("person", "system")))
    expires_at = InstantField(required=True)
    affiliate_id = slug(load_default=None)


class RotationBody(Strict):
    """The new key's end (default: the old one's). revoke_old false leaves the old one in force until it is revoked."""

    expires_at = InstantField(load_default=None)
    revoke_old = StrictBoolean(load_default=True)


def parameters(schema: type[Schema]) -> list[dict[str, Any]]:
    """A query schema's fields as OpenAPI parameters, for a view that parses them itself."""
    return [
        {"in": "query", "name": name, "required": False, "schema": {"type": "string"}, **one.metadata}
        for name, one in schema().fields.items()
    ]
