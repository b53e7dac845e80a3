"""What the simulated engine knows besides orders: counters, customers' first sales, and what each counter counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from datetime import datetime

import msgspec
from msgspec import Struct

from ledger.domain.conversion import CommissionAccrued, ConversionRecorded
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counter, CounterKey
from ledger.domain.plans.plan import ReadPlan
from ledger.domain.view import FirstSale
from ledger.simulating.scratch import Spill

COUNTERS_KEPT = 20_000
CUSTOMERS_KEPT = 20_000
_KEPT_OF_ONE = 2  # the first sale, and the next one for when the first is the one that asks
_ROWS_AT_ONCE = 2_000

_encode = msgspec.msgpack.Encoder().encode


class _Figures(Struct, array_like=True, gc=False):
    of: tuple[int, int, int, int, int, int, int, int, int]


class _Sale(Struct, array_like=True, gc=False, order=True):
    occurred_at: datetime
    position: int
    order_id: str
    affiliate_id: str


class _Customer(Struct, array_like=True, gc=False):
    """The first sales known, and the first that anybody is credited with."""

    first: list[_Sale]
    credited: list[_Sale]


_decode_figures = msgspec.msgpack.Decoder(_Figures).decode
_decode_customer = msgspec.msgpack.Decoder(_Customer).decode


def _encode_counter(counter: Counter) -> bytes:
    return _encode(_Figures(msgspec.structs.astuple(counter)))


def _decode_counter(raw: bytes) -> Counter:
    return Counter(*_decode_figures(raw).of)


class Counters:
    """Counters of tiers, caps and goals."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._spill: Spill[Counter] = Spill(db, "counters", _encode_counter, _decode_counter, COUNTERS_KEPT)
        self.trim = self._spill.trim

    @property
    def spilled(self) -> bool:
        """Whether any were put away."""
        return self._spill.stored

    def get(self, key: CounterKey) -> Counter:
        """As it stands."""
        return self._spill.get("\n".join(key)) or Counter()

    def prefetch(self, keys: Collection[CounterKey]) -> None:
        """Read some of them."""
        self._spill.prefetch(["\n".join(key) for key in keys])

    def count(self, changes: Iterator[tuple[CounterKey, Counter]]) -> None:
        """Add what an event counts."""
        for key, change in changes:
            name = "\n".join(key)
            found = self._spill.get(name)
            if found is None:
                found = Counter()
                self._spill.put(name, found)
            found.add(change)
            self._spill.dirty(name)


class Customers:
    """Customers' first sales on the offer that is tried."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._spill: Spill[_Customer] = Spill(db, "customers", _encode, _decode_customer, CUSTOMERS_KEPT)
        self.trim, self.prefetch = self._spill.trim, self._spill.prefetch

    def sold(self, sale: ConversionRecorded, position: int) -> None:
        """A sale was recorded."""
        if sale.customer_id is None or sale.amount <= 0:
            return
        known = self._spill.get(sale.customer_id)
        if known is None:
            known = _Customer([], [])
            self._spill.put(sale.customer_id, known)
        if _keep(known.first, _Sale(sale.occurred_at, position, sale.order_id, "")):
            self._spill.dirty(sale.customer_id)

    def credited(self, sale: ConversionRecorded, position: int, affiliate_id: str) -> None:
        """A sale was credited to somebody, first of all to this affiliate."""
        known = self._spill.get(sale.customer_id) if sale.customer_id is not None and sale.amount > 0 else None
        if known is None or any(one.order_id == sale.order_id for one in known.credited):
            return
        if _keep(known.credited, _Sale(sale.occurred_at, position, sale.order_id, affiliate_id)):
            self._spill.dirty(sale.customer_id or "")

    def first(self, customer_id: str, until: datetime, but: str, credited: bool) -> FirstSale | None:
        """See View.first_sale and View.referrer."""
        known = self._spill.get(customer_id)
        if known is None:
            return None
        for one in known.credited if credited else known.first:
            if one.order_id != but and one.occurred_at <= until:
                return FirstSale(one.order_id, one.occurred_at, one.affiliate_id)
        return None


def _keep(sales: list[_Sale], one: _Sale) -> bool:
    """Whether it is among the first ones."""
    if len(sales) == _KEPT_OF_ONE and sales[-1] <= one:
        return False
    sales.append(one)
    sales.sort()
    del sales[_KEPT_OF_ONE:]
    return True


class Counted:
    """Which orders each counter of a retroactive tier counted."""

    def __init__(self, db: sqlite3.Connection, plans: Collection[ReadPlan]) -> None:
        self._db = db
        self._kinds = {(one.level, one.period) for plan in plans for one in plan.tiers if one.retroactive}
        self._rows: list[tuple[str, str, str]] = []
        db.execute("CREATE TABLE counted (counter TEXT NOT NULL, occurred_at TEXT NOT NULL, order_id TEXT NOT NULL)")
        db.execute("CREATE INDEX counted_by ON counted (counter, occurred_at, order_id)")

    def accrued(self, event: CommissionAccrued) -> None:
        """A commission counts in some counters."""
        if not self._kinds or event.pricing is None:
            return
        for key in counting.keys_of(event):
            if ("affiliate" if key.affiliate_id else "offer", counting.kind_of(key.period)) in self._kinds:
                self._rows.append(("\n".join(key), event.occurred_at.isoformat(), event.order_id))
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._store()

    def _store(self) -> None:
        self._db.executemany("INSERT INTO counted VALUES (?, ?, ?)", self._rows)
        self._rows.clear()

    def orders(self, key: CounterKey) -> list[str]:
        """Those that a counter counted, oldest first."""
        self._store()
        found = self._db.execute(
            "SELECT DISTINCT order_id, occurred_at FROM counted WHERE counter = ? ORDER BY occurred_at, order_id",
            ("\n".join(key),),
        )
        return [order_id for order_id, _ in found]
