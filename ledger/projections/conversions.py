"""One row a conversion: the work list of what is due, held or waiting. Written in the append's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger.domain.conversion import ConversionState
from ledger.store.log import Rows

COLUMNS = (
    "program_id, order_id, originator_id, status, affiliate_id, offer_id, currency, amount, commission,"
    " reversed_amount, reversed_commission, occurred_at, due_at, position"
)
# psycopg's COPY needs to know them, because it sends binary
_TYPES = (
    "uuid", "text", "uuid", "text", "text", "text", "text", "int8", "int8", "int8", "int8", "timestamptz",
    "timestamptz", "int8",
)  # fmt: skip
COPY_FROM_ROWS = 4

Touched = tuple[UUID, ConversionState, int, bool]  # (stream id, state, last position, new in this batch)


def _row(program_id: UUID, touched: Touched) -> tuple[Any, ...]:
    originator_id, state, position, _ = touched
    sale = state.recorded
    assert sale is not None
    return (
        program_id, sale.order_id, originator_id, state.status, state.affiliate_id, sale.offer_id, sale.currency,
        sale.amount, state.commission, state.reversed_amount, state.reversed_commission, sale.occurred_at,
        _due_at(state), position,
    )  # fmt: skip


def _due_at(state: ConversionState) -> datetime | None:
    if state.status == "pending" and state.accrued is not None:
        return state.accrued.matures_at
    return state.waits_until if state.status == "waiting" else None


def store(cur: Rows, program_id: UUID, touched: Sequence[Touched]) -> None:
    """Write the rows of the conversions that a batch touched."""
    new = [_row(program_id, t) for t in touched if t[3]]
    changed = [t for t in touched if not t[3]]
    if changed:
        _update(cur, program_id, changed)
    if len(new) >= COPY_FROM_ROWS:
        with cur.copy(f"COPY conversions ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for row in new:
                copy.write_row(row)
    elif new:
        values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(new))
        cur.execute(
            f"INSERT INTO conversions ({COLUMNS}) VALUES {values}",  # noqa: S608
            [value for row in new for value in row],
        )


def _update(cur: Rows, program_id: UUID, changed: Sequence[Touched]) -> None:
    """One statement and one parameter for all of them: JSON, because arrays cost a parameter's work a value."""
    rows = [
        {
            "originator_id": originator_id,
            "status": state.status,
            "affiliate_id": state.affiliate_id,
            "commission": state.commission,
            "reversed_amount": state.reversed_amount,
            "reversed_commission": state.reversed_commission,
            "due_at": _due_at(state),
            "position": position,
        }
        for originator_id, state, position, _ in changed
    ]
    cur.execute(
        "UPDATE conversions c SET status = v.status, affiliate_id = v.affiliate_id, commission = v.commission,"
        " reversed_amount = v.reversed_amount, reversed_commission = v.reversed_commission, due_at = v.due_at,"
        " position = v.position FROM jsonb_to_recordset(%s::jsonb) AS v (originator_id uuid, status text,"
        " affiliate_id text, commission bigint, reversed_amount bigint, reversed_commission bigint,"
        " due_at timestamptz, position bigint) WHERE c.program_id = %s AND c.originator_id = v.originator_id",
        (msgspec.json.encode(rows).decode(), program_id),
    )


def due(cur: Rows, program_id: UUID, status: str, at: datetime | None, limit: int) -> list[str]:
    """Order ids of pending conversions that have matured, or of waiting ones (at None: all of them)."""
    cur.execute(
        "SELECT order_id FROM conversions WHERE program_id = %s AND status = %s"
        " AND due_at <= coalesce(%s, 'infinity'::timestamptz) ORDER BY due_at LIMIT %s",
        (program_id, status, at, limit),
    )
    return [order_id for (order_id,) in cur]


def held_of_approved(cur: Rows, program_id: UUID, affiliate_id: str | None) -> list[tuple[str, str]]:
    """(order id, affiliate id) of what is held of approved affiliates (or of one), oldest first: by hand, or by a
    suspension that is over."""
    cur.execute(
        "SELECT c.order_id, c.affiliate_id FROM conversions c JOIN directory d ON d.program_id = c.program_id"
        " AND d.kind = 'affiliate' AND d.record_id = c.affiliate_id AND d.status = 'approved'"
        " WHERE c.program_id = %(p)s AND c.status = 'held'"
        " AND (%(affiliate)s::text IS NULL OR c.affiliate_id = %(affiliate)s) ORDER BY c.position",
        {"p": program_id, "affiliate": affiliate_id},
    )
    return cur.fetchall()
