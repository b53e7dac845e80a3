"""Clicks as attribution finds them: by their id, or as a customer's last one. Written with the traffic log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.domain.click import ClickRecorded, ClickSeen
from ledger.store import codec
from ledger.store.log import ONE_PROBE_EACH, Rows, uuid_array

CustomerKey = tuple[str, str, datetime]  # (customer_id, offer_id, not after)

_CLICK_COLUMNS = "e.position, e.topic, e.state, e.leaf_hash"


def _seen(position: int, topic: str, state: str, leaf: bytes) -> ClickSeen:
    click = codec.decode_state(topic, state)
    assert isinstance(click, ClickRecorded)
    return ClickSeen(click.click_id, click.affiliate_id, click.offer_id, click.occurred_at, position, leaf.hex())


def clicks(cur: Rows, program_id: UUID, ids: Sequence[UUID]) -> list[ClickSeen]:
    """The recorded clicks among some stream ids."""
    cur.execute(
        f"SELECT {_CLICK_COLUMNS} FROM unnest(%s::uuid[]) AS wanted (id) CROSS JOIN LATERAL ("  # noqa: S608
        " SELECT position, topic, state, leaf_hash FROM traffic_events"
        f" WHERE program_id = %s AND originator_id = wanted.id {ONE_PROBE_EACH}) e",
        (uuid_array(ids), program_id),
    )
    return [_seen(*row) for row in cur]


def last_clicks(cur: Rows, program_id: UUID, keys: Sequence[CustomerKey]) -> dict[CustomerKey, ClickSeen | None]:
    """Each customer's last click on an offer at or before an instant: one index probe each, in one statement."""
    found: dict[CustomerKey, ClickSeen | None] = dict.fromkeys(keys)
    cur.execute(
        f"SELECT q.n, {_CLICK_COLUMNS}"  # noqa: S608
        " FROM unnest(%(customers)s::text[], %(offers)s::text[], %(untils)s::timestamptz[])"
        "      WITH ORDINALITY AS q (customer_id, offer_id, until, n)"
        " CROSS JOIN LATERAL (SELECT originator_id FROM touches t WHERE t.program_id = %(p)s"
        "       AND t.customer_id = q.customer_id AND t.occurred_at <= q.until AND t.offer_id = q.offer_id"
        "       ORDER BY t.occurred_at DESC, t.position DESC LIMIT 1) last"
        " JOIN traffic_events e ON e.program_id = %(p)s AND e.originator_id = last.originator_id",
        {
            "customers": [key[0] for key in keys],
            "offers": [key[1] for key in keys],
            "untils": [key[2] for key in keys],
            "p": program_id,
        },
    )
    for number, *row in cur:
        found[keys[number - 1]] = _seen(*row)
    return found


def store(cur: Rows, program_id: UUID, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write (program_id, customer_id, occurred_at, position, originator_id, offer_id) of clicks with a customer."""
    if not rows:
        return
    columns = "program_id, customer_id, occurred_at, position, originator_id, offer_id"
    with cur.copy(f"COPY touches ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(("uuid", "text", "timestamptz", "int8", "uuid", "text"))
        for row in rows:
            copy.write_row(row)
