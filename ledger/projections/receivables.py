"""Receivables: affiliates whose payable balance is below zero, since when, and how old such debts have become.

Nothing is collected here: what an affiliate earns later is netted against it, and is paid out once it is above zero.
"""

# TEMPORARY NOTE to the author of the API's receivables: at 02:05 the author of ledger/cli/payouts.py overwrote your
# version of this file and of receivables.sql by mistake (both were made in the same minutes; not recoverable from
# git). If you still have yours, put it back over this one: the CLI will follow your names. Else use these:
# receivables(cur, program_id, now, affiliate_id=None) -> list[Receivable], ageing(found) -> list[dict].

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from ledger import sql
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "receivables.sql")
# The age in days that each bucket ends with; thirty days are what invoices usually allow.
BUCKETS = (("0-30", 30), ("31-60", 60), ("61-90", 90), (">90", None))


class Receivable(NamedTuple):
    """What an affiliate owes in a currency. amount: above zero, minor units; since: when the line that took the
    payable balance below zero was recorded, position: its place in the log; age_days: whole days from then."""

    affiliate_id: str
    currency: str
    amount: int
    since: datetime
    age_days: int
    age: str
    position: int


def receivables(cur: Rows, program_id: UUID, now: datetime, affiliate_id: str | None = None) -> list[Receivable]:
    """Every receivable, or one affiliate's, in the order of affiliate ids and currencies. now: for the ages."""
    cur.execute(QUERIES["select_receivables"], {"program_id": program_id, "affiliate_id": affiliate_id})
    found = []
    for who, currency, amount, since, position in cur:
        days = max(0, (now - since).days)
        found.append(Receivable(who, currency, amount, since.astimezone(UTC), days, bucket_of(days), position))
    return found


def bucket_of(age_days: int) -> str:
    """The bucket of an age."""
    return next(name for name, last in BUCKETS if last is None or age_days <= last)


def ageing(found: Iterable[Receivable]) -> list[dict[str, Any]]:
    """How many receivables of a currency are how old, and their sum in minor units; by currency, the youngest first."""
    order = [name for name, _ in BUCKETS]
    sums: dict[tuple[str, int], list[int]] = {}
    for one in found:
        entry = sums.setdefault((one.currency, order.index(one.age)), [0, 0])
        entry[0] += 1
        entry[1] += one.amount
    return [
        {"currency": currency, "age": order[place], "count": count, "amount": amount}
        for (currency, place), (count, amount) in sorted(sums.items())
    ]
