"""A conversion's events. What they add up to: conversion_state.py.

waiting → pending ⇄ held, pending → approved, pending or held → rejected, any → reversed; or unattributed. Where several
affiliates are credited, each commission goes this way by itself.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from ledger.domain.errors import InvalidInput
from ledger.domain.event import Event
from ledger.domain.ids import check_external_id
from ledger.domain.plans.evidence import Pricing
from ledger.domain.plans.journey import Touch

RESERVED_PREFIX = "~"  # of order ids that are ours: bundles of clicks, goals
OWN_EVENTS = ("click", "goal")  # event_ids of what has such ids: bundles of clicks, and bonuses
QUANTITY_MAX = 1_000_000  # pieces on a line, either way: what is paid by the piece stays a sum of money


class Step(Struct, frozen=True, omit_defaults=True, gc=False):
    """One step of attribution. rule: click_id, coupon, affiliate_id or last_click; result: matched, or why not."""

    rule: str
    result: str
    affiliate_id: str | None = None


class Item(Struct, frozen=True, omit_defaults=True, gc=False):
    """A line of an order. amount: minor units of the order's currency, for the whole line."""

    sku: str
    quantity: int = 1
    amount: int = 0
    category: str | None = None
    product: str | None = None


class ConversionRecorded(Event, frozen=True):
    """The sale, as its merchant told it. amount: minor units; click_count: of a bundle of clicks, which stand in the
    traffic log behind clicks_after and up to clicks_until."""

    order_id: str
    offer_id: str
    amount: int
    currency: str
    occurred_at: datetime
    customer_id: str | None = None
    click_id: str | None = None
    coupon: str | None = None
    affiliate_id: str | None = None
    event_id: str | None = None
    channel: str | None = None
    country: str | None = None
    items: list[Item] = []
    visitor_id: str | None = None
    click_count: int = 0
    clicks_after: int = 0
    clicks_until: int = 0


class WeighedTouch(Struct, frozen=True, omit_defaults=True, gc=False):
    """A touch of the journey, and its part of the credit: weight of the sum of all weights."""

    touch: Touch
    weight: int


class ConversionAttributed(Event, frozen=True):
    """Whom a model of attribution credits, and by which touches. traffic_position: up to where the traffic log was
    seen."""

    order_id: str
    model: str
    touches: list[WeighedTouch]
    traffic_position: int


class CommissionAccrued(Event, frozen=True):
    """A commission is owed. amount: minor units of currency; sale_amount: what it was computed from.

    Everything that explains it stands here: the steps of attribution, the click with its instant, position
    (0: known by its signature alone) and leaf hash, the traffic position seen, the terms version and rate, and
    rounding_e4: what rounding added, in ten-thousandths of a minor unit (0 where a plan priced it: see pricing).

    level: 2 for who recruited the affiliate that is credited. credited_amount: the affiliate's part of the sale, where
    it is not all of it; sale_currency: the sale's, where it is another than the commission's.
    """

    order_id: str
    affiliate_id: str
    offer_id: str
    amount: int
    currency: str
    sale_amount: int
    occurred_at: datetime
    matures_at: datetime
    terms_version: int
    traffic_position: int
    steps: list[Step]
    held: bool = False
    rate_bps: int | None = None
    rounding_e4: int = 0
    click_id: str | None = None
    clicked_at: datetime | None = None
    click_position: int | None = None
    click_leaf: str | None = None
    level: int = 1
    credited_amount: int | None = None
    sale_currency: str | None = None
    pricing: Pricing | None = None


class CommissionRepriced(Event, frozen=True):
    """A commission changed after it accrued: a retroactive tier was reached or lost, or a simulation was applied.

    commission: what is accrued for the conversion from now on; amount: what that moves, less what reversals have
    taken back of it already (minor units; below zero it is taken back); bucket: where (pending, held, payable).
    cause: tier_reached, tier_lost or simulation. rule and step: whose tier table pays now, and by which of its
    steps; counter and counted: what brought it there. cap: that left room for less. credited_amount and matures_at:
    of a commission that is new to the conversion, by a simulation; suspended: it is held because its affiliate is.
    """

    order_id: str
    affiliate_id: str
    amount: int
    commission: int
    currency: str
    bucket: str
    effective_at: datetime
    cause: str
    level: int = 1
    rule: str = ""
    step: int | None = None
    counter: str = ""
    counted: int = 0
    simulation_id: str = ""
    credited_amount: int | None = None
    matures_at: datetime | None = None
    cap: str = ""
    suspended: bool = False


class ConversionUnattributed(Event, frozen=True):
    """Nobody is credited: every step of attribution failed."""

    order_id: str
    traffic_position: int
    steps: list[Step]


class AttributionDeferred(Event, frozen=True):
    """The click_id was not seen yet: attribution is tried again until the wait ends."""

    order_id: str
    click_id: str
    until: datetime
    traffic_position: int


class ConversionHeld(Event, frozen=True):
    """The commission still owed is held back. reason is ciphertext."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    reason: str = ""
    level: int = 1


class ConversionReleased(Event, frozen=True):
    """The hold is over."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    reason: str = ""
    level: int = 1


class ConversionApproved(Event, frozen=True):
    """The commission may be paid: it matured (effective_at is matures_at), or somebody decided earlier."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    by_hand: bool = False
    reason: str = ""
    level: int = 1


class ConversionRejected(Event, frozen=True):
    """The commission is not owed after all. was_held: it came out of held, not pending."""

    order_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime
    was_held: bool = False
    reason: str = ""
    level: int = 1


class ConversionReversed(Event, frozen=True):
    """Some or all of the sale was taken back. amount: of the commission; sale_amount: of the sale. Where several
    commissions accrued, each has such an event, one behind the other, with the same sale_amount. sale_currency: the
    sale's, where it is another than the commission's.

    bucket: where the commission came out of (pending, held, payable), or 'none'.
    """

    order_id: str
    reversal_id: str
    amount: int
    currency: str
    sale_amount: int
    effective_at: datetime
    bucket: str
    affiliate_id: str = ""
    level: int = 1
    sale_currency: str | None = None


class ReversalDeferred(Event, frozen=True):
    """A reversal came before its conversion could take it. sale_amount None: all of it."""

    order_id: str
    reversal_id: str
    sale_amount: int | None
    currency: str | None
    effective_at: datetime


def check_whose(order_id: str, event_id: str | None, ours: bool) -> None:
    """Raise InvalidInput where a merchant's sale has an id or event of the ledger's own, or a bundle has not."""
    if order_id.startswith(RESERVED_PREFIX) != ours:
        raise InvalidInput("order_id", f"must not begin with {RESERVED_PREFIX}: such ids are the ledger's own")
    if event_id in OWN_EVENTS and not ours:
        raise InvalidInput("event_id", f"must not be {event_id}: such conversions are the ledger's own")


def checked_item(where: str, item: Item) -> Item:
    """An item as it is stored and compared. Raises InvalidInput."""
    if abs(item.quantity) > QUANTITY_MAX:
        raise InvalidInput(f"{where}.quantity", f"must be from -{QUANTITY_MAX} to {QUANTITY_MAX}")
    category = item.category
    if category is not None:
        category = check_external_id(f"{where}.category", category)
    product = item.product
    if product is not None:
        product = check_external_id(f"{where}.product", product)
    return Item(check_external_id(f"{where}.sku", item.sku), item.quantity, item.amount, category, product)


def key(order_id: str) -> str:
    """The stream key of a conversion."""
    return f"conversion:{order_id}"
