"""A second opinion on the books, from topics and JSON alone: the auditor's postings (ledger/audit/naive.py), and the
prices, payouts and invoices, written down once more without the ledger's events and rounding.
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
from ledger.audit import naive
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
    """Every transfer of a log, by the auditor's rules."""
    return [
        Line(row.position, t.debit, t.credit, t.amount, t.currency, datetime.fromisoformat(t.effective_at))
        for row in log
        for t in naive.transfers(row.topic, row.state)
    ]


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


# topic → the statuses it may follow ("" is: no payout yet), and the one it leads to
LIFE = {
    "PayoutProposed": (("",), "proposed"),
    "PayoutExcluded": (("proposed",), "excluded"),
    "PayoutInitiated": (("proposed",), "initiated"),
    "PayoutUnknown": (("initiated",), "unknown"),
    "PayoutSettled": (("initiated", "unknown", "failed"), "settled"),
    "PayoutFailed": (("initiated", "unknown"), "failed"),
    "PayoutReturned": (("settled",), "returned"),
}


def payouts(log: Iterable[Logged]) -> dict[str, tuple[str, int]]:
    """Every payout's (status, what is transferred for it), each step of its life looked at: from the facts alone."""
    found: dict[str, tuple[str, int]] = {}
    for row in log:
        if row.topic not in LIFE:
            continue
        e, (before, after) = row.state, LIFE[row.topic]
        status, transfer = found.get(e["payout_id"], ("", 0))
        assert status in before, f"{row.topic} of a payout that is {status}"
        assert bool(e.get("after_failure")) == (status == "failed")
        if row.topic == "PayoutProposed":
            transfer = e["amount"] + e.get("vat_amount", 0) - e.get("withholding_amount", 0)
            assert e["amount"] > 0
            assert transfer > 0
        if row.topic == "PayoutSettled":
            assert e["amount"] == transfer
        found[e["payout_id"]] = (after, transfer)
    return found


def check_invoices(log: Iterable[Logged]) -> None:
    """Invoices and credit notes have the numbers 1, 2, 3 … of their year, each once; a payout on its way or settled
    has exactly one invoice that stands, and no other payout has any."""
    next_number: dict[int, int] = defaultdict(lambda: 1)
    free: set[str] = set()  # numbers taken that stand on no invoice yet
    standing: dict[str, str] = {}  # payout id → its invoice
    for row in log:
        e = row.state
        if row.topic == "InvoiceNumbersTaken":
            assert e["first"] == next_number[e["year"]]
            next_number[e["year"]] += e["count"]
            free |= {f"{e['year']:04}-{n:06}" for n in range(e["first"], e["first"] + e["count"])}
        elif row.topic == "CreditNoteIssued":
            assert e["number"] == next_number[e["year"]]
            next_number[e["year"]] += 1
            assert standing.pop(e["payout_id"]) == e["cancels"]
        elif number := e.get("invoice_number"):
            free.remove(number)
            assert standing.setdefault(e["payout_id"], number) == number
    assert not free, "every number is on an invoice"
    alive = {
        payout_id for payout_id, (status, _) in payouts(log).items() if status in ("initiated", "unknown", "settled")
    }
    assert set(standing) == alive


def check_books(ledger: CommissionLedger, program: str = PROGRAM, chance: random.Random | None = None) -> None:
    """The live books are the fold of the log: now, and as of random points of either axis or both."""
    chance = chance or random.Random()
    log = read_log(ledger, program)
    assert [row.position for row in log] == list(range(1, len(log) + 1))
    assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(log))
    check_prices(log)
    check_invoices(log)
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
