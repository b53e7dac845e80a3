"""The truth as the simulated engine sees it: master data as it was then, the traffic log as far as history saw it, and
orders, counters and customers as they would be."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.domain import affiliate, coupon, offer, program
from ledger.domain.click import ClickSeen, ClickToken
from ledger.domain.click import key as click_key
from ledger.domain.conversion import ConversionRecorded
from ledger.domain.conversion_state import ConversionState
from ledger.domain.event import BEGINNING, EPOCH, Event
from ledger.domain.ids import stream_id
from ledger.domain.plans import foreseeing
from ledger.domain.plans.counting import Counter, CounterKey
from ledger.domain.plans.journey import JourneyKey, Touch
from ledger.domain.recording import needs_of
from ledger.domain.stream_keys import stream_key
from ledger.domain.topics import FOLDS
from ledger.domain.view import FirstSale
from ledger.projections import touches
from ledger.simulating import kept
from ledger.simulating.kept import Kept
from ledger.simulating.known import Counted, Counters, Customers
from ledger.simulating.scratch import Spill
from ledger.simulating.trial import Trial, TriedOffer, tried_offer
from ledger.store.log import Rows
from ledger.store.vault import Secrets

ORDERS_KEPT = 10_000
_AHEAD = 500
_LastClick = tuple[str, str, datetime]


class SimulatedView:
    """Implements View, as far as sales and reversals ask. cur: reads the traffic log; plans: all that may ever pay the
    offer; track: whether any of them looks at customers."""

    def __init__(
        self, cur: Rows, program_id: UUID, secrets: Secrets, trial: Trial, db: sqlite3.Connection, counted: Counted,
        track_customers: bool,
    ) -> None:  # fmt: skip
        self._cur, self._program_id, self._secrets, self._trial = cur, program_id, secrets, trial
        self.now: datetime = EPOCH
        self.actor = "simulation"
        self.traffic_position = 0
        self.orders: Spill[Kept] = Spill(db, "orders", kept.encode, kept.decode, ORDERS_KEPT)
        self.counters, self.counted = Counters(db), counted
        self.customers = Customers(db) if track_customers else None
        self._master: dict[str, Any] = {}
        self._program: program.ProgramState | None = None
        self._tried: TriedOffer | None = None
        self._clicks: dict[str, ClickSeen | None] = {}
        self._last_clicks: dict[_LastClick, ClickSeen | None] = {}
        self._journeys: dict[JourneyKey, list[Touch]] = {}
        self._coming: list[str] = []
        self._place: dict[str, int] = {}

    # --- taking and looking ahead ----------------------------------------------------------------------------

    def take_master(self, event: Event) -> None:
        """An event of the program, an affiliate, an offer, a coupon or an exchange rate."""
        key = stream_key(event)
        kind = key.partition(":")[0]
        state = self._master[key] = FOLDS[kind](self._master.get(key), event)
        if kind == "program":
            self._program = state
        elif key == offer.key(self._trial.offer_id):
            self._tried = tried_offer(state, self._trial)

    def look_ahead(self, sales: Sequence[ConversionRecorded]) -> None:
        """Read what the next sales will be credited by, in as few statements as there are kinds of it."""
        clicks: set[str] = set()
        lasts: set[_LastClick] = set()
        journeys: set[JourneyKey] = set()
        for sale in sales:
            need = needs_of(sale)
            clicks.update(need.clicks)
            lasts.update(need.customers)
            then = foreseeing.then(sale, self)
            if then is not None:
                journeys.update(then.journeys)
        self._clicks, self._last_clicks, self._journeys = {}, {}, {}
        if clicks:
            self._load_clicks(clicks)
        if lasts:
            self._last_clicks.update(touches.last_clicks(self._cur, self._program_id, sorted(lasts)))
        if journeys:
            self._journeys.update(touches.journeys(self._cur, self._program_id, list(journeys)))
        if self.customers is not None:
            self.customers.prefetch({sale.customer_id for sale in sales if sale.customer_id is not None})
        self.counters.prefetch({key for sale in sales for key in self._counters_of(sale)})

    def _counters_of(self, sale: ConversionRecorded) -> list[CounterKey]:
        if not self.counters.spilled:
            return []
        need = foreseeing.last(sale, self)
        return need.counters if need is not None else []

    def _load_clicks(self, click_ids: set[str]) -> None:
        self._clicks.update(dict.fromkeys(click_ids))
        ids = [stream_id(self._program_id, click_key(one)) for one in click_ids]
        for seen in touches.clicks(self._cur, self._program_id, ids):
            self._clicks[seen.click_id] = seen

    def trim(self) -> None:
        """Put away what has not been used for long."""
        self.orders.trim()
        self.counters.trim()
        if self.customers is not None:
            self.customers.trim()

    # --- the View --------------------------------------------------------------------------------------------

    @property
    def program(self) -> program.ProgramState | None:
        return self._program

    def offer(self, offer_id: str) -> offer.OfferState | None:
        if offer_id == self._trial.offer_id:
            return self._tried
        state: offer.OfferState | None = self._master.get(offer.key(offer_id))
        return state

    def affiliate(self, affiliate_id: str) -> affiliate.AffiliateState | None:
        state: affiliate.AffiliateState | None = self._master.get(affiliate.key(affiliate_id))
        return state

    def coupon(self, code: str) -> coupon.CouponState | None:
        state: coupon.CouponState | None = self._master.get(coupon.key(code))
        return state

    def conversion(self, order_id: str) -> ConversionState | None:
        at = self._place.get(order_id)
        if at is not None:
            # one of those that a counter counted: its neighbours are next
            self.orders.prefetch(self._coming[at : at + _AHEAD])
        found = self.orders.get(order_id)
        return found.would if found is not None and found.would.recorded is not None else None

    def state(self, key: str) -> Any:
        kind, _, id_ = key.partition(":")
        return self.conversion(id_) if kind == "conversion" else self._master.get(key)

    def click(self, click_id: str) -> ClickSeen | None:
        if click_id not in self._clicks:
            self._load_clicks({click_id})
        found = self._clicks[click_id]
        return found if found is not None and found.position <= self.traffic_position else None

    def token(self, click_id: str) -> ClickToken | None:
        return self._secrets.read_click(self._program_id, click_id)

    def last_click(self, customer_id: str, offer_id: str, until: datetime) -> ClickSeen | None:
        key = (customer_id, offer_id, until)
        if key not in self._last_clicks:
            self._last_clicks.update(touches.last_clicks(self._cur, self._program_id, [key]))
        found = self._last_clicks[key]
        if found is None or found.position <= self.traffic_position:
            return found
        # it came only after history had decided: the last one of those before it
        before = self.journey(JourneyKey(customer_id, None, offer_id, BEGINNING, None, until))
        if not before:
            return None
        last = before[-1]
        return ClickSeen("", last.affiliate_id, offer_id, last.occurred_at, last.position, "", last.channel)

    def journey(self, key: JourneyKey) -> list[Touch]:
        found = self._journeys.get(key)
        if found is None:
            found = self._journeys[key] = touches.journeys(self._cur, self._program_id, [key])[key]
        return [touch for touch in found if touch.position <= self.traffic_position]

    def first_sale(self, customer_id: str, offer_id: str, until: datetime, but: str) -> FirstSale | None:
        assert self.customers is not None
        return self.customers.first(customer_id, until, but, credited=False)

    def referrer(self, customer_id: str, offer_id: str, until: datetime, but: str) -> str | None:
        assert self.customers is not None
        found = self.customers.first(customer_id, until, but, credited=True)
        return found.affiliate_id if found is not None else None

    def counter(self, key: CounterKey) -> Counter:
        return self.counters.get(key)

    def counted_orders(self, key: CounterKey) -> list[str]:
        self._coming = self.counted.orders(key)
        self._place = {order_id: at for at, order_id in enumerate(self._coming) if at % _AHEAD == 0}
        return self._coming

    # --- what neither a sale nor a reversal asks ---------------------------------------------------------------

    def _unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    reversal = adjustment = access_key = exception = payable = proposed_payouts = decided_payouts = _unasked
    answered_at = unsettled = seal = unseal = _unasked
