"""Conversions priced by a plan with tiers and caps, a thousand a batch, against a flat plan and simple terms."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, Stopwatch, checkpoint, race
from benchmarks.world import BATCH, CURRENCY, META, RATE_BPS, START, World, affiliate_of, must_be_recorded
from ledger.domain.ids import program_id
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.recording import RecordConversion
from ledger.projections import books

WORK = "conversions priced by a plan with tiers and caps, booked, committed, 1,000 a batch"
COMPARISONS = (
    Comparison(WORK, "tiered", "the same by a flat plan", "flat", 0.7, "conversions/s"),
    Comparison(WORK, "tiered", "the same by simple terms", "simple", None, "conversions/s"),
)

FLAT = 100
STEPS = ((0, 400), (20_000_00, 600), (40_000_00, 800))  # from this much of a month's revenue on, basis points
MOST_A_DAY = 5_000_00  # of commission to one affiliate; what is more than that is not paid
BUDGET = 10**12  # never met, and asked all the same
TIERED: dict[str, Any] = {
    "plan": 1,
    "currency": CURRENCY,
    "rules": [
        {"id": "leads", "when": {"event": ["lead"]}, "pay": {"amount": 500}},
        {"id": "all", "pay": {"tiers": {
            "by": "revenue", "period": "month",
            "steps": [{"from": start, "rate_bps": rate_bps} for start, rate_bps in STEPS],
        }}},
    ],
    "caps": [
        {"id": "day", "level": "affiliate", "by": "commission", "period": "day", "limit": MOST_A_DAY, "over": "clamp"},
        {"id": "budget", "level": "offer", "by": "commission", "period": "month", "limit": BUDGET},
    ],
}  # fmt: skip
TERMS: dict[str, dict[str, Any]] = {
    "tiered": {"plan": TIERED},
    "flat": {"plan": {"plan": 1, "currency": CURRENCY, "rules": [{"id": "all", "pay": {"amount": FLAT}}]}},
    "simple": {"rate_bps": RATE_BPS},
}


class Sale(NamedTuple):
    """A sale as it arrives."""

    order_id: str
    affiliate_id: str
    amount: int
    occurred_at: datetime


def sales(first: int, count: int) -> list[Sale]:
    """Sales of all affiliates, in order of time: one every two minutes."""
    return [
        Sale(f"order-{n}", affiliate_of(n), 1_000 + 13 * (n % 3_000), START + timedelta(minutes=2 * n))
        for n in range(first, first + count)
    ]


class Owed:
    """What affiliates earn, reckoned a second time: every sale so far counts in its month and its day."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._revenue: dict[tuple[str, str], int] = defaultdict(int)
        self._paid: dict[tuple[str, str], int] = defaultdict(int)
        self.total: dict[str, int] = defaultdict(int)

    def add(self, sale: Sale) -> None:
        """The next sale."""
        if self._name == "flat":
            self.total[sale.affiliate_id] += FLAT
            return
        if self._name == "simple":
            self.total[sale.affiliate_id] += (sale.amount * RATE_BPS + 5_000) // 10_000
            return
        month, day = (
            (sale.affiliate_id, f"{sale.occurred_at:%Y-%m}"),
            (sale.affiliate_id, f"{sale.occurred_at:%Y-%m-%d}"),
        )
        self._revenue[month] += sale.amount
        rate_bps = max(rate for start, rate in STEPS if self._revenue[month] >= start)
        paid = min((sale.amount * rate_bps + 5_000) // 10_000, MOST_A_DAY - self._paid[day])
        self._paid[day] += paid
        self.total[sale.affiliate_id] += paid


class Plans:
    """The contenders: offers of a program each, so that every table is as long for one as for another."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.count = world, plan.size(20_000, 1_000)
        self.next = dict.fromkeys(TERMS, 0)
        self.owed = {name: Owed(name) for name in TERMS}
        for name, said in TERMS.items():
            program = world.open_program(f"plans-{name}")
            world.do(program, [PublishOffer(offer_id=name)])
            world.do(program, [PublishTerms(offer_id=name, hold_days=30, window_days=30, **said)])

    def run(self, name: str) -> float:
        """Commands from plain values, decisions, events with their evidence, journal, balances, counters, commit."""
        sold = sales(self.next[name], self.count)
        self.next[name] += self.count
        watch = Stopwatch()
        for start in range(0, self.count, BATCH):
            with watch.running():
                commands = [
                    RecordConversion(
                        order_id=sale.order_id,
                        offer_id=name,
                        amount=sale.amount,
                        occurred_at=sale.occurred_at,
                        affiliate_id=sale.affiliate_id,
                    )
                    for sale in sold[start : start + BATCH]
                ]
                outcomes = self.world.ledger.execute_many(f"plans-{name}", commands, META)
            must_be_recorded(outcomes)
        self._check(name, sold)
        return watch.rate(self.count)

    def _check(self, name: str, sold: list[Sale]) -> None:
        for sale in sold:
            self.owed[name].add(sale)
        with self.world.pool.connection() as conn, conn.cursor() as cur:
            rows = books.account_balances(cur, program_id(f"plans-{name}"), books.AsOf())
        found = {one["affiliate_id"]: one["pending"] for one in books.all_owed(rows)}
        if found != dict(self.owed[name].total):
            raise BenchmarkError(f"{name}: the balances are not what was sold: {found}")


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about plans."""
    plans = Plans(world, plan)
    contenders = {name: lambda name=name: plans.run(name) for name in TERMS}
    return race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))
