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
        if row.topic.startswith("Payout") or row.topic == "BankFeeBooked":
            found += payout_lines(row)
            continue
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


def payout_lines(row: Logged) -> list[Line]:
    """The transfers of a payout's event: commission, VAT on top, withholding taken off, and the bank's fee."""
    e = row.state
    owed, paid = f"liability:{e.get('affiliate_id')}:", f"asset:bank:{e.get('affiliate_id')}"
    payable, on_its_way = owed + "payable", owed + "in_transit"
    moves: list[tuple[str, str, int]] = []
    leaves = row.topic == "PayoutInitiated" or (row.topic == "PayoutSettled" and e.get("after_failure"))
    if leaves:
        gross = e["amount"] if row.topic == "PayoutInitiated" else e["gross_amount"]
        moves.append((payable, on_its_way, gross))
        moves.append(("tax:vat", on_its_way, e.get("vat_amount", 0)))
        moves.append((on_its_way, "tax:withholding", e.get("withholding_amount", 0)))
    if row.topic == "PayoutSettled":
        moves.append((on_its_way, paid, e["amount"]))
        moves.append(("expense:bank_fee", "asset:bank", e.get("fee_amount", 0)))
    if row.topic in ("PayoutFailed", "PayoutReturned"):
        place = on_its_way if row.topic == "PayoutFailed" else paid
        moves.append((place, payable, e["amount"]))
        moves.append((place, "tax:vat", e.get("vat_amount", 0)))
        moves.append(("tax:withholding", place, e.get("withholding_amount", 0)))
    if row.topic == "BankFeeBooked":
        moves.append(("expense:bank_fee", "asset:bank", e["amount"]))
    return [
        Line(row.position, debit, credit, amount, e["currency"], datetime.fromisoformat(e["effective_at"]))
        for debit, credit, amount in moves
        if amount
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
