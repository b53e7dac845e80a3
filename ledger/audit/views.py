"""What a replay believes, as a view: balances, what is owed, and how many records of each kind stood where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from ledger.audit.replay import OPEN_STATUSES, Event, Record, Replay, Until, is_behind, whole


class AccountBalance(Struct):
    """amount: debits less credits, minor units. affiliate_id '': the program's own account."""

    account: str
    currency: str
    affiliate_id: str
    amount: int


class Owed(Struct):
    """What an affiliate was owed and had been paid in a currency: minor units, above zero."""

    affiliate_id: str
    currency: str
    pending: int = 0
    held: int = 0
    payable: int = 0
    in_transit: int = 0
    paid: int = 0


class Conversions(Struct):
    """Orders of one status and currency; amounts in minor units. Each commission stands under its own status and
    currency, with its part of the sale; an order of several is counted with the first (of one affiliate: each of its
    commissions is counted)."""

    status: str
    currency: str
    count: int = 0
    amount: int = 0
    commission: int = 0
    reversed_amount: int = 0
    reversed_commission: int = 0


class Payouts(Struct):
    """Payouts of one status and currency. amount: what is transferred, minor units."""

    status: str
    currency: str
    count: int = 0
    amount: int = 0


class Counted(Struct):
    """How many records of a kind had a status."""

    kind: str
    status: str
    count: int


class Period(Struct):
    """A closed period. cut_position: that of the cut of this version."""

    period: str
    version: int
    status: str
    cut_position: int


class Open(Struct):
    """An exception, break or dispute that was not decided. since: the position that opened it."""

    kind: str
    record_id: str
    type: str
    affiliate_id: str
    since: int


class View(Struct, kw_only=True):
    """What was believed after a position. recorded_at: of that position's event, None for an empty log.
    sums: of all accounts by currency, zero in each (of an affiliate alone: what it is owed and was paid, below zero).
    """

    position: int
    recorded_at: datetime | None
    affiliate_id: str
    accounts: list[AccountBalance]
    sums: dict[str, int]
    owed: list[Owed]
    conversions: list[Conversions]
    payouts: list[Payouts]
    records: list[Counted]
    periods: list[Period]
    open: list[Open]


def owner_of(account: str) -> str:
    """The affiliate that an account is about, '' for the program's own: liability:<affiliate>:<bucket>, or
    asset:bank:<affiliate>."""
    parts = account.split(":")
    if parts[0] == "liability":
        return parts[1]
    return parts[2] if len(parts) == 3 else ""


def view(replayed: Replay, affiliate_id: str = "") -> View:
    """What the events so far say; of one affiliate, if named."""
    accounts = [
        AccountBalance(account, currency, owner_of(account), amount)
        for (account, currency), amount in replayed.books.balances().items()
        if not affiliate_id or owner_of(account) == affiliate_id
    ]
    sums: dict[str, int] = dict.fromkeys((one.currency for one in accounts), 0)
    for one in accounts:
        sums[one.currency] += one.amount
    records = replayed.records
    return View(
        position=replayed.position,
        recorded_at=replayed.recorded_at,
        affiliate_id=affiliate_id,
        accounts=accounts,
        sums=sums,
        owed=_owed(accounts),
        conversions=_conversions(records, affiliate_id),
        payouts=_payouts(_of(records["payout"], affiliate_id)),
        records=_counted(records, affiliate_id),
        periods=[Period(id_, int(r.type), r.status, r.since) for id_, r in records["period"].items()],
        open=[
            Open(kind, id_, r.type, r.affiliate_id, r.since)
            for kind, statuses in OPEN_STATUSES.items()
            for id_, r in records[kind].items()
            if r.status in statuses and affiliate_id in ("", r.affiliate_id)
        ],
    )


def _of(records: dict[str, Record], affiliate_id: str) -> Iterable[Record]:
    return (one for one in records.values() if affiliate_id in ("", one.affiliate_id))


def _owed(accounts: Iterable[AccountBalance]) -> list[Owed]:
    found: dict[tuple[str, str], Owed] = {}
    for one in accounts:
        if one.affiliate_id:
            owed = found.setdefault((one.affiliate_id, one.currency), Owed(one.affiliate_id, one.currency))
            setattr(owed, "paid" if one.account.startswith("asset:") else one.account.rpartition(":")[2], -one.amount)
    return [found[place] for place in sorted(found)]


def _conversions(records: dict[str, dict[str, Record]], affiliate_id: str) -> list[Conversions]:
    found: dict[tuple[str, str], Conversions] = {}

    def sums_of(status: str, currency: str) -> Conversions:
        return found.setdefault((status, currency), Conversions(status, currency))

    for kind in ("conversion", "commission"):
        for one in _of(records[kind], affiliate_id):
            sums = sums_of(one.status, one.currency)
            sums.count += kind == "conversion" or bool(affiliate_id)
            sums.amount += one.amount
            sums.reversed_amount += one.reversed_amount
            if one.commission_currency not in ("", one.currency):
                sums = sums_of(one.status, one.commission_currency)
            sums.commission += one.commission
            sums.reversed_commission += one.reversed_commission
    return [found[place] for place in sorted(found)]


def _payouts(records: Iterable[Record]) -> list[Payouts]:
    found: dict[tuple[str, str], Payouts] = {}
    for one in records:
        sums = found.setdefault((one.status, one.currency), Payouts(one.status, one.currency))
        sums.count += 1
        sums.amount += one.amount
    return [found[place] for place in sorted(found)]


def _counted(records: dict[str, dict[str, Record]], affiliate_id: str) -> list[Counted]:
    """Everything but orders and payouts, which have sums of their own; an affiliate alone has no offers and runs, and
    its commissions are counted with the orders."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for kind, of_kind in records.items():
        for id_, one in of_kind.items():
            mine = id_ == affiliate_id if kind == "affiliate" else one.affiliate_id == affiliate_id
            counted = kind not in ("conversion", "payout", "period") and (mine or not affiliate_id)
            if counted and not (affiliate_id and kind == "commission"):
                found[kind, one.status] += 1
    return [Counted(kind, status, count) for (kind, status), count in sorted(found.items())]


def believed(events: Iterable[Event], until: Until = None, affiliate_id: str = "") -> View:
    """What was believed after a position, or at an instant; at the end where the log ends before. Raises NotWhole."""
    replayed = Replay()
    for event in whole(events):
        if is_behind(event, until):
            break
        replayed.take(event)
    return view(replayed, affiliate_id)
