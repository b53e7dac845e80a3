"""What each channel and affiliate brought, and what it cost: touches, conversions, revenue, commissions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from ledger import sql
from ledger.domain import money
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
    """The affiliates' lines by channel and currency, each channel's sum behind them; the highest revenue first."""
    fractions = _fractions(totals)
    by_channel = _by_channel(totals)
    leads = _leads(totals.by)
    channel_leads = _leads(by_channel)
    places_of: dict[Place, list[Place]] = defaultdict(list)
    for place in totals.by:
        places_of[Place(place.channel, "", place.currency)].append(place)
    touched_by: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (channel, _), counts in touched.items():
        touched_by[channel].append(counts)
    found: list[dict[str, Any]] = []
    for whole in sorted(by_channel, key=lambda place: (place.currency, -by_channel[place].revenue, place.channel)):
        for place in sorted(places_of[whole], key=lambda one: (-totals.by[one].revenue, one.affiliate_id)):
            own = touched.get((place.channel, place.affiliate_id), (0, 0))
            touches = _Touches(*own, leads[place]) if place in leads else None
            found.append(_line(place, False, totals, touches, totals.by[place], fractions[place]))
        clicks, shown = (sum(counts[n] for counts in touched_by[whole.channel]) for n in (0, 1))
        touches = _Touches(clicks, shown, channel_leads[whole]) if whole in channel_leads else None
        fraction = sum(fractions[place] for place in places_of[whole])
        found.append(_line(whole, True, totals, touches, by_channel[whole], fraction))
    return found


def _by_channel(totals: Totals) -> dict[Place, Sums]:
    """Each channel's sums by currency, at a place of nobody."""
    found: dict[Place, Sums] = {}
    for place, sums in totals.by.items():
        conversions = totals.channel_conversions.get((place.channel, place.currency), 0)
        whole = Place(place.channel, "", place.currency)
        found.setdefault(whole, Sums(conversions=conversions)).add(sums)
    return found


class _Touches(NamedTuple):
    """What stands on one line only: of somebody who sells in several currencies clicks and impressions are of none.
    conversions: of all currencies, which the clicks led to."""

    clicks: int
    impressions: int
    conversions: int


def _leads(sums_at: Mapping[Place, Sums]) -> dict[Place, int]:
    """For each channel and affiliate the line with the most conversions (of equals, the most revenue, then the first
    currency), with the conversions of all its lines."""
    found: dict[Place, int] = {}
    order = sorted(sums_at, key=lambda one: (one.channel, one.affiliate_id))
    for _, some in groupby(order, key=lambda one: (one.channel, one.affiliate_id)):
        lines = sorted(some, key=lambda one: (-sums_at[one].conversions, -sums_at[one].revenue, one.currency))
        found[lines[0]] = sum(sums_at[one].conversions for one in lines)
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
    place: Place, total: bool, totals: Totals, touches: _Touches | None, sums: Sums, fraction: int
) -> dict[str, Any]:
    return {
        "channel": place.channel,
        "affiliate_id": place.affiliate_id,
        "total": total,
        "currency": place.currency,
        "clicks": touches.clicks if touches else None,
        "impressions": touches.impressions if touches else None,
        "conversions": sums.conversions,
        "credited_conversions": decimal(fraction, 10_000, 4),
        "revenue": sums.revenue,
        "credited_share": decimal(sums.revenue, totals.all_revenue.get(place.currency, 0), 4),
        "cost": sums.cost,
        "roi": "" if sums.mixed else decimal(sums.revenue - sums.cost, sums.cost, 2),
        "conversion_rate": decimal(touches.conversions, touches.clicks, 4) if touches else "",
    }


def decimal(numerator: int, denominator: int, places: int) -> str:
    """A quotient as decimal text, halves rounded away from zero; '' for a denominator of 0."""
    if not denominator:
        return ""
    scaled = (2 * abs(numerator) * 10**places + denominator) // (2 * denominator)
    sign = "-" if numerator < 0 and scaled else ""
    return f"{sign}{scaled // 10**places}.{scaled % 10**places:0{places}}"


def _in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """A line for people: major units and percentages."""

    def amount(name: str) -> str:
        return f"{Decimal(money.major_units(row[name], row['currency'])):,}"

    def count(name: str) -> str:
        return "" if row[name] is None else f"{row[name]:,}"

    def percent(name: str, places: int) -> str:
        return f"{Decimal(row[name]) * 100:,.{places}f} %" if row[name] else ""

    return {
        "channel": row["channel"] or "(none)",
        "affiliate": "(all)" if row["total"] else row["affiliate_id"],
        "currency": row["currency"],
        "revenue": amount("revenue"),
        "share of sales": percent("credited_share", 2),
        "cost": amount("cost"),
        "return on cost": percent("roi", 0),
        "conversions": count("conversions"),
        "credited parts": f"{Decimal(row['credited_conversions']):,}" if row["credited_conversions"] else "",
        "clicks": count("clicks"),
        "impressions": count("impressions"),
        "conversion rate": percent("conversion_rate", 2),
    }


REPORT = Report(
    name="channels",
    rule=(
        "Touches, orders and commissions by what occurred in the time (from, and before until), as the books have"
        " them now. Touches are clicks and impressions without duplicates. Whoever sells in several currencies has a"
        " line for each; clicks, impressions and conversion_rate stand on the one with the most conversions (of equals,"
        " the most revenue). conversion_rate is the conversions of all these lines / clicks. An order counts once for"
        " each channel and affiliate that is credited with it, and by its parts in credited_conversions, which sum to"
        " the orders. A part's channel is that of the journey's touches, by their weights; else the conversion's; else"
        " its click's. revenue is what is credited of sales less what was reversed, credited_share its part of all"
        " sales in the currency. What was reversed of a sale that several share is split by their parts of it, and an"
        " affiliate's part of what is left by the weights of its channels, each by largest remainder, so that the"
        " lines sum to the books to the last minor unit. cost is commissions less what was taken back, with recruiters'"
        " commissions, paid clicks and goals' bonuses, which are no conversions. roi is (revenue - cost) / cost; empty"
        " where nothing was paid, or where sales were paid in another currency than their own. A channel's total stands"
        " behind its affiliates, the channels and affiliates with the highest revenue first. Amounts are minor units in"
        " JSON and CSV."
    ),
    takes=("period", "from", "until", "offer"),
    columns=(
        "channel", "affiliate_id", "total", "currency", "clicks", "impressions", "conversions", "credited_conversions",
        "revenue", "credited_share", "cost", "roi", "conversion_rate",
    ),
    make=_make,
    in_words=_in_words,
    money_totals=("revenue", "all_revenue", "cost"),
)  # fmt: skip
