"""What the import tests share: small exports written by hand, and the rules once more, naively, in memory."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, NamedTuple

from support import PROGRAM, open_shop, read_log, trial

from ledger.application import CommissionLedger
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings, import_orders
from ledger.imports.recording import Totals

ROOT = Path(__file__).resolve().parents[1]
MAPPING = ROOT / "examples" / "online-retail.toml"
REAL = ROOT.parent / "shared" / "data" / "online-retail-2009-12_2010-05.csv.gz"
HEADING = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")


class L(NamedTuple):
    """A line of an export; at is 'day hh:mm' of January 2010."""

    invoice: str
    sku: str
    quantity: int
    at: str = "01 10:00"
    price: str = "1.00"
    customer: str = "7"
    country: str = "Ada"

    def row(self) -> tuple[str, ...]:
        day, time = self.at.split()
        name, when = f'the "{self.sku}", new', f"2010-01-{day} {time}:00"
        return self.invoice, self.sku, name, str(self.quantity), when, self.price, self.customer, self.country


def write(path: Path, lines: Iterable[L], heading: Sequence[str] = HEADING) -> Path:
    """An export file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(heading)
        out.writerows(line.row() for line in lines)
    return path


def run(ledger: CommissionLedger, path: Path, *, program: str = PROGRAM, enrol: bool = True, **more: Any) -> Totals:
    """Import a file for the shop's offer 'shoes'."""
    mapping = load_mapping(more.pop("mapping", MAPPING))
    return import_orders(ledger, Settings(program, "shoes", path, mapping, enrol, "clerk"), **more)


def shop(ledger: CommissionLedger, program: str = PROGRAM) -> None:
    """A program whose affiliates come with the imports."""
    open_shop(ledger, program, affiliates=())


def books_of(ledger: CommissionLedger, program: str = PROGRAM) -> dict[str, Any]:
    """All that an import leaves behind, without positions and instants, to compare two programs."""
    facts = sorted(
        (row.topic, sorted((k, str(v)) for k, v in row.state.items() if k not in ("program", "traffic_position")))
        for row in read_log(ledger, program)
        if row.topic != "TermsPublished"
    )
    return {"trial": trial(ledger, program), "facts": facts}


def reversals(ledger: CommissionLedger, program: str = PROGRAM) -> dict[str, tuple[int, int]]:
    """Every applied reversal: its id → (of the sale, of the commission)."""
    return {
        row.state["reversal_id"]: (row.state["sale_amount"], row.state["amount"])
        for row in read_log(ledger, program)
        if row.topic == "ConversionReversed"
    }


def exceptions(ledger: CommissionLedger, program: str = PROGRAM) -> dict[str, str]:
    """Every exception: its id → its type."""
    return {
        row.state["exception_id"]: row.state["type"]
        for row in read_log(ledger, program)
        if row.topic == "ExceptionRaised"
    }


def round_half_up(value: Decimal) -> int:
    """The rule's rounding, spelled out."""
    return int(value.to_integral_value(ROUND_HALF_UP))


def naive(lines: Sequence[L]) -> tuple[dict[str, int], dict[tuple[str, str], int], dict[str, str]]:
    """The issue's rules over a whole file in memory: (order → amount, (refund, order) → amount, exceptions)."""
    orders: dict[str, dict[str, Any]] = {}
    refunds, raised = [], {}
    first: dict[str, str] = {}
    ordinals: defaultdict[str, int] = defaultdict(int)
    for place, line in enumerate(lines):
        first.setdefault(line.invoice, line.at)
        ordinals[line.invoice] += 1
        key = f"line:{line.invoice}:{ordinals[line.invoice]}"
        price = Decimal(line.price)
        if not line.invoice.startswith("C") and line.quantity > 0 and price >= 0:
            order = orders.setdefault(line.invoice, {"at": first[line.invoice], "amount": 0, "lines": []})
            order["amount"] += round_half_up(line.quantity * price * 100)
            order["lines"].append([line.customer, line.sku, line.quantity, price])
        elif line.invoice.startswith("C") and line.quantity < 0 and price > 0:
            refunds.append((line.at, line.invoice, place, key, line))
        else:
            raised[key] = "not_a_sale"
    worth: dict[tuple[str, str], int] = {}
    for at, invoice, _, key, line in sorted(refunds):
        left = -line.quantity
        for name, order in sorted(orders.items(), key=lambda item: (item[1]["at"], item[0]), reverse=True):
            if not line.customer or order["at"] > at:
                continue
            for sold in order["lines"]:
                if sold[:2] == [line.customer, line.sku]:
                    pieces = min(left, sold[2])
                    sold[2] -= pieces
                    left -= pieces
                    if pieces:
                        worth.setdefault((invoice, name), 0)
                        worth[invoice, name] += round_half_up(pieces * sold[3] * 100)
        if left:
            raised[key] = "unmatched_refund"
    taken: dict[tuple[str, str], int] = {}
    rest = {name: order["amount"] for name, order in orders.items()}
    for (invoice, name), amount in sorted(worth.items(), key=lambda item: (first[item[0][0]], item[0][0])):
        if amount := min(amount, rest[name]):
            taken[invoice, name] = amount
            rest[name] -= amount
    return {name: order["amount"] for name, order in orders.items()}, taken, raised


def random_lines(seed: int, count: int) -> list[L]:
    """A small dirty export: few customers and articles, so that everything meets."""
    draw = random.Random(seed)
    lines: list[L] = []
    for number in range(count):
        refund = draw.random() < 0.35
        invoice = f"{'C' if refund else ''}{100 + number // 3}" if draw.random() < 0.9 else f"{100 + draw.randrange(9)}"
        at = f"{draw.randrange(1, 5):02} {draw.randrange(8, 12):02}:00"
        quantity = draw.choice([-3, -2, -1, 1]) if refund else draw.choice([1, 2, 3, 5, -1])
        price = draw.choice(
            ["0", "0.125", "1.00", "2.995", "-4.00"] if draw.random() < 0.2 else ["0.125", "1.10", "2.995"]
        )
        customer = draw.choice(["1", "2", "", "1"])
        lines.append(L(invoice, draw.choice("AB"), quantity, at, price, customer))
    return lines
