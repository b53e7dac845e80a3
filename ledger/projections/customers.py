"""Customers as plans ask for them: the first sale, and who was credited with the first one that anybody was."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ledger.domain.view import FirstSale
from ledger.store.log import Rows


class CustomerKey(NamedTuple):
    """A customer's sales on an offer up to an instant, without one order."""

    customer_id: str
    offer_id: str
    until: datetime
    but: str


Known = dict[CustomerKey, tuple[FirstSale | None, FirstSale | None]]


def load(cur: Rows, program_id: UUID, keys: Collection[CustomerKey]) -> Known:
    """(first sale, first sale that somebody was credited with) of each: two index probes each, in one statement."""
    found: Known = dict.fromkeys(keys, (None, None))
    ordered = list(keys)
    probe = (
        "SELECT order_id, occurred_at, affiliate_id FROM conversions s WHERE s.program_id = %(p)s"
        " AND s.customer_id = q.customer_id AND s.offer_id = q.offer_id AND s.share_no = 1"
        " AND s.occurred_at <= q.until AND s.order_id <> q.but AND s.amount > 0"
    )
    earliest = "ORDER BY s.occurred_at, s.recorded_position LIMIT 1"
    cur.execute(
        "SELECT q.n, f.order_id, f.occurred_at, f.affiliate_id, r.order_id, r.occurred_at, r.affiliate_id"  # noqa: S608
        " FROM unnest(%(customers)s::text[], %(offers)s::text[], %(untils)s::timestamptz[], %(but)s::text[])"
        "      WITH ORDINALITY AS q (customer_id, offer_id, until, but, n)"
        f" CROSS JOIN LATERAL ({probe} {earliest}) f"
        f" LEFT JOIN LATERAL ({probe} AND s.affiliate_id <> '' {earliest}) r ON true",
        {
            "customers": [key.customer_id for key in ordered],
            "offers": [key.offer_id for key in ordered],
            "untils": [key.until for key in ordered],
            "but": [key.but for key in ordered],
            "p": program_id,
        },
    )
    for number, *row in cur:
        first = FirstSale(*row[:3])
        found[ordered[number - 1]] = (first, FirstSale(*row[3:]) if row[3] is not None else None)
    return found
