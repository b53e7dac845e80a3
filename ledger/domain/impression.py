"""An impression: who showed the visitor which offer, when. Lives in the traffic log."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import force_setattr

from ledger.domain.click import RecordTouch
from ledger.domain.event import Event
from ledger.domain.ids import check_external_id


class ImpressionRecorded(Event, frozen=True):
    """An offer was seen with an affiliate. duplicate flags a visitor who had seen it a moment before."""

    impression_id: str
    affiliate_id: str
    offer_id: str
    occurred_at: datetime
    customer_id: str | None = None
    visitor_id: str | None = None
    channel: str | None = None
    duplicate: bool = False


class RecordImpression(RecordTouch, frozen=True, kw_only=True, gc=False):
    """An impression to record. Without impression_id a random one is made, so that a retry is another impression."""

    impression_id: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.impression_id is not None:
            force_setattr(self, "impression_id", check_external_id("impression_id", self.impression_id))


def key(impression_id: str) -> str:
    """The stream key of an impression."""
    return f"impression:{impression_id}"
