"""What a decision may look at: the program's truth under its lock, and nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from ledger.domain.access import KeyState
    from ledger.domain.adjustment import AdjustmentState
    from ledger.domain.affiliate import AffiliateState
    from ledger.domain.click import ClickSeen, ClickToken
    from ledger.domain.conversion_state import ConversionState
    from ledger.domain.coupon import CouponState
    from ledger.domain.event import Event
    from ledger.domain.exceptions import ExceptionState
    from ledger.domain.offer import OfferState
    from ledger.domain.plans.counting import Counter, CounterKey
    from ledger.domain.plans.journey import JourneyKey, Touch
    from ledger.domain.program import ProgramState
    from ledger.domain.reversal import ReversalState


class Needs(Struct):
    """What a command will look at, so that a batch of commands can load it in a few statements.

    streams: "kind:external-id" of the books; clicks: click ids; customers: (customer_id, offer_id, not after);
    payables: (affiliate_id, currency); sales: (customer_id, offer_id, not after, but this order).
    A need that was not named is still answered, one statement at a time.
    """

    streams: list[str]
    clicks: list[str] = []
    customers: list[tuple[str, str, datetime]] = []
    journeys: list[JourneyKey] = []
    payables: list[tuple[str, str]] = []
    counters: list[CounterKey] = []
    sales: list[tuple[str, str, datetime, str]] = []


class FirstSale(NamedTuple):
    """A customer's first sale on an offer. affiliate_id: who is credited with it, '' for nobody."""

    order_id: str
    occurred_at: datetime
    affiliate_id: str


class View(Protocol):
    """The truth as of the position before the events now being decided."""

    @property
    def now(self) -> datetime:
        """The instant at which this batch is recorded."""

    @property
    def actor(self) -> str:
        """The person or job that asks."""

    @property
    def traffic_position(self) -> int:
        """The last position of the traffic log that this batch could see."""

    @property
    def program(self) -> ProgramState | None: ...

    def offer(self, offer_id: str) -> OfferState | None: ...
    def affiliate(self, affiliate_id: str) -> AffiliateState | None: ...
    def coupon(self, code: str) -> CouponState | None: ...
    def conversion(self, order_id: str) -> ConversionState | None: ...
    def reversal(self, reversal_id: str) -> ReversalState | None: ...
    def adjustment(self, adjustment_id: str) -> AdjustmentState | None: ...
    def access_key(self, access_key_id: str) -> KeyState | None: ...
    def exception(self, exception_id: str) -> ExceptionState | None: ...

    def state(self, key: str) -> Any:
        """What the stream "kind:external-id" adds up to (by the fold of its kind), None for an empty one. Domain
        modules wrap it in a typed function of their own."""

    def click(self, click_id: str) -> ClickSeen | None:
        """A recorded click."""

    def token(self, click_id: str) -> ClickToken | None:
        """What one of our signed click ids says, when its signature is good."""

    def last_click(self, customer_id: str, offer_id: str, until: datetime) -> ClickSeen | None:
        """The customer's last recorded click on the offer at or before an instant."""

    def journey(self, key: JourneyKey) -> list[Touch]:
        """The clicks of a customer and a visitor on an offer, and their impressions if they are asked for: without
        duplicates, of each kind the newest MOST_TOUCHES, in order of time."""

    def first_sale(self, customer_id: str, offer_id: str, until: datetime, but: str) -> FirstSale | None:
        """The customer's first known sale (amount above 0) on an offer that occurred at or before an instant, other
        than the order `but`."""

    def referrer(self, customer_id: str, offer_id: str, until: datetime, but: str) -> str | None:
        """Who was credited with the first of a customer's sales that anybody was credited with."""

    def counter(self, key: CounterKey) -> Counter:
        """What a counter stands at. Not to be changed."""

    def counted_orders(self, key: CounterKey) -> list[str]:
        """The orders that a counter may have counted, and perhaps others."""

    def payable(self, affiliate_id: str, currency: str) -> int:
        """What is payable to an affiliate now, minor units; below zero it owes."""

    def proposed_payouts(self, affiliate_id: str, currency: str) -> list[tuple[str, str]]:
        """(payout id, run id) of the affiliate's payouts that are proposed and neither excluded nor initiated."""

    def decided_payouts(self, run_id: str) -> int:
        """How many of a run's payouts are settled, failed or returned."""

    def answered_at(self, key: str, *types: type[Event], **having: Any) -> int:
        """The newest event of these types, whose fields have these values, in a stream: the position of the last
        event that the same command appended to that stream. It is what the command's caller was told, and is told
        again."""

    def unsettled(self, affiliate_id: str) -> list[tuple[str, str]]:
        """(what, which) of everything open with an affiliate: balances, payouts on their way, records that wait for a
        decision, access keys in force. Of the stored truth: a command that asks stands first in its batch."""

    def seal(self, subject: str, key: str, field: str, text: str) -> str:
        """Personal text as ciphertext bound to a stream and a field ('' stays ''). Of an erased subject nothing is
        kept: erasure.ERASED."""

    def unseal(self, subject: str, key: str, field: str, sealed: str) -> str | None:
        """The text again, or None once its subject's key is erased."""
