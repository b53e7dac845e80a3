"""What plans are decided by while a batch is at the desk: counters and customers, the stored truth and what the batch
itself has appended so far."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from uuid import UUID

from ledger.domain.conversion import (
    CommissionAccrued,
    CommissionRepriced,
    ConversionRecorded,
    ConversionRejected,
    ConversionReversed,
)
from ledger.domain.conversion_state import ConversionState
from ledger.domain.event import Event, Recorded
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counted, Counter, CounterKey
from ledger.domain.view import FirstSale
from ledger.projections import counters, customers
from ledger.projections.customers import CustomerKey
from ledger.store.log import Rows

_COUNTING = frozenset({CommissionAccrued, CommissionRepriced, ConversionReversed, ConversionRejected})
REMEMBERED = 100_000  # counters that are kept between batches


class Planning:
    """The caller holds the program's lock. remembered: counters as they stand, kept by the caller while nobody else
    writes; changed here with every event."""

    def __init__(self, cur: Rows, program_id: UUID, remembered: Counted) -> None:
        self._cur, self._program_id = cur, program_id
        self._counters = remembered
        self._before: Counted = {}  # the batch: what it changed, as it stood
        self._customers: customers.Known = {}
        self._sales: dict[tuple[str, str], list[FirstSale]] = {}  # of this batch, by customer and offer
        self._sold: dict[str, tuple[str, str]] = {}  # order id → its customer and offer
        self._orders: dict[str, set[str]] = {}  # of this batch, by offer
        self._seen = 0

    def load(self, keys: Collection[CounterKey], wanted: Collection[CustomerKey]) -> None:
        """Read some of them, in a statement each."""
        missing = {key for key in keys if key not in self._counters}
        if missing:
            self._counters.update(counters.load(self._cur, self._program_id, missing))
        unknown = {key for key in wanted if key not in self._customers}
        if unknown:
            self._customers.update(customers.load(self._cur, self._program_id, unknown))

    def took(self, state: ConversionState, event: Event) -> None:
        """The batch appended an event; state: of its conversion, with the event."""
        for key, change in counting.changes(state, event):
            now = self.counter(key)
            if key not in self._before:
                self._before[key] = copy(now)
            now.add(change)

    @staticmethod
    def counts(event: Event) -> bool:
        """Whether an event may change counters."""
        kind = type(event)
        return kind in _COUNTING and not (kind is CommissionAccrued and event.pricing is None)  # type: ignore[attr-defined]

    def counter(self, key: CounterKey) -> Counter:
        """A counter as it stands."""
        if key not in self._counters:
            self.load([key], [])
        return self._counters[key]

    def first_sale(self, key: CustomerKey, appended: Sequence[Recorded], credited: bool) -> FirstSale | None:
        """See View.first_sale and View.referrer. appended: the batch's events so far."""
        if key not in self._customers:
            self.load([], [key])
        self._catch_up(appended)
        best = self._customers[key][credited]
        for sale in self._sales.get((key.customer_id, key.offer_id), ()):
            if sale.order_id == key.but or sale.occurred_at > key.until or (credited and not sale.affiliate_id):
                continue
            if best is None or sale.occurred_at < best.occurred_at:
                best = sale
        return best

    def counted_orders(self, key: CounterKey, zone: str, appended: Sequence[Recorded]) -> list[str]:
        """See View.counted_orders."""
        self._catch_up(appended)
        stored = counters.counted_orders(self._cur, self._program_id, key, counting.span(key.period, zone))
        fresh = self._orders.get(key.offer_id, set()).difference(stored)
        return [*stored, *sorted(fresh)]

    def _catch_up(self, appended: Sequence[Recorded]) -> None:
        for record in appended[self._seen :]:
            body = record.body
            if isinstance(body, ConversionRecorded):
                if body.customer_id is not None and body.amount > 0:
                    place = self._sold[body.order_id] = (body.customer_id, body.offer_id)
                    self._sales.setdefault(place, []).append(FirstSale(body.order_id, body.occurred_at, ""))
            elif isinstance(body, CommissionAccrued):
                self._orders.setdefault(body.offer_id, set()).add(body.order_id)
                self._credit(body)
        self._seen = len(appended)

    def _credit(self, body: CommissionAccrued) -> None:
        place = self._sold.get(body.order_id)
        if place is None:
            return
        sales = self._sales[place]
        for number, sale in enumerate(sales):
            if sale.order_id == body.order_id and not sale.affiliate_id:
                sales[number] = FirstSale(sale.order_id, sale.occurred_at, body.affiliate_id)

    def store(self) -> None:
        """Write what the batch counted."""
        counted = {key: self._counters[key].less(before) for key, before in self._before.items()}
        counters.store(self._cur, self._program_id, counted)
        self._before = {}
