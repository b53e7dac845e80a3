"""A second opinion on the books: the table of DESIGN, section 6, written down once more, on purpose naively.

It knows topics and JSON and nothing else of the ledger: not its events, not its postings, not its rounding.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from support import PROGRAM, Logged, read_log

from ledger.application import CommissionLedger
from ledger.projections import books

Balances = dict[tuple[str, str], int]


class Line(NamedTuple):
    """A transfer as this page understands it."""

    position: int
    debit: str
    credit: str
    amount: int
    currency: str
    effective_at: datetime


def lines(log: Iterable[Logged]) -> list[Line]:
    """Every transfer of a log."""
    found = []
    for row in log:
        e = row.state
        owed = f"liability:{e.get('affiliate_id')}:"
        pair = None
        at = e.get("effective_at")
        if row.topic == "CommissionAccrued":
            pair = ("expense:commission", owed + ("held" if e.get("held") else "pending"))
            at = e["occurred_at"]
        elif row.topic == "ConversionHeld":
            pair = (owed + "pending", owed + "held")
        elif row.topic == "ConversionReleased":
            pair = (owed + "held", owed + "pending")
        elif row.topic == "ConversionApproved":
            pair = (owed + "pending", owed + "payable")
        elif row.topic == "ConversionRejected":
            pair = (owed + ("held" if e.get("was_held") else "pending"), "expense:commission")
        elif row.topic == "ConversionReversed" and e["bucket"] != "none":
            pair = (owed + e["bucket"], "expense:commission")
        elif row.topic == "AdjustmentPosted":
            pair = ("expense:adjustment", owed + "payable")
            if e["amount"] < 0:
                pair = (pair[1], pair[0])
        if pair and e["amount"]:
            assert at is not None
            amount = abs(e["amount"])
            found.append(Line(row.position, *pair, amount, e["currency"], datetime.fromisoformat(at)))
    return found


def add_up(some: Iterable[Line]) -> Balances:
    """Debits less credits by account and currency, without the empty ones."""
    held: Balances = defaultdict(int)
    for line in some:
        held[line.debit, line.currency] += line.amount
        held[line.credit, line.currency] -= line.amount
    return {key: amount for key, amount in held.items() if amount}


def check_prices(log: Iterable[Logged]) -> None:
    """Each commission is its rate of its sale, and what was reversed of it is cumulative: from the facts alone."""
    commission: dict[str, int] = {}
    sold: dict[str, int] = {}
    taken: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    rejected = set()
    for row in log:
        e: dict[str, Any] = row.state
        order = e.get("order_id", "")
        if row.topic == "ConversionRecorded":
            assert order not in sold, "one order, one sale"
            sold[order] = e["amount"]
        elif row.topic == "CommissionAccrued":
            assert order not in commission, "one sale, one commission"
            exact = Decimal(e["sale_amount"]) * e["rate_bps"] / 10_000
            assert e["amount"] == exact.to_integral_value(ROUND_HALF_UP)
            commission[order] = e["amount"]
        elif row.topic == "ConversionRejected":
            rejected.add(order)
        elif row.topic == "ConversionReversed":
            of_sale, of_commission = taken[order]
            taken[order] = of_sale, of_commission = of_sale + e["sale_amount"], of_commission + e["amount"]
            assert of_sale <= sold[order]
            if order in commission and order not in rejected:
                exact = Decimal(commission[order]) * of_sale / (sold[order] or 1)
                whole = commission[order] if of_sale == sold[order] else exact.to_integral_value(ROUND_HALF_UP)
                assert of_commission == whole


def check_books(ledger: CommissionLedger, program: str = PROGRAM, chance: random.Random | None = None) -> None:
    """The live books are the fold of the log: now, and as of random points of either axis or both."""
    chance = chance or random.Random()
    log = read_log(ledger, program)
    assert [row.position for row in log] == list(range(1, len(log) + 1))
    assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(log))
    check_prices(log)
    all_lines = lines(log)
    position = chance.randint(0, len(log))
    instants = [line.effective_at for line in all_lines] or [log[0].recorded_at]
    effective = chance.choice(instants) + timedelta(microseconds=chance.randint(0, 1))
    recorded = chance.choice(log).recorded_at
    with ledger.reading(program) as (cur, id_):

        def live(as_of: books.AsOf, affiliate_id: str | None = None) -> Balances:
            rows = books.account_balances(cur, id_, as_of, affiliate_id)
            return {(account, currency): amount for account, currency, amount in rows if amount}

        now = live(books.AsOf())
        assert now == add_up(all_lines)
        by_currency: dict[str, int] = defaultdict(int)
        for (_, currency), amount in now.items():
            by_currency[currency] += amount
        assert not any(by_currency.values()), "every currency sums to zero"
        assert live(books.AsOf(position)) == add_up(x for x in all_lines if x.position <= position)
        assert live(books.AsOf(None, effective)) == add_up(x for x in all_lines if x.effective_at < effective)
        both = [x for x in all_lines if x.position <= position and x.effective_at < effective]
        assert live(books.AsOf(position, effective)) == add_up(both)
        last = max(row.position for row in log if row.recorded_at <= recorded)
        assert books.as_of_position(cur, id_, recorded) == last
        ada = {key: amount for key, amount in now.items() if ":ada" in key[0]}
        assert live(books.AsOf(), "ada") == ada
        cur.execute(
            "SELECT position, debit, credit, amount, currency, effective_at, debit_balance, credit_balance"
            " FROM journal WHERE program_id = %s AND generation ="
            " (SELECT generation FROM log_heads WHERE program_id = %s AND log = 'books') ORDER BY position, line_no",
            (id_, id_),
        )
        stored = cur.fetchall()
    assert [Line(*row[:6]) for row in stored] == all_lines
    running: Balances = defaultdict(int)
    for _, debit, credit, amount, currency, _, debit_balance, credit_balance in stored:
        running[debit, currency] += amount
        running[credit, currency] -= amount
        assert (running[debit, currency], running[credit, currency]) == (debit_balance, credit_balance)
