"""Affiliates, offers, terms, coupons, adjustments and keys, as the OpenAPI document describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from api.documents.problems import Position


class AffiliateAnswer(Struct):
    """An affiliate's status after the command."""

    affiliate_id: str
    status: Literal["applied", "approved", "suspended", "closed"]
    position: Position


class AffiliateDocument(Struct, omit_defaults=True):
    """An affiliate. group: which it is in now, '' for none. recruiter_id ('' for none) is not told to the affiliate.
    Personal fields only for admin and the affiliate itself; null once erased."""

    affiliate_id: str
    status: Literal["applied", "approved", "suspended", "closed"]
    group: str
    position: Position
    recruiter_id: str = ""
    display_name: str | None = None
    email: str | None = None
    note: str | None = None


class AffiliateGroup(Struct):
    """From effective_from on the affiliate is in the group; '': in none."""

    affiliate_id: str
    group: str
    effective_from: datetime
    position: Position


class AffiliateRecruiter(Struct):
    """Who recruited the affiliate."""

    affiliate_id: str
    recruiter_id: str
    position: Position


class AffiliateListed(Struct):
    """An affiliate in a list. group: which it is in now, recruiter_id: who brought it; '' for none."""

    affiliate_id: str
    status: str
    group: str
    recruiter_id: str
    position: Position


class Affiliates(Struct):
    """A page of affiliates."""

    items: list[AffiliateListed]
    next: str | None


class OfferAnswer(Struct):
    """The offer as it is now."""

    offer_id: str
    offer_name: str
    landing_url: str
    position: Position


class TermsAnswer(Struct):
    """A version of terms: in force (from its effective_from on), or waiting until a second person decides."""

    offer_id: str
    terms_version: int
    status: Literal["in_force", "waiting", "rejected"]
    position: Position


class TermsListed(Struct):
    """A version of terms. status: waiting for a second person; to_come, before its effective_from; in_force; superseded
    by another version, though it still prices sales of its time. effective_until: where another takes over, null if
    none does. plan_hash: SHA-256 of the plan's canonical form, null for simple terms. published_by: whose word brought
    it into force, null while it waits. proposed_by, decided_by: of one that reached back, and so took two people; else
    null."""

    terms_version: int
    status: Literal["waiting", "to_come", "in_force", "superseded"]
    effective_from: datetime
    effective_until: datetime | None
    hold_days: int
    window_days: int
    rate_bps: int | None
    amount: int | None
    currency: str | None
    plan_hash: str | None
    published_by: str | None
    published_at: datetime | None
    proposed_by: str | None
    decided_by: str | None
    decided_at: datetime | None


class TermsDocument(TermsListed):
    """A version of terms with its plan (GET /plan-schema), as it was published but for the order of its members."""

    plan: dict[str, Any] | None


class OfferListed(Struct):
    """An offer and its terms, oldest first, without the plans themselves."""

    offer_id: str
    offer_name: str
    landing_url: str
    terms: list[TermsListed]
    position: Position


class OfferDocument(Struct):
    """An offer and its terms, oldest first."""

    offer_id: str
    offer_name: str
    landing_url: str
    terms: list[TermsDocument]
    position: Position


class Offers(Struct):
    """A page of offers."""

    items: list[OfferListed]
    next: str | None


class CouponAnswer(Struct):
    """The coupon is assigned."""

    coupon: str
    affiliate_id: str
    offer_id: str
    position: Position


class Assignment(Struct):
    """Whom the coupon credits, and when."""

    affiliate_id: str
    offer_id: str
    valid_from: datetime | None
    valid_until: datetime | None


class CouponDocument(Struct):
    """A coupon and every assignment it has had, newest last."""

    coupon: str
    assignments: list[Assignment]
    position: Position


class Coupons(Struct):
    """A page of coupons."""

    items: list[CouponDocument]
    next: str | None


class AdjustmentAnswer(Struct):
    """The adjustment's status after the command."""

    adjustment_id: str
    status: Literal["proposed", "posted", "rejected"]
    position: Position


class AdjustmentDocument(Struct):
    """An adjustment. reason: null once erased; decided_by: who approved or rejected it."""

    adjustment_id: str
    affiliate_id: str
    kind: str
    amount: int
    currency: str
    reason: str | None
    status: Literal["proposed", "posted", "rejected"]
    proposed_by: str
    decided_by: str | None
    decided_at: datetime | None
    effective_at: datetime | None
    position: Position


class Adjustments(Struct):
    """A page of adjustments."""

    items: list[AdjustmentDocument]
    next: str | None


class KeyAnswer(Struct):
    """A new key. token: shown this once."""

    key_id: str
    token: str
    position: Position


class RevocationAnswer(Struct):
    """The key opens nothing any more."""

    key_id: str
    status: Literal["revoked"]
    position: Position


class KeyDocument(Struct):
    """A key; never its secret."""

    key_id: str
    role: str
    holder: str
    holder_kind: str
    affiliate_id: str
    issued_by: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class Keys(Struct):
    """A page of keys."""

    items: list[KeyDocument]
    next: str | None
