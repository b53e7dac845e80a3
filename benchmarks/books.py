"""Rebuilding the books from the log, proven equal and swapped in; against the library's projection runner over the
same kinds of events in the same proportion."""

from __future__ import annotations

import psycopg

from benchmarks import stock
from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, Stopwatch, checkpoint, race
from benchmarks.world import APPROVED_OF_TEN, BATCH, CURRENCY, OFFER, START, World, affiliate_of
from ledger.domain.ids import program_id
from ledger.projections.rebuild import clear_old_generations, rebuild

COMPARISONS = (
    Comparison(
        "rebuild of the books (accruals : approvals : reversals = 10 : 9 : 1)", "ours",
        "stock ProjectionRunner over the same events, one upsert an event", "stock", 75.0, "events/s",
    ),
)  # fmt: skip


class Rebuilds:
    """The contenders."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        # every event that moves money makes one entry
        self.events, self.stock_events = plan.size(1_000_000, 400), plan.size(5_000, 100)
        self.program_id = program_id(world.program_with_books(self.events))
        self.env = stock.environment(world.server)
        self.last = self._record_stock_events()

    def ours(self) -> float:
        """Read, decode, post, write journal and balances, compare with the live ones, swap.

        Only the events that move money are counted, though all the others of the log are read as well."""
        watch = Stopwatch()
        with watch.running():
            report = rebuild(self.world.pool, self.program_id)
        if not (report.equal and report.swapped and report.lines == self.events):
            raise BenchmarkError(f"the rebuild went wrong: {report}")
        with psycopg.connect(self.world.owner_url, autocommit=True) as conn:
            clear_old_generations(conn, self.program_id)
            conn.execute("VACUUM journal, balances")
        return watch.rate(self.events)

    def stock(self) -> float:
        """A projection with an empty view, until it has seen the last event."""
        stock.forget(self.world.server)
        watch = Stopwatch()
        with watch.running():
            runner = stock.start_runner(self.env)
            stock.wait_for(runner, self.last)
        with runner:
            owed = runner.view.balances()
        sales = self.stock_events // 2
        if sum(pending + payable for pending, payable in owed.values()) != 100 * sales * APPROVED_OF_TEN // 10:
            raise BenchmarkError(f"the stock projection went wrong: {owed}")
        return watch.rate(self.stock_events)

    def _record_stock_events(self) -> int:
        """The stock application's events, in the order in which ours were made. Returns the last one's position."""
        stock.forget_events(self.world.server)
        app = stock.Sales(self.env)
        last = 0
        for start in range(0, self.stock_events // 2, BATCH):
            made = []
            for number in range(start, min(start + BATCH, self.stock_events // 2)):
                sale = stock.Sale(f"order-{number}", OFFER, 1000, CURRENCY, START, f"click-{number}")
                sale.accrue(affiliate_of(number), 100, CURRENCY)
                made.append(sale)
            last = _save(app, made)
            for number, sale in enumerate(made):
                decide = sale.approve if number % 10 < APPROVED_OF_TEN else sale.reverse
                decide(sale.affiliate_id, sale.commission, CURRENCY)
            last = _save(app, made)
        app.close()
        return last


def _save(app: stock.Sales, made: list[stock.Sale]) -> int:
    last = 0
    for start in range(0, len(made), 100):
        last = app.save(*made[start : start + 100])[-1].notification.id
    return int(last)


def measure(world: World, plan: Plan) -> list[Row]:
    """The row about the rebuild."""
    rebuilds = Rebuilds(world, plan)
    contenders = {"ours": rebuilds.ours, "stock": rebuilds.stock}
    return race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))
