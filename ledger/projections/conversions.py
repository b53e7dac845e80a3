"""One row for each commission on a conversion, or one for a sale that nobody is credited with: the work list of what is
due, held or waiting. Written in the append's transaction.

What rows have of the sale's amount, and of what was reversed of it, adds up to it: a share's row has its part, and the
second level's has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger import sql
from ledger.domain import money
from ledger.domain.conversion_state import ConversionState
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "conversions.sql")
# column → its type: psycopg's COPY needs to know them, because it sends binary
COLUMNS = {
    "program_id": "uuid", "originator_id": "uuid", "share_no": "int2", "order_id": "text", "status": "text",
    "affiliate_id": "text", "level": "int2", "offer_id": "text", "currency": "text", "amount": "int8",
    "commission_currency": "text", "commission": "int8", "reversed_amount": "int8", "reversed_commission": "int8",
    "occurred_at": "timestamptz", "due_at": "timestamptz", "position": "int8", "recorded_position": "int8",
    "customer_id": "text", "event_id": "text", "channel": "text",
}  # fmt: skip
_NAMES = ", ".join(COLUMNS)
_TYPES = tuple(COLUMNS.values())
_VALUES = f"({', '.join(['%s'] * len(COLUMNS))})"
_FIXED = (
    "program_id",
    "order_id",
    "offer_id",
    "currency",
    "occurred_at",
    "recorded_position",
    "customer_id",
    "event_id",
    "channel",
)
_CHANGING = [(at, name) for at, name in enumerate(COLUMNS) if name not in (*_FIXED, "share_no")]
COPY_FROM_ROWS = 4

# (stream id, state, last position, position of the sale itself where it came with this batch)
Touched = tuple[UUID, ConversionState, int, int | None]
Row = tuple[Any, ...]  # as COLUMNS says


def rows_of(program_id: UUID, touched: Touched) -> list[Row]:
    """A conversion's rows, its first commission's first."""
    originator_id, state, position, recorded_position = touched
    sale = state.recorded
    assert sale is not None

    def row(
        share_no: int, status: str, affiliate_id: str, level: int, amount: int, currency: str, commission: int,
        reversed_amount: int, reversed_commission: int, due_at: datetime | None,
    ) -> Row:  # fmt: skip
        return (
            program_id, originator_id, share_no, sale.order_id, status, affiliate_id, level, sale.offer_id,
            sale.currency, amount, currency, commission, reversed_amount, reversed_commission, sale.occurred_at, due_at,
            position, recorded_position if share_no == 1 else None, sale.customer_id, sale.event_id, sale.channel,
        )  # fmt: skip

    if not state.commissions:
        due_at = state.waits_until if state.standing == "waiting" else None
        return [row(1, state.standing, "", 1, sale.amount, sale.currency, 0, state.reversed_amount, 0, due_at)]
    reversed_amounts = _reversed_amounts(state)
    return [
        row(
            share_no, one.status, one.affiliate_id, one.level, _part(one.level, one.credited_amount), one.currency,
            one.commission, taken, one.reversed_commission, one.matures_at if one.status == "pending" else None,
        )
        for share_no, (one, taken) in enumerate(zip(state.commissions.values(), reversed_amounts, strict=True), 1)
    ]  # fmt: skip


def _part(level: int, credited_amount: int) -> int:
    """What of the sale stands in a commission's row: all of it is the first level's."""
    return credited_amount if level == 1 else 0


def _reversed_amounts(state: ConversionState) -> list[int]:
    """What was reversed of the sale, by the commissions' parts of it."""
    count = len(state.commissions)
    if count == 1 or not state.reversed_amount:
        return [state.reversed_amount] + [0] * (count - 1)
    weights = [_part(one.level, one.credited_amount) for one in state.commissions.values()]
    # of a sale of which nobody has a part, the first row says it
    return money.allocate(state.reversed_amount, weights if any(weights) else [1] + [0] * (count - 1))


def store(cur: Rows, program_id: UUID, touched: Sequence[Touched]) -> None:
    """Write the rows of the conversions that a batch touched."""
    new: list[Row] = []
    changed: list[Row] = []
    shares: list[Row] = []  # of conversions that were there before; these rows may come only now
    for one in touched:
        rows = rows_of(program_id, one)
        if one[3] is not None:
            new += rows
        else:
            changed.append(rows[0])
            shares += rows[1:]
    if changed:
        rows_as_json = [{name: row[at] for at, name in _CHANGING} for row in changed]
        cur.execute(QUERIES["update_first"], {"program_id": program_id, "rows": _encoded(rows_as_json)})
    if shares:
        rows_as_json = [dict(zip(COLUMNS, row, strict=True)) for row in shares]
        cur.execute(QUERIES["upsert_others"], {"program_id": program_id, "rows": _encoded(rows_as_json)})
    if len(new) >= COPY_FROM_ROWS:
        with cur.copy(f"COPY conversions ({_NAMES}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for row in new:
                copy.write_row(row)
    elif new:
        values = ", ".join([_VALUES] * len(new))
        cur.execute(f"INSERT INTO conversions ({_NAMES}) VALUES {values}", [value for row in new for value in row])  # noqa: S608


def _encoded(rows: Sequence[dict[str, Any]]) -> str:
    """One parameter for all of them: JSON, because arrays cost a parameter's work a value."""
    return msgspec.json.encode(rows).decode()


def due(cur: Rows, program_id: UUID, status: str, at: datetime | None, limit: int) -> list[str]:
    """Order ids, each once, of pending conversions that have matured, or of waiting ones (at None: all of them)."""
    cur.execute(QUERIES["select_due"], {"program_id": program_id, "status": status, "at": at, "limit": limit})
    return [order_id for (order_id,) in cur]


def held_of_approved(cur: Rows, program_id: UUID, affiliate_id: str | None) -> list[tuple[str, str]]:
    """(order id, affiliate id) of what is held of approved affiliates (or of one), each once, oldest first: by hand, or
    by a suspension that is over."""
    cur.execute(QUERIES["select_held"], {"program_id": program_id, "affiliate_id": affiliate_id})
    return list(dict.fromkeys(cur.fetchall()))
