"""A customer's touches: the clicks and impressions that a conversion may be credited to."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

MOST_TOUCHES = 100  # of one journey: the newest ones


class Touch(Struct, frozen=True, omit_defaults=True, gc=False):
    """A click or an impression. position: in the traffic log, 0 for a click that is known by its signature alone."""

    position: int
    affiliate_id: str
    occurred_at: datetime
    kind: str = "click"
    channel: str | None = None


class JourneyKey(NamedTuple):
    """Whose touches, on which offer. clicks_since and impressions_since: not before; until: not after.
    impressions_since None: impressions do not count."""

    customer_id: str | None
    visitor_id: str | None
    offer_id: str
    clicks_since: datetime
    impressions_since: datetime | None
    until: datetime
