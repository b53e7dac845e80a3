"""Receivables: affiliates whose payable balance is below zero, since when, and how old such debts have become.

Nothing is collected here: what an affiliate earns later is netted against it, and is paid out once it is above zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from ledger import sql
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "receivables.sql")
BUCKETS = ("0-30", "31-60", "61-90", ">90")  # days; thirty are what invoices usually allow
ROWS_AT_ONCE = 1000
FIRST = ("", "")


class Receivable(NamedTuple):
    """What an affiliate owes in a currency. amount: above zero, minor units; since: when the line was recorded, at
    position, that took the payable balance below zero last; age_days: whole days from then; age: one of BUCKETS."""

    affiliate_id: str
    currency: str
    amount: int
    since: datetime
    age_days: int
    age: str
    position: int


class Age(NamedTuple):
    """Receivables of a currency and an age; amount: their sum, minor units."""

    currency: str
    age: str
    receivable_count: int
    amount: int


def page(
    cur: Rows, program_id: UUID, now: datetime, after: tuple[str, str] = FIRST, limit: int = ROWS_AT_ONCE
) -> list[Receivable]:
    """Receivables behind (affiliate id, currency), in that order. now: for the ages."""
    cur.execute(QUERIES["every_receivable"] + QUERIES["select_page"], _asked(program_id, now, after) | {"limit": limit})
    return [Receivable(*row)._replace(since=row[3].astimezone(UTC)) for row in cur]


def every(cur: Rows, program_id: UUID, now: datetime) -> Iterator[Receivable]:
    """All receivables, a few at a time."""
    after = FIRST
    while some := page(cur, program_id, now, after):
        yield from some
        after = (some[-1].affiliate_id, some[-1].currency)


def ageing(cur: Rows, program_id: UUID, now: datetime) -> list[Age]:
    """How many receivables of a currency are how old, and their sum; by currency, the youngest first."""
    cur.execute(QUERIES["every_receivable"] + QUERIES["select_ageing"], _asked(program_id, now, FIRST))
    return [Age(*row) for row in cur]


def _asked(program_id: UUID, now: datetime, after: tuple[str, str]) -> dict[str, object]:
    return {"program_id": program_id, "now": now, "after_affiliate": after[0], "after_currency": after[1]}
