"""A second opinion on the books, from topics and JSON alone: the auditor's postings (ledger/audit/naive.py), prices,
payouts and invoices (ledger/audit/naive_commissions.py, naive_rules.py), without the ledger's events and rounding.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from support import PROGRAM, Logged, read_log

from ledger.application import CommissionLedger
from ledger.audit import naive
from ledger.audit.findings import Findings
from ledger.audit.naive_commissions import Prices, Terms
from ledger.audit.naive_rules import Invoices, Payout, Payouts
from ledger.audit.verifying import Witness, Witnessed
from ledger.projections import books
from ledger.store.log import select_rows, stored_line

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
    """Each commission is its rate of its sale by the terms in force, and what was reversed of it is cumulative."""
    findings = Findings()
    terms = Terms()
    prices = Prices(findings, terms)
    for row in log:
        terms.event(row.position, row.topic, row.state)
        prices.event(row.position, row.topic, row.state)
    prices.end()
    assert not findings, findings.in_order()


def payouts(log: Iterable[Logged]) -> dict[str, tuple[str, int]]:
    """Every payout's (status, what is transferred for it), each step of its life looked at: from the facts alone."""
    return {id_: (one.status, one.transfer) for id_, one in _payouts(log).items()}


def _payouts(log: Iterable[Logged]) -> dict[str, Payout]:
    findings = Findings()
    found = Payouts(findings)
    for row in log:
        found.event(row.position, row.topic, row.state)
    assert not findings, findings.in_order()
    return found.found


def check_invoices(log: Iterable[Logged]) -> None:
    """Invoices and credit notes have the numbers 1, 2, 3 … of their year, each once; a payout on its way or settled
    has exactly one invoice that stands, and no other payout has any."""
    log = list(log)
    findings = Findings()
    invoices = Invoices(findings)
    for row in log:
        invoices.event(row.position, row.topic, row.state)
    invoices.end(_payouts(log))
    assert not findings, findings.in_order()


def check_by_witness(ledger: CommissionLedger, program: str = PROGRAM) -> Witnessed:
    """The auditor reads both logs, through folds and naive books, statements included, and finds nothing."""
    lines: dict[str, list[bytes]] = {}
    with ledger.reading(program) as (cur, id_):
        for name in ("traffic", "books"):
            lines[name] = [stored_line(id_, name, row) for row in select_rows(cur, id_, name, 0, 10**9)]
    with Witness(str(id_), {name: len(some) for name, some in lines.items()}) as witness:
        for name, some in lines.items():
            reader = witness.reader(name)
            reader.lines(some)
            reader.end()
        found = witness.finish()
        assert not witness.findings, [one.sentence() for one in witness.findings.in_order()]
    return found


def check_books(ledger: CommissionLedger, program: str = PROGRAM, chance: random.Random | None = None) -> None:
    """The live books are the fold of the log: now, and as of random points of either axis or both."""
    chance = chance or random.Random()
    log = read_log(ledger, program)
    assert [row.position for row in log] == list(range(1, len(log) + 1))
    assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(log))
    check_by_witness(ledger, program)
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
