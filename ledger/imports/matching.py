"""Matching refunds, which name no order, with the sale lines that they give back.

The rule: a refund takes from the same customer's latest order, at or before the refund's date, that still has pieces
of its article; there from the order's lines in the order of the file; then from the next latest order. Customers and
articles do not touch each other, so the database sorts everything by them, and this walks through it once: what it
holds is what one customer has of one article.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from ledger.domain import money


class Candidate(NamedTuple):
    """A sale line with what is left of it, or a refund line with what it gives back (quantity, pieces).

    They come sorted by customer, article, instant (of a sale: its order's), sales before refunds, invoice, and place
    in the file. number: of a refund line its ordinal within its invoice, of a sale line its line in the file.
    """

    customer_id: str
    sku: str
    refund: bool
    invoice: str
    number: int
    quantity: int
    price: Decimal


class Part(NamedTuple):
    """Pieces of a refund line that come from a line of an order, worth amount minor units."""

    refund_invoice: str
    refund_ordinal: int
    part_no: int
    order_id: str
    order_line_no: int
    quantity: int
    amount: int


class _Open(NamedTuple):
    """An order with the lines that still have pieces: [line_no, pieces left, price]."""

    order_id: str
    lines: deque[list[Any]]


def match(candidates: Iterable[Candidate], places: int) -> Iterator[Part]:
    """The parts of every refund, in the order of the candidates. places: decimals of the currency."""
    group: tuple[str, str] | None = None
    orders: list[_Open] = []  # oldest first: the last one is the latest so far
    for one in candidates:
        if (one.customer_id, one.sku) != group:
            group, orders = (one.customer_id, one.sku), []
        if one.refund:
            yield from _take(one, orders, places)
        elif one.quantity > 0:
            if not orders or orders[-1].order_id != one.invoice:
                orders.append(_Open(one.invoice, deque()))
            orders[-1].lines.append([one.number, one.quantity, one.price])


def _take(refund: Candidate, orders: list[_Open], places: int) -> Iterator[Part]:
    wanted, part_no = refund.quantity, 0
    while wanted and orders:
        order = orders[-1]
        line = order.lines[0]
        line_no, left, price = line
        pieces = min(wanted, left)
        part_no += 1
        amount = money.line_amount(Decimal(pieces), price, places)
        yield Part(refund.invoice, refund.number, part_no, order.order_id, line_no, pieces, amount)
        wanted -= pieces
        line[1] -= pieces
        if not line[1]:
            order.lines.popleft()
            if not order.lines:
                orders.pop()
