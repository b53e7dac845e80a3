"""What hot endpoints take: the domain's commands, decoded straight from bytes, with their limits spelled out for
the documented schema (tests/test_api_schema.py keeps the two in agreement)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ledger.domain.conversion import QUANTITY_MAX, Item
from ledger.domain.event import Instant
from ledger.domain.ids import Amount, ClickId, Currency, ExternalId, SignedAmount, Slug
from ledger.domain.recording import RecordSale

Pseudonym = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[^@]*$", description="no e-mail address")]


class ItemInput(Item, frozen=True, forbid_unknown_fields=True):
    """A line of an order. amount: minor units of the order's currency, for the whole line."""

    sku: ExternalId
    quantity: Annotated[int, Meta(ge=-QUANTITY_MAX, le=QUANTITY_MAX)] = 1
    amount: SignedAmount = 0
    category: ExternalId | None = None
    product: ExternalId | None = None


class ConversionInput(RecordSale, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sale. amount: minor units; without currency the program's is meant."""

    order_id: ExternalId
    offer_id: Slug
    amount: Amount
    occurred_at: Instant
    currency: Currency | None = None
    customer_id: Pseudonym | None = None
    click_id: ClickId | None = None
    coupon: ExternalId | None = None
    affiliate_id: Slug | None = None
    event_id: ExternalId | None = None
    channel: ExternalId | None = None
    country: ExternalId | None = None
    items: Annotated[list[ItemInput], Meta(max_length=500)] = []  # type: ignore[assignment]
    visitor_id: Pseudonym | None = None
