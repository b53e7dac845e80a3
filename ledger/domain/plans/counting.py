"""Counters: what tiers, caps and goals are decided by. An offer's conversions by affiliate (or of all), period and
currency; changed by events alone, so that they can be counted again from the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

from ledger.domain.conversion import (
    CommissionAccrued,
    CommissionRepriced,
    ConversionRecorded,
    ConversionRejected,
    ConversionReversed,
)
from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.event import Event
from ledger.domain.money import round_half_up


class CounterKey(NamedTuple):
    """affiliate_id '': of all of them. period: '2026-11-22', '2026-W47', '2026-11', '2026-Q4', '2026' or 'total'."""

    offer_id: str
    affiliate_id: str
    period: str
    currency: str


class Counter(Struct):
    """What is counted, and what was taken back of it. revenue and commission: minor units of the counter's currency;
    paid_conversions and paid_clicks: those that earned something, which is what caps limit."""

    conversions: int = 0
    revenue: int = 0
    commission: int = 0
    paid_conversions: int = 0
    paid_clicks: int = 0
    reversed_conversions: int = 0
    reversed_revenue: int = 0
    reversed_commission: int = 0
    reversed_paid_conversions: int = 0

    def add(self, other: Counter) -> None:
        """Count on."""
        self.conversions += other.conversions
        self.revenue += other.revenue
        self.commission += other.commission
        self.paid_conversions += other.paid_conversions
        self.paid_clicks += other.paid_clicks
        self.reversed_conversions += other.reversed_conversions
        self.reversed_revenue += other.reversed_revenue
        self.reversed_commission += other.reversed_commission
        self.reversed_paid_conversions += other.reversed_paid_conversions

    def less(self, before: Counter) -> Counter:
        """What was added since it stood at `before`."""
        return Counter(*(getattr(self, name) - getattr(before, name) for name in self.__struct_fields__))

    def standing(self, by: str) -> int:
        """What tiers and goals look at: less what was taken back."""
        if by == "conversions":
            return self.conversions - self.reversed_conversions
        if by == "revenue":
            return self.revenue - self.reversed_revenue
        return self.commission - self.reversed_commission

    def used(self, by: str, reversals_free_room: bool) -> int:
        """What caps look at."""
        if by == "clicks":
            return self.paid_clicks
        if by == "conversions":
            return self.paid_conversions - (self.reversed_paid_conversions if reversals_free_room else 0)
        return self.commission - (self.reversed_commission if reversals_free_room else 0)


Counted = dict[CounterKey, Counter]


# --- periods -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local(at: datetime, zone: str) -> datetime:
    """An instant on the clock of a zone."""
    return at if zone == "UTC" and at.tzinfo is UTC else at.astimezone(_zone(zone))


def period_of(kind: str, at: datetime) -> str:
    """The name of the day, week, month, quarter or year in which a local instant lies; 'total' for all time."""
    return "total" if kind == "total" else _named(kind, at.date())


@lru_cache(maxsize=4096)
def _named(kind: str, day: date) -> str:
    match kind:
        case "day":
            return day.isoformat()
        case "week":
            year, week, _ = day.isocalendar()
            return f"{year:04}-W{week:02}"
        case "month":
            return f"{day.year:04}-{day.month:02}"
        case "quarter":
            return f"{day.year:04}-Q{(day.month + 2) // 3}"
    return f"{day.year:04}"


def kind_of(period: str) -> str:
    """What kind of period a name is of."""
    if period == "total":
        return "total"
    if "W" in period:
        return "week"
    if "Q" in period:
        return "quarter"
    return {4: "year", 7: "month", 10: "day"}[len(period)]


def span(period: str, zone: str) -> tuple[datetime, datetime] | None:
    """From when until before when a period lasts (UTC); None for all time."""
    if period == "total":
        return None
    tz = _zone(zone)
    year = int(period[:4])
    if "W" in period:
        start = datetime.fromisocalendar(year, int(period[6:]), 1)
        end = start + timedelta(days=7)
    elif len(period) == 10:
        start = datetime.fromisoformat(period)
        end = start + timedelta(days=1)
    else:
        months = {4: 12, 7: 1}[len(period)] if "Q" not in period else 3
        first = 1 if len(period) == 4 else (int(period[6:]) * 3 - 2 if "Q" in period else int(period[5:]))
        start = datetime(year, first, 1)  # noqa: DTZ001 - a wall clock's, given its zone below
        after = year * 12 + first - 1 + months
        end = datetime(after // 12, after % 12 + 1, 1)  # noqa: DTZ001
    return start.replace(tzinfo=tz).astimezone(UTC), end.replace(tzinfo=tz).astimezone(UTC)


def add_months(at: datetime, months: int) -> datetime:
    """The same day and hour months later; in a shorter month its last day; at most the calendar's end."""
    number = at.year * 12 + at.month - 1 + months
    year, month = number // 12, number % 12 + 1
    if year > 9999:
        return datetime.max.replace(tzinfo=at.tzinfo)
    for day in range(at.day, 27, -1):
        try:
            return at.replace(year=year, month=month, day=day)
        except ValueError:
            continue
    return at.replace(year=year, month=month)


# --- what an event counts ----------------------------------------------------------------------------------


def keys_of(accrued: CommissionAccrued) -> Iterator[CounterKey]:
    """The counters that a commission counts in."""
    if accrued.pricing is None:
        return
    for label in accrued.pricing.counted:
        level, _, period = label.partition("/")
        whose = "" if level == "offer" else accrued.affiliate_id
        yield CounterKey(accrued.offer_id, whose, period, accrued.currency)


def changes(state: ConversionState, event: Event) -> Iterator[tuple[CounterKey, Counter]]:
    """What an event adds to counters. state: the conversion's, with this event as its last."""
    if not isinstance(event, CommissionAccrued | CommissionRepriced | ConversionReversed | ConversionRejected):
        return
    one = state.commissions.get((event.affiliate_id, event.level))
    if one is None or one.accrued is None or one.accrued.pricing is None or not one.accrued.pricing.counted:
        return
    match event:
        case CommissionAccrued():
            yield from _accrued(state, one, event)
        case CommissionRepriced():
            change = Counter(commission=event.amount)
            yield from ((key, change) for key in keys_of(one.accrued))
        case _:
            yield from _taken_back(state, one, one.accrued, event)


def _accrued(state: ConversionState, one: Commission, event: CommissionAccrued) -> Iterator[tuple[CounterKey, Counter]]:
    if len(state.commissions) == 1:
        # by far the most: it counts alike in all of them
        change = _first_of(event, event.level == 1, event.amount > 0)
        yield from ((key, change) for key in keys_of(event))
        return
    for key in keys_of(event):
        before = _others(state, one, key)
        first = event.level == 1 and not before
        yield key, _first_of(event, first, event.amount > 0 and not any(_pays(other) for other in before))


def _first_of(event: CommissionAccrued, first: bool, first_paid: bool) -> Counter:
    """What a commission adds to a counter. first, first_paid: whether none of its conversion was before (that pays)."""
    assert event.pricing is not None
    first_paid = first_paid and event.level == 1
    return Counter(
        conversions=int(first),
        revenue=event.pricing.value if event.level == 1 else 0,
        commission=event.amount,
        paid_conversions=int(first_paid),
        paid_clicks=event.pricing.paid_clicks if first_paid else 0,
    )


def _others(state: ConversionState, one: Commission, key: CounterKey) -> list[Commission]:
    """Who else counts a conversion in a counter: to the offer it is one, however many are credited with it."""
    if key.affiliate_id or len(state.commissions) == 1:
        return []
    return [
        other
        for other in state.commissions.values()
        if other is not one and other.level == 1 and other.accrued is not None and key in set(keys_of(other.accrued))
    ]


def _pays(one: Commission) -> bool:
    return one.accrued is not None and one.accrued.amount > 0


def _taken_back(
    state: ConversionState, one: Commission, accrued: CommissionAccrued, event: Event
) -> Iterator[tuple[CounterKey, Counter]]:
    assert isinstance(event, ConversionReversed | ConversionRejected)
    assert accrued.pricing is not None
    sale = state.recorded
    if sale is None or (isinstance(event, ConversionReversed) and event.bucket == "none"):
        return
    value, after = accrued.pricing.value, state.reversed_amount
    if isinstance(event, ConversionRejected):
        revenue, whole = value - _part(value, after, sale), True
    else:
        revenue = _part(value, after, sale) - _part(value, after - event.sale_amount, sale)
        # of an order of nothing, whatever is reversed is all of it
        whole = after == sale.amount
    counts = whole and one.level == 1
    for key in keys_of(accrued):
        left = [other for other in _others(state, one, key) if other.bucket != "none"]
        last = not left
        last_paid = _pays(one) and not any(_pays(other) for other in left)
        yield (
            key,
            Counter(
                reversed_conversions=int(counts and last),
                reversed_revenue=revenue if one.level == 1 else 0,
                reversed_commission=event.amount,
                reversed_paid_conversions=int(counts and last_paid),
            ),
        )


def _part(value: int, reversed_amount: int, sale: ConversionRecorded) -> int:
    if reversed_amount == sale.amount:
        return value
    return round_half_up(value * reversed_amount, sale.amount)


def add_up(counted: Counted, some: Iterable[tuple[CounterKey, Counter]]) -> None:
    """Sum changes by counter."""
    for key, change in some:
        found = counted.get(key)
        if found is None:
            found = counted[key] = Counter()
        found.add(change)
