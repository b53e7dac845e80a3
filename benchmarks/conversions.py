"""Conversions, a thousand a batch: attributed, priced, booked, committed; against the library's application and
projection coming to the same balances."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from benchmarks import stock
from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, Stopwatch, checkpoint, race
from benchmarks.world import BATCH, CURRENCY, META, OFFER, RATE_BPS, START, World, affiliate_of, must_be_recorded
from ledger.domain.click import RecordClick
from ledger.domain.ids import program_id
from ledger.domain.money import percent_of
from ledger.domain.recording import RecordConversion
from ledger.projections import books

WORK = "conversions: attributed by click, priced, booked, committed, 1,000 a batch"
COMPARISONS = (
    Comparison(
        WORK, "ours", "stock Application.save (one a conversion) + ProjectionRunner to the same balances",
        "stock", 20.0, "conversions/s",
    ),
    Comparison(
        WORK, "ours", "the same with 100 aggregates in each Application.save", "stock in batches", None, "conversions/s"
    ),
)  # fmt: skip
"""The second is what a user of the library can do for bulk; its projection stays what limits it."""

BULK = 100


class Sale(NamedTuple):
    """A sale as it arrives."""

    order_id: str
    click_id: str
    affiliate_id: str
    amount: int
    occurred_at: datetime


def sales(first: int, count: int, clicks: int) -> list[Sale]:
    """Sales that each name one of the recorded clicks, out of order."""
    found = []
    for n in range(first, first + count):
        click = n * 7919 % clicks
        at = START + timedelta(days=2, seconds=n % 86_400)
        found.append(Sale(f"order-{n}", f"click-{click}", affiliate_of(click), 1000 + 13 * (n % 3000), at))
    return found


def expected(sold: list[Sale]) -> dict[str, int]:
    """What each affiliate is owed for some sales, reckoned a third time, so that both can be checked."""
    owed: dict[str, int] = {}
    for sale in sold:
        owed[sale.affiliate_id] = owed.get(sale.affiliate_id, 0) + (sale.amount * RATE_BPS + 5000) // 10_000
    return owed


class Conversions:
    """The contenders, each with sales of its own."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.count, self.stock_count = plan.size(20_000, 1_000), plan.size(2_000, 50)
        self.clicks = plan.size(20_000, 1_000)
        self.program = world.open_program("conversions")
        for start in range(0, self.clicks, BATCH):
            clicks = [
                RecordClick(click_id=f"click-{n}", affiliate_id=affiliate_of(n), offer_id=OFFER, occurred_at=START)
                for n in range(start, start + BATCH)
            ]
            must_be_recorded(world.ledger.record_clicks(self.program, clicks, META))
        self.env = stock.environment(world.server)
        self.next = 0

    def _sales(self, count: int) -> list[Sale]:
        self.next += count
        return sales(self.next - count, count, self.clicks)

    def ours(self) -> float:
        """Commands from plain values, look-ups, decisions, events, journal, balances, commit."""
        sold = self._sales(self.count)
        before = self._pending()
        watch = Stopwatch()
        for start in range(0, self.count, BATCH):
            with watch.running():
                commands = [
                    RecordConversion(
                        order_id=sale.order_id,
                        offer_id=OFFER,
                        amount=sale.amount,
                        occurred_at=sale.occurred_at,
                        click_id=sale.click_id,
                    )
                    for sale in sold[start : start + BATCH]
                ]
                outcomes = self.world.ledger.execute_many(self.program, commands, META)
            must_be_recorded(outcomes)
        after = self._pending()
        _must_equal({a: amount - before.get(a, 0) for a, amount in after.items()}, expected(sold))
        return watch.rate(self.count)

    def _pending(self) -> dict[str, int]:
        with self.world.pool.connection() as conn, conn.cursor() as cur:
            rows = books.account_balances(cur, program_id(self.program), books.AsOf())
        return {one["affiliate_id"]: one["pending"] for one in books.all_owed(rows)}

    def stock(self) -> float:
        """One save a conversion, as it comes in."""
        return self._stock(1)

    def stock_in_batches(self) -> float:
        """Many aggregates a save, as an import would."""
        return self._stock(BULK)

    def _stock(self, at_once: int) -> float:
        sold = self._sales(self.stock_count)
        stock.forget_events(self.world.server)
        watch = Stopwatch()
        with stock.start_runner(self.env) as runner:
            with watch.running():
                for start in range(0, len(sold), at_once):
                    made = [_aggregate(sale) for sale in sold[start : start + at_once]]
                    recordings = runner.app.save(*made)
                stock.wait_for(runner, recordings[-1].notification.id)
            found = {affiliate: pending for affiliate, (pending, _) in runner.view.balances().items()}
        _must_equal(found, expected(sold))
        return watch.rate(len(sold))


def _aggregate(sale: Sale) -> stock.Sale:
    """The stock library's part of the decision: two events. It is told the affiliate; ours looks the click up."""
    made = stock.Sale(sale.order_id, OFFER, sale.amount, CURRENCY, sale.occurred_at, sale.click_id)
    made.accrue(sale.affiliate_id, percent_of(sale.amount, RATE_BPS), CURRENCY)
    return made


def _must_equal(found: dict[str, int], wanted: dict[str, int]) -> None:
    if found != wanted:
        raise BenchmarkError(f"the balances are not what was sold: {found} instead of {wanted}")


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about conversions."""
    conversions = Conversions(world, plan)
    contenders = {
        "ours": conversions.ours,
        "stock": conversions.stock,
        "stock in batches": conversions.stock_in_batches,
    }
    return race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))
