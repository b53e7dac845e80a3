"""Why a commission priced by a plan is what it is: kept in the commission's own event, so that it explains itself.

Nothing here names another affiliate: the event is shown to the one that it pays.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class _Evidence(Struct, frozen=True, omit_defaults=True, gc=False):
    """What all of it has in common."""


class TierPart(_Evidence, frozen=True):
    """What one step of a tier table paid for. amount: minor units of the sale that lie in the step (of all of it,
    where the whole sale is paid by one step)."""

    step: int
    amount: int


class TierReading(_Evidence, frozen=True):
    """Where a tiered pay stood. counter: 'affiliate/2026-11' or 'offer/total'; before and after: what it counted
    without and with this conversion; step_before and step: numbers of steps, from 0."""

    by: str
    counter: str
    before: int
    after: int
    step_before: int
    step: int
    parts: list[TierPart] = []


class PricedRule(_Evidence, frozen=True):
    """What one rule paid for. amount: of its lines, minor units of the sale's currency; exact: what it earned, a
    fraction of minor units ('197/2'); one of rate_bps, flat_amount, amount_per_item, amount_per_click: its price."""

    rule: str
    amount: int
    exact: str
    quantity: int = 0
    rate_bps: int | None = None
    flat_amount: int | None = None
    amount_per_item: int | None = None
    amount_per_click: int | None = None
    tier: TierReading | None = None


class CapReading(_Evidence, frozen=True):
    """A cap that was asked. room: what was left of it before; asked: what this conversion wanted of it; given: what it
    got. In units of what the cap is by: conversions, clicks, or minor units."""

    cap: str
    by: str
    counter: str
    room: int
    asked: int
    given: int


class FrozenRate(_Evidence, frozen=True):
    """The exchange rate used: one unit of base costs `rate` of quote."""

    base: str
    quote: str
    rate: str
    as_of: datetime
    source: str


class Pricing(_Evidence, frozen=True):
    """The whole of it. model: of attribution; weight: (this affiliate's, all) where credit is shared; value: the
    credited sale in minor units of the commission's currency, which counters count as revenue; exact: the commission
    before rounding and caps, a fraction; bound: 'min_amount' or 'max_amount', where one held; unpaid: why nothing is
    paid ('' when it is): no_rule, recurring, or cap:<id>; counted: the counters that it counts in; customer: new or
    returning, where a rule asked; first_order_id: the sale that makes the customer a returning one; second_level_of
    and rate_bps: for the second level, the commission or the credited sale that it is a part of (minor units), and
    which part; paid_clicks: of a
    bundle of clicks, those that were paid."""

    rules: list[PricedRule] = []
    model: str = "last_click"
    override: str = ""
    weight: tuple[int, int] | None = None
    value: int = 0
    exact: str = "0"
    bound: str = ""
    caps: list[CapReading] = []
    unpaid: str = ""
    counted: list[str] = []
    customer: str = ""
    first_order_id: str = ""
    rate: FrozenRate | None = None
    second_level_of: int | None = None
    rate_bps: int | None = None
    paid_clicks: int = 0
