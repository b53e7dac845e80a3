"""What one imaginary sale would earn: decided by the same code that decides real ones, over a program that holds
nothing but an offer, an affiliate and what counters are said to stand at."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import Struct

from ledger.domain import conversion_state, rates, recording
from ledger.domain.affiliate import AffiliateState, Membership
from ledger.domain.conversion import CommissionAccrued, ConversionRecorded, Item
from ledger.domain.event import BEGINNING, Event, fold_all
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.offer import OfferState, Terms
from ledger.domain.plans import plan as plans
from ledger.domain.plans.counting import Counter, CounterKey
from ledger.domain.program import ProgramState
from ledger.domain.rates import RateRecorded, RateState
from ledger.domain.view import FirstSale, View
from ledger.explaining.data import Explanation
from ledger.explaining.explain import explain

ORDER_ID = "imaginary"
_FIRST_SALE = "earlier-sale"


class ImaginarySale(Struct, frozen=True):
    """amount: minor units of currency. first_sale_at: of a returning customer; clicks: of a bundle; counted: what every
    counter stood at before; rate: units of the plan's currency for one of the sale's, '' for none; group, recruiter_id:
    the affiliate's, '' for none."""

    amount: int
    currency: str
    occurred_at: datetime
    affiliate_id: str = "someone"
    group: str = ""
    recruiter_id: str = ""
    event_id: str | None = None
    coupon: str | None = None
    country: str | None = None
    channel: str | None = None
    items: list[Item] = []
    clicks: int = 0
    first_sale_at: datetime | None = None
    counted: Counter = msgspec.field(default_factory=Counter)
    rate: str = ""


class Tried(NamedTuple):
    """explanations: of the sale, and of the bonuses of the goals that it reaches; refused: why it could not be priced,
    '' where it was."""

    explanations: list[Explanation]
    refused: str = ""


def terms_of(document: dict[str, Any], hold_days: int) -> Terms:
    """Terms with a plan that nobody published."""
    return Terms(1, BEGINNING, hold_days, 0, None, None, None, document, plans.hash_of(document))


def attempt(sale: ImaginarySale, terms: Terms, offer_id: str, zone: str = "UTC") -> Tried:
    """Price a sale by some terms, whenever they are in force. zone: of the program's days. Raises InvalidInput."""
    always = Terms(**{name: getattr(terms, name) for name in Terms.__struct_fields__} | {"effective_from": BEGINNING})
    the_offer = OfferState(offer_id, "", "", [always])
    fact = ConversionRecorded(
        order_id=ORDER_ID,
        offer_id=offer_id,
        amount=sale.amount,
        currency=sale.currency,
        occurred_at=sale.occurred_at,
        customer_id="customer",
        coupon=sale.coupon,
        affiliate_id=sale.affiliate_id,
        event_id="click" if sale.clicks else sale.event_id,
        channel=sale.channel,
        country=sale.country,
        items=sale.items,
        click_count=sale.clicks,
    )
    outcome = recording.record(fact, None, cast(View, _Imagined(sale, the_offer, zone)))
    if isinstance(outcome, ExceptionRaised):
        return Tried([], outcome.detail)
    streams: dict[str, list[Event]] = {}
    for key, event in outcome.drafts:
        if key.startswith("conversion:"):
            streams.setdefault(key, []).append(event)
    found = []
    for key, events in streams.items():
        state = fold_all(conversion_state.fold, events)
        if state is not None and any(isinstance(event, CommissionAccrued) for event in events):
            found.append(explain(key.partition(":")[2], state, the_offer, events))
    return Tried(found)


class _Imagined:
    """The part of a View that a sale of a named affiliate looks at."""

    actor = "nobody"
    traffic_position = 0

    def __init__(self, sale: ImaginarySale, the_offer: OfferState, zone: str) -> None:
        self.now = sale.occurred_at
        self._sale, self._offer = sale, the_offer
        self.program = ProgramState("imaginary", sale.currency, zone, 0, 0)

    def state(self, key: str) -> Any:
        """An offer, an affiliate, or the one rate there is."""
        kind, _, id_ = key.partition(":")
        match kind:
            case "offer":
                return self.offer(id_)
            case "affiliate":
                return self.affiliate(id_)
            case "rate" if self._sale.rate:
                base, _, quote = id_.partition("/")
                found = RateRecorded(
                    base=base, quote=quote, rate=rates.canonical("rate", self._sale.rate), as_of=self.now, source="you"
                )
                return RateState([found])
        return None

    def offer(self, offer_id: str) -> OfferState | None:
        """The one there is."""
        return self._offer if offer_id == self._offer.offer_id else None

    def affiliate(self, affiliate_id: str) -> AffiliateState | None:
        """The one that is credited, and its recruiter."""
        sale = self._sale
        if affiliate_id == sale.affiliate_id:
            groups = [Membership(sale.group, BEGINNING)] if sale.group else []
            since = BEGINNING if sale.recruiter_id else None
            return AffiliateState(
                affiliate_id, "approved", groups=groups, recruiter_id=sale.recruiter_id, recruited_at=since
            )
        return AffiliateState(affiliate_id, "approved") if affiliate_id == sale.recruiter_id else None

    def coupon(self, code: str) -> None:
        """Coupons are nobody's: the affiliate is named."""

    def conversion(self, order_id: str) -> None:
        """There is no other sale."""

    def journey(self, key: object) -> list[Any]:
        """Nobody clicked."""
        return []

    def referrer(self, customer_id: str, offer_id: str, until: datetime, but: str) -> None:
        """Nobody was credited before."""

    def first_sale(self, customer_id: str, offer_id: str, until: datetime, but: str) -> FirstSale | None:
        """Of a returning customer."""
        at = self._sale.first_sale_at
        return None if at is None else FirstSale(_FIRST_SALE, at, self._sale.affiliate_id)

    def counter(self, key: CounterKey) -> Counter:
        """All stand at the same."""
        return self._sale.counted

    def counted_orders(self, key: CounterKey) -> list[str]:
        """None that could be topped up."""
        return []
