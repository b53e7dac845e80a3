"""Breaks and disputes, as the OpenAPI document describes them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from msgspec import Struct

from api.documents.problems import Position

DisputeStatus = Literal["open", "answered", "accepted", "rejected", "withdrawn"]


class BreakAnswer(Struct, omit_defaults=True):
    """A break's status after the command."""

    break_id: str
    status: Literal["open", "resolved"]
    position: Position
    owner: str = ""
    resolution: str = ""
    cause: str = ""


class BreakDocument(Struct, omit_defaults=True):
    """A break. Amounts are minor units, expected by our books and found outside; null where one side has nothing.
    age_days: since it was opened last, up to now or to its resolution. Texts are null once erased."""

    break_id: str
    source: Literal["bank", "orders", "payout_file"]
    type: str
    status: Literal["open", "resolved"]
    detail: str
    affiliate_id: str
    reference: str
    expected_amount: int | None
    found_amount: int | None
    currency: str
    occurred_on: date | None
    owner: str
    opened_at: datetime
    age_days: int
    resolution: str
    cause: str
    resolved_by: str
    text: str | None
    position: Position
    reason: str | None = None


class BreaksOfAge(Struct):
    """Open breaks of a source, type and currency that are so many days old; amount: the sum of their differences in
    minor units."""

    source: str
    type: str
    currency: str
    age: Literal["0-7", "8-30", "31-90", ">90"]
    count: int
    amount: int


class Breaks(Struct):
    """A page of breaks, and the ageing of all that are open."""

    items: list[BreakDocument]
    next: str | None
    ageing: list[BreaksOfAge]


class DisputeAnswer(Struct, omit_defaults=True):
    """A dispute's status after the command; the adjustment that was proposed, or the order that was released."""

    dispute_id: str
    status: DisputeStatus
    position: Position
    adjustment_id: str = ""
    order_id: str = ""


class DisputedLine(Struct):
    """A line, by the names that it has on its statement."""

    position: Position
    line_no: int


class DisputeDocument(Struct, omit_defaults=True):
    """A dispute. Texts are null once the affiliate is erased. opened_by, answered_by (of the newest answer) and
    decided_by are shown to staff, not to the affiliate."""

    dispute_id: str
    affiliate_id: str
    period: str
    line: DisputedLine
    status: DisputeStatus
    text: str | None
    answers: list[str | None]
    position: Position
    decision: str | None = None
    adjustment_id: str = ""
    order_id: str = ""
    opened_by: str | None = None
    answered_by: str | None = None
    answered_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None


class Disputes(Struct):
    """A page of disputes."""

    items: list[DisputeDocument]
    next: str | None
