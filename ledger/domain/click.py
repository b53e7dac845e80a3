"""A click: who sent the visitor, on which offer, when. Lives in the traffic log."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain.event import Event, in_utc
from ledger.domain.ids import check_click_id, check_external_id, check_pseudonym, check_slug


class ClickRecorded(Event, frozen=True):
    """A click. personal is ciphertext under the month's traffic key: sub1-sub5, referrer, user agent.

    ip_hash is a keyed hash whose key rotates daily; duplicate flags a visitor seen a moment before.
    """

    click_id: str
    affiliate_id: str
    offer_id: str
    occurred_at: datetime
    customer_id: str | None = None
    visitor_id: str | None = None
    channel: str | None = None
    ip_hash: str | None = None
    duplicate: bool = False
    personal: str = ""
    personal_key: str = ""


class ClickSeen(Struct, frozen=True, gc=False):
    """A recorded click as attribution sees it; leaf_hash is the hex of its leaf in the traffic log's tree."""

    click_id: str
    affiliate_id: str
    offer_id: str
    occurred_at: datetime
    position: int
    leaf_hash: str
    channel: str | None = None


class ClickToken(Struct, frozen=True):
    """What one of our signed click ids says of itself."""

    affiliate_id: str
    offer_id: str
    occurred_at: datetime


PERSONAL_FIELDS = ("sub1", "sub2", "sub3", "sub4", "sub5", "referrer", "user_agent")


class RecordTouch(Struct, frozen=True, kw_only=True, gc=False):
    """What a click and an impression have in common: whose link or banner, of which offer, when, and who it was."""

    affiliate_id: str
    offer_id: str
    occurred_at: datetime
    customer_id: str | None = None
    visitor_id: str | None = None
    channel: str | None = None
    duplicate: bool = False

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        check_slug("offer_id", self.offer_id)
        at = in_utc("occurred_at", self.occurred_at)
        if at is not self.occurred_at:
            force_setattr(self, "occurred_at", at)
        if self.customer_id is not None:
            force_setattr(self, "customer_id", check_pseudonym("customer_id", self.customer_id))
        if self.visitor_id is not None:
            force_setattr(self, "visitor_id", check_pseudonym("visitor_id", self.visitor_id))
        if self.channel is not None:
            force_setattr(self, "channel", check_external_id("channel", self.channel))


class RecordClick(RecordTouch, frozen=True, kw_only=True, gc=False):
    """A click to record. Without click_id a signed one is made, so that a retry is another click; ip is hashed and
    never stored; sub1-sub5, referrer and user_agent are stored as ciphertext."""

    click_id: str | None = None
    ip: str | None = None
    sub1: str | None = None
    sub2: str | None = None
    sub3: str | None = None
    sub4: str | None = None
    sub5: str | None = None
    referrer: str | None = None
    user_agent: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.click_id is not None:
            force_setattr(self, "click_id", check_click_id("click_id", self.click_id))

    def has_personal(self) -> bool:
        """Whether any field is to be stored as ciphertext."""
        return bool(self.sub1 or self.sub2 or self.sub3 or self.sub4 or self.sub5 or self.referrer or self.user_agent)

    def personal(self) -> dict[str, str]:
        """The fields that are stored as ciphertext, where there are any."""
        return {field: value[:2000] for field in PERSONAL_FIELDS if (value := getattr(self, field))}


def key(click_id: str) -> str:
    """The stream key of a click."""
    return f"click:{click_id}"
