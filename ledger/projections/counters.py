"""Counters of tiers, caps and goals, as they are stored; and the conversions that one of them counted."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import asdict

from ledger.domain.plans.counting import Counted, Counter, CounterKey
from ledger.store.log import Rows

FIGURES = Counter.__struct_fields__
_COLUMNS = ", ".join(("program_id", *CounterKey._fields, *FIGURES))
_TYPES = ", ".join((*(f"{name} text" for name in CounterKey._fields), *(f"{name} bigint" for name in FIGURES)))
_ADDED = ", ".join(f"{name} = plan_counters.{name} + EXCLUDED.{name}" for name in FIGURES)
_STORE = (
    f"INSERT INTO plan_counters ({_COLUMNS})"  # noqa: S608
    f" SELECT %s, {', '.join((*CounterKey._fields, *FIGURES))} FROM json_to_recordset(%s::json) AS r ({_TYPES})"
    f" ON CONFLICT (program_id, offer_id, affiliate_id, period, currency) DO UPDATE SET {_ADDED}"
)


def load(cur: Rows, program_id: UUID, keys: Collection[CounterKey]) -> Counted:
    """Some counters; those that count nothing yet are all zero."""
    found: Counted = {key: Counter() for key in keys}
    wanted = [key._asdict() for key in keys]
    cur.execute(
        f"SELECT c.offer_id, c.affiliate_id, c.period, c.currency, {', '.join(f'c.{name}' for name in FIGURES)}"  # noqa: S608
        " FROM jsonb_to_recordset(%s::jsonb) AS w (offer_id text, affiliate_id text, period text, currency text)"
        " CROSS JOIN LATERAL (SELECT * FROM plan_counters p WHERE p.program_id = %s AND p.offer_id = w.offer_id"
        "   AND p.affiliate_id = w.affiliate_id AND p.period = w.period AND p.currency = w.currency LIMIT 1) c",
        (msgspec.json.encode(wanted).decode(), program_id),
    )
    for offer_id, affiliate_id, period, currency, *figures in cur:
        found[CounterKey(offer_id, affiliate_id, period, currency)] = Counter(*figures)
    return found


def of_affiliates(cur: Rows, program_id: UUID, offer_id: str, periods: Collection[str]) -> Counted:
    """What some periods of an offer count of each affiliate that has begun."""
    cur.execute(
        f"SELECT offer_id, affiliate_id, period, currency, {', '.join(FIGURES)} FROM plan_counters"  # noqa: S608
        " WHERE program_id = %s AND offer_id = %s AND affiliate_id <> '' AND period = ANY(%s)",
        (program_id, offer_id, list(periods)),
    )
    return {CounterKey(*row[:4]): Counter(*row[4:]) for row in cur}


def store(cur: Rows, program_id: UUID, counted: Counted) -> None:
    """Add what some events counted. One parameter for all of it: a value each costs more than all the rest."""
    if not counted:
        return
    rows = [{**key._asdict(), **asdict(change)} for key, change in counted.items()]
    cur.execute(_STORE, (program_id, msgspec.json.encode(rows).decode()))


def counted_orders(cur: Rows, program_id: UUID, key: CounterKey, within: tuple[datetime, datetime] | None) -> list[str]:
    """The orders that a counter may have counted, oldest first: those of its offer, affiliate and period."""
    since, until = within or (None, None)
    cur.execute(
        "SELECT DISTINCT order_id, occurred_at FROM conversions WHERE program_id = %(p)s AND offer_id = %(offer_id)s"
        " AND (%(affiliate_id)s = '' OR affiliate_id = %(affiliate_id)s)"
        " AND occurred_at >= coalesce(%(since)s, '-infinity'::timestamptz)"
        " AND occurred_at < coalesce(%(until)s, 'infinity'::timestamptz) ORDER BY occurred_at, order_id",
        {
            "p": program_id,
            "offer_id": key.offer_id,
            "affiliate_id": key.affiliate_id,
            "since": since,
            "until": until,
        },
    )
    return [order_id for order_id, _ in cur]
