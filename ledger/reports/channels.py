"""What each channel and affiliate brought, and what it cost: touches, conversions, revenue, commissions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from ledger import sql
from ledger.domain.conversion import RESERVED_PREFIX, ConversionAttributed, WeighedTouch
from ledger.domain.money import allocate
from ledger.projections import programs
from ledger.reports.report import Made, Report, Scope

QUERIES = sql.load("ledger.reports", "channels.sql")
ORDERS_AT_ONCE = 2_000
WHOLE = 10**12  # parts of an order: what it is shared into, so that sums of parts stay exact
_attributed = msgspec.json.Decoder(ConversionAttributed).decode


class Place(NamedTuple):
    """A line of the report. channel '': none."""

    channel: str
    affiliate_id: str
    currency: str


class Sums(Struct):
    """What a line adds up to. parts: of orders, each of WHOLE; revenue and cost: minor units; mixed: some of it was
    sold in another currency than it was paid in."""

    conversions: int = 0
    parts: int = 0
    revenue: int = 0
    cost: int = 0
    mixed: bool = False

    def add(self, other: Sums) -> None:
        """Sum up. An order that several affiliates of a channel share is no two of the channel's: see Totals."""
        self.parts += other.parts
        self.revenue += other.revenue
        self.cost += other.cost
        self.mixed |= other.mixed


class Row(NamedTuple):
    """A commission on an order, or the sale alone (affiliate_id ''). revenue, cost: what is left of both; channel: the
    conversion's, else its click's; attributed: of the first row, the event as JSON."""

    originator_id: UUID
    order_id: str
    affiliate_id: str
    level: int
    status: str
    currency: str
    revenue: int
    commission_currency: str
    cost: int
    channel: str | None
    attributed: str | None


class Totals:
    """Everything that was read, by place. channel_conversions: by channel and currency, each order once."""

    def __init__(self) -> None:
        self.by: dict[Place, Sums] = defaultdict(Sums)
        self.channel_conversions: dict[tuple[str, str], int] = defaultdict(int)
        self.credited: dict[str, int] = defaultdict(int)  # orders, by currency
        self.uncredited: dict[str, int] = defaultdict(int)
        self.all_revenue: dict[str, int] = defaultdict(int)

    def order(self, rows: Sequence[Row]) -> None:
        """Count one order."""
        first = rows[0]
        touches = _attributed(first.attributed).touches if first.attributed else []
        own, credited = first.currency, [row for row in rows if row.level == 1 and row.affiliate_id]
        self.all_revenue[own] += sum(row.revenue for row in rows)
        for row in rows:
            if row.affiliate_id:
                self._money(row, _channels(row, touches, first.channel))
        if first.order_id.startswith(RESERVED_PREFIX):
            return  # what clicks and goals earned costs, and is no conversion
        if not credited:
            self.uncredited[own] += 1
            return
        self.credited[own] += 1
        shared: dict[Place, int] = defaultdict(int)
        for channel, affiliate_id, part in _parts(credited, touches, first.channel):
            shared[Place(channel, affiliate_id, own)] += part
        for place, part in shared.items():
            self.by[place].conversions += 1
            self.by[place].parts += part
        for channel in {place.channel for place in shared}:
            self.channel_conversions[channel, own] += 1

    def _money(self, row: Row, channels: dict[str, int]) -> None:
        weights, mixed = list(channels.values()), row.currency != row.commission_currency
        # of a rejected commission nothing is owed, though nothing was reversed
        cost = 0 if row.status == "rejected" else row.cost
        shares = zip(channels, allocate(row.revenue, weights), allocate(cost, weights), strict=True)
        for channel, revenue, paid in shares:
            sold, spent = (
                self.by[Place(channel, row.affiliate_id, currency)]
                for currency in (row.currency, row.commission_currency)
            )
            sold.revenue += revenue
            spent.cost += paid
            sold.mixed |= mixed
            spent.mixed |= mixed


def _channels(row: Row, touches: Sequence[WeighedTouch], channel: str | None) -> dict[str, int]:
    """The channels that a commission is credited by, with their weights: of the affiliate's own touches; a recruiter's,
    of all touches; else the conversion's or its click's."""
    found: dict[str, int] = defaultdict(int)
    for one in touches:
        if one.weight and (row.level > 1 or one.touch.affiliate_id == row.affiliate_id):
            found[one.touch.channel or ""] += one.weight
    return found or {channel or "": 1}


def _parts(
    credited: Sequence[Row], touches: Sequence[WeighedTouch], channel: str | None
) -> Iterator[tuple[str, str, int]]:
    """(channel, affiliate id, part) of an order, all parts together WHOLE: by the weights of the touches; where others
    are credited than touches say (a simulation was applied), by what of the sale is credited to each."""
    counting = [one for one in touches if one.weight]
    if {one.touch.affiliate_id for one in counting} == {row.affiliate_id for row in credited}:
        for one, part in zip(counting, allocate(WHOLE, [one.weight for one in counting]), strict=True):
            yield one.touch.channel or "", one.touch.affiliate_id, part
        return
    amounts = [row.revenue for row in credited]
    shares = allocate(WHOLE, amounts if any(amounts) else [1] * len(credited))
    for row, share in zip(credited, shares, strict=True):
        channels = _channels(row, touches, channel)
        for name, part in zip(channels, allocate(share, list(channels.values())), strict=True):
            yield name, row.affiliate_id, part


# --- the report --------------------------------------------------------------------------------------------

Touched = dict[tuple[str, str], tuple[int, int]]  # (channel, affiliate id) → clicks, impressions


def _make(scope: Scope) -> Made:
    since, until = scope.span()
    params = {"program_id": scope.program_id, "since": since, "until": until, "offer": scope.asked.offer}
    scope.cur.execute(QUERIES["count_touches"], params)
    touched: Touched = {(channel, who): (clicks, shown) for channel, who, clicks, shown in scope.cur}
    totals = Totals()
    for rows in _orders(scope, params):
        totals.order(rows)
    _with_touches(totals, touched, programs.state(scope.cur, scope.program_id, scope.program).currency)
    clicks, shown = (sum(counts[n] for counts in touched.values()) for n in (0, 1))
    cost: dict[str, int] = defaultdict(int)
    revenue: dict[str, int] = defaultdict(int)
    for place, sums in totals.by.items():
        cost[place.currency] += sums.cost
        revenue[place.currency] += sums.revenue
    said = {"clicks": clicks, "impressions": shown, "conversions": totals.credited, "uncredited": totals.uncredited,
            "revenue": revenue, "all_revenue": totals.all_revenue, "cost": cost}  # fmt: skip
    control = {name: _in_order(one) if isinstance(one, dict) else one for name, one in said.items()}
    return Made(_rows(totals, touched), control, 0)


def _in_order(by_currency: dict[str, int]) -> dict[str, int]:
    return dict(sorted(by_currency.items()))


def _orders(scope: Scope, params: dict[str, Any]) -> Iterator[list[Row]]:
    """Every order's rows, read some orders at a time."""
    after: UUID | None = None
    while True:
        scope.cur.execute(QUERIES["select_orders"], params | {"after": after, "limit": ORDERS_AT_ONCE})
        found = [Row(*row) for row in scope.cur.fetchall()]
        if not found:
            return
        after = found[-1].originator_id
        for _, rows in groupby(found, key=lambda row: row.originator_id):
            yield list(rows)


def _with_touches(totals: Totals, touched: Touched, currency: str) -> None:
    """A line for whoever touched and sold nothing, in the program's currency."""
    there = {(place.channel, place.affiliate_id) for place in totals.by}
    for channel, affiliate_id in touched.keys() - there:
        totals.by[Place(channel, affiliate_id, currency)] = Sums()


def _rows(totals: Totals, touched: Touched) -> list[dict[str, Any]]:
    """The affiliates' lines by channel and currency, each channel's sum behind them."""
    fractions = _fractions(totals)
    found: list[dict[str, Any]] = []
    order = sorted(totals.by, key=lambda place: (place.channel, place.currency, place.affiliate_id))
    for (channel, currency), some in groupby(order, key=lambda place: (place.channel, place.currency)):
        places = list(some)
        whole = Sums(conversions=totals.channel_conversions.get((channel, currency), 0))
        for place in places:
            touches = touched.get((channel, place.affiliate_id), (0, 0))
            whole.add(totals.by[place])
            found.append(_line(place, False, totals, touches, totals.by[place], fractions[place]))
        of_channel = [counts for (name, _), counts in touched.items() if name == channel]
        touches = sum(clicks for clicks, _ in of_channel), sum(shown for _, shown in of_channel)
        fraction = sum(fractions[place] for place in places)
        found.append(_line(Place(channel, "", currency), True, totals, touches, whole, fraction))
    return found


def _fractions(totals: Totals) -> dict[Place, int]:
    """Orders in ten-thousandths, by place: of each currency they sum to its orders."""
    found: dict[Place, int] = {}
    for currency in {place.currency for place in totals.by}:
        places = sorted(place for place in totals.by if place.currency == currency)
        parts = [totals.by[place].parts for place in places]
        exact = allocate(totals.credited[currency] * 10_000, parts) if any(parts) else [0] * len(parts)
        found |= dict(zip(places, exact, strict=True))
    return found


def _line(
    place: Place, total: bool, totals: Totals, touches: tuple[int, int], sums: Sums, fraction: int
) -> dict[str, Any]:
    clicks, shown = touches
    return {
        "channel": place.channel,
        "affiliate_id": place.affiliate_id,
        "total": total,
        "currency": place.currency,
        "clicks": clicks,
        "impressions": shown,
        "conversions": sums.conversions,
        "credited_conversions": decimal(fraction, 10_000, 4),
        "revenue": sums.revenue,
        "credited_share": decimal(sums.revenue, totals.all_revenue.get(place.currency, 0), 4),
        "cost": sums.cost,
        "roi": "" if sums.mixed else decimal(sums.revenue - sums.cost, sums.cost, 2),
        "conversion_rate": decimal(sums.conversions, clicks, 4),
    }


def decimal(numerator: int, denominator: int, places: int) -> str:
    """A quotient as decimal text, halves rounded away from zero; '' for a denominator of 0."""
    if not denominator:
        return ""
    scaled = (2 * abs(numerator) * 10**places + denominator) // (2 * denominator)
    sign = "-" if numerator < 0 and scaled else ""
    return f"{sign}{scaled // 10**places}.{scaled % 10**places:0{places}}"


REPORT = Report(
    name="channels",
    rule=(
        "Touches, orders and commissions by what occurred in the time (from, and before until), as the books have"
        " them now. Touches are clicks and impressions without duplicates; those of a channel and affiliate stand on"
        " each of their currencies' lines. An order counts once for each channel and affiliate that is credited with"
        " it, and by its parts in credited_conversions, which sum to the orders. A part's channel is that of the"
        " journey's touches, by their weights; else the conversion's; else its click's. revenue is what is credited"
        " of sales less what was reversed, credited_share its part of all sales in the currency; cost is commissions"
        " less what was taken back, with recruiters' commissions, paid clicks and goals' bonuses, which are no"
        " conversions. roi is (revenue - cost) / cost; empty where nothing was paid, or where sales were paid in"
        " another currency than their own. conversion_rate is conversions / clicks. Amounts are minor units."
    ),
    takes=("period", "from", "until", "offer"),
    columns=(
        "channel", "affiliate_id", "total", "currency", "clicks", "impressions", "conversions", "credited_conversions",
        "revenue", "credited_share", "cost", "roi", "conversion_rate",
    ),
    make=_make,
)  # fmt: skip
