"""Conversions credited by a journey in a program with a million customers: how fast touches are found and weighed, and
how fast whole conversions are shared, priced, booked and committed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import psycopg
from psycopg.rows import TupleRow

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, Stopwatch, checkpoint, race, say
from benchmarks.world import AFFILIATES, BATCH, CURRENCY, META, START, World, affiliate_of, must_be_recorded
from ledger.domain.ids import program_id
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.plans import models
from ledger.domain.plans.journey import JourneyKey
from ledger.domain.plans.plan import AttributionRules
from ledger.domain.recording import RecordConversion
from ledger.projections import books, touches

OFFER, NAMED, PROGRAM = "journeys", "named", "attributing"
PROMISED = 5_000.0
FOUND = "journeys of a million customers found, weighed, credited, 1,000 a statement"
WORK = "conversions credited by position, shared, priced, booked, committed, 1,000 a batch"
COMPARISONS = (
    Comparison(FOUND, "found", "5,000 conversions a second", "promised", 1.0, "conversions/s"),
    Comparison(WORK, "ours", "5,000 conversions a second", "promised", None, "conversions/s"),
    Comparison(WORK, "ours", "the same where the conversion names one affiliate", "named", None, "conversions/s"),
)
"""Of a conversion with 2.5 affiliates on average 2.5 commissions are booked, each with its evidence."""

PLAN = {"plan": 1, "currency": CURRENCY, "rules": [{"id": "all", "pay": {"rate_bps": 10_000}}]}
AMOUNT = 1_000
SOLD_AT = START + timedelta(days=10)
# Customer n has 1 to 4 clicks, by turns of affiliates. Written by the server alone: a click that came in by its own way
# leaves the same row here, and the traffic log is not what is read.
_TOUCHES = """
INSERT INTO touches (program_id, person, occurred_at, position, originator_id, kind, offer_id, affiliate_id, channel,
                     duplicate)
SELECT %(program_id)s, 'customer:c' || n, %(start)s + k * interval '1 day' + n %% 86400 * interval '1 second',
       n * 4 + k, gen_random_uuid(), 'click', %(offer)s,
       'affiliate-' || lpad(((n * 7 + k * 3) %% %(affiliates)s)::text, 2, '0'), NULL, false
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n, generate_series(1, 4) k
 WHERE k <= 1 + n %% 4
"""
_AT_ONCE = 100_000


class Attributing:
    """The contenders, each with customers of its own turn."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.count = world, plan.size(20_000, 1_000)
        self.customers = plan.size(1_000_000, 5_000)
        self.next = 0
        world.open_program(PROGRAM)
        for offer_id, model in ((OFFER, "position_based"), (NAMED, "last_click")):
            plan_ = {**PLAN, "attribution": {"model": model}}
            world.do(PROGRAM, [PublishOffer(offer_id=offer_id)])
            world.do(PROGRAM, [PublishTerms(offer_id=offer_id, hold_days=30, window_days=30, plan=plan_)])
        with psycopg.connect(world.owner_url, autocommit=True) as conn:
            for first in range(0, self.customers, _AT_ONCE):
                self._click(conn, first, min(first + _AT_ONCE, self.customers))
            conn.execute("VACUUM ANALYZE touches")

    def _click(self, conn: psycopg.Connection[TupleRow], first: int, end: int) -> None:
        params = {"program_id": program_id(PROGRAM), "offer": OFFER, "start": START, "affiliates": AFFILIATES}
        conn.execute(_TOUCHES, {**params, "first": first, "last": end - 1})
        say(f"  {end:,} of {self.customers:,} customers clicked")

    def found(self) -> float:
        """What attribution adds to a conversion: its touches looked up, and whom they credit with how much."""
        whose, rules, credited = self._next(), AttributionRules(model="position_based"), Counter[str]()
        since, until = SOLD_AT - timedelta(days=30), SOLD_AT
        watch = Stopwatch()
        for start in range(0, self.count, BATCH):
            some = whose[start : start + BATCH]
            with watch.running(), self.world.pool.connection() as conn, conn.cursor() as cur:
                keys = [JourneyKey(f"c{customer}", None, OFFER, since, None, until) for customer in some]
                journeys = touches.journeys(cur, program_id(PROGRAM), keys)
                shares = [
                    models.credits(journeys[key], models.weights(rules, rules.model, journeys[key], SOLD_AT))
                    for key in keys
                ]
            for parts in shares:
                whole = sum(weight for _, weight in parts)
                credited.update({who: weight * AMOUNT // whole for who, weight in parts})
        self._must_equal(credited, expected(whose))
        return watch.rate(self.count)

    def _next(self) -> list[int]:
        """The customers of the next sales, all over the table: no two of a batch are neighbours."""
        self.next += self.count
        return [n * 7_919 % self.customers for n in range(self.next - self.count, self.next)]

    def _must_equal(self, found: Counter[str], wanted: Counter[str]) -> None:
        if found != wanted:
            raise BenchmarkError(f"that is not whose touches brought the sales: {found} instead of {wanted}")

    def ours(self) -> float:
        """Journeys looked up, weighed, shared out, priced, booked with their evidence, committed."""
        return self._run(OFFER)

    def named(self) -> float:
        """One affiliate each, and nothing to look up."""
        return self._run(NAMED)

    def _run(self, offer_id: str) -> float:
        whose = self._next()
        numbers = range(self.next - self.count, self.next)
        before = self._owed()
        watch = Stopwatch()
        for start in range(0, self.count, BATCH):
            with watch.running():
                commands = [
                    RecordConversion(
                        order_id=f"{offer_id}-{number}",
                        offer_id=offer_id,
                        amount=AMOUNT,
                        occurred_at=SOLD_AT,
                        customer_id=f"c{customer}",
                        affiliate_id=affiliate_of(number) if offer_id == NAMED else None,
                    )
                    for number, customer in zip(
                        numbers[start : start + BATCH], whose[start : start + BATCH], strict=True
                    )
                ]
                outcomes = self.world.ledger.execute_many(PROGRAM, commands, META)
            must_be_recorded(outcomes)
        earned = self._owed() - before
        named: Counter[str] = Counter()
        for number in numbers:
            named[affiliate_of(number)] += AMOUNT
        self._must_equal(earned, expected(whose) if offer_id == OFFER else named)
        return watch.rate(self.count)

    def _owed(self) -> Counter[str]:
        with self.world.pool.connection() as conn, conn.cursor() as cur:
            rows = books.account_balances(cur, program_id(PROGRAM), books.AsOf())
        return Counter({one["affiliate_id"]: one["pending"] for one in books.all_owed(rows)})


def expected(whose: list[int]) -> Counter[str]:
    """What 40/20/40 of some customers' sales comes to, reckoned a second time."""
    found: Counter[str] = Counter()
    for customer in whose:
        clicks = [affiliate_of(customer * 7 + k * 3) for k in range(1, 2 + customer % 4)]
        parts = {1: [1_000], 2: [500, 500], 3: [400, 200, 400], 4: [400, 100, 100, 400]}[len(clicks)]
        for who, part in zip(clicks, parts, strict=True):
            found[who] += part
    return found


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about attribution."""
    attributing = Attributing(world, plan)
    contenders = {
        "found": attributing.found,
        "promised": lambda: PROMISED,
        "ours": attributing.ours,
        "named": attributing.named,
    }
    return race(contenders, COMPARISONS, plan, checkpoint(world.server.superuser_url))
