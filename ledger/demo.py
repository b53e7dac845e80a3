"""A made-up year of one affiliate program, told to the ledger by the commands that the API uses.

Everything is drawn from a seed and every record has an id of its own, so the same year told again changes nothing.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ledger.application import CommissionLedger
from ledger.batches import Outcome
from ledger.desk import Meta
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.conversion import Item
from ledger.domain.coupon import AssignCoupon
from ledger.domain.errors import DiffersFromOriginal, NotFound, Refusal, WrongState
from ledger.domain.event import Command
from ledger.domain.ids import program_id
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.store.database import Pool
from ledger.store.log import UnknownProgram, last_position
from ledger.store.vault import Secrets

YEAR = 2025
AFFILIATES = 60
CLICKS_A_WEEK = 1_250  # of 48 weeks of the simulation: 4 a month
CONVERSIONS_A_WEEK = 75
CLICKS_AT_ONCE = 5_000

MARKER = "year-end"  # the last adjustment of the year: if it is there, all of it is

ADMIN, MAKER, CHECKER = "ana.admin", "maria.maker", "omar.checker"
FEED, TRACKING, CLERK, JOB = "shop-feed", "tracking", "carla.clerk", "job:approve-due"

_FIRST = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia", "Ned", "Ola")
_LAST = ("Archer", "Baker", "Cole", "Dyer", "Evans", "Fox", "Grant", "Hale", "Irwin", "Jones", "Knight", "Lane")
_SITES = ("reviews", "deals", "style", "runner", "outdoor", "daily", "guide", "finds", "club", "weekly")

Progress = Callable[[str, int, int], None]  # (what, how many of the year's commands, of how many)


class Year(NamedTuple):
    """What the simulation did. new: False if the year was there already; events: in both logs together."""

    program: str
    new: bool
    commands: int
    events: int
    seconds: float


class _Clock:
    """The simulated present."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def program_of(seed: int) -> str:
    """The demo's program: each seed has its own."""
    return "demo" if seed == 1 else f"demo-{seed}"


def simulate(pool: Pool, secrets: Secrets, seed: int, progress: Progress) -> Year:
    """Tell the year of a seed, unless it is there. Interrupted, the same again completes it. Raises Refusal,
    psycopg.Error."""
    program = program_of(seed)
    clock = _Clock(datetime(YEAR, 1, 1, tzinfo=UTC))
    ledger = CommissionLedger(pool, secrets, clock)
    began = time.monotonic()
    if _is_complete(ledger, program):
        return Year(program, False, 0, _events(ledger, program), 0.0)
    story = _Story(ledger, program, clock, seed, progress)
    story.tell()
    return Year(program, True, story.commands, _events(ledger, program), time.monotonic() - began)


def _is_complete(ledger: CommissionLedger, program: str) -> bool:
    with ledger.reading(program) as (cur, id_):
        cur.execute(
            "SELECT status FROM directory WHERE program_id = %s AND kind = 'adjustment' AND record_id = %s",
            (id_, MARKER),
        )
        return cur.fetchone() == ("posted",)


def _events(ledger: CommissionLedger, program: str) -> int:
    with ledger.reading(program) as (cur, _):
        id_ = program_id(program)
        try:
            return last_position(cur, id_, "books") + last_position(cur, id_, "traffic")
        except UnknownProgram:
            return 0


class _Offer(NamedTuple):
    """What is promoted. typical: an order's usual amount in minor units."""

    name: str
    currency: str
    typical: int
    terms: PublishTerms


_SHOES = PublishTerms(offer_id="shoes", hold_days=30, window_days=30, rate_bps=800)
_CLUB = PublishTerms(offer_id="club", hold_days=14, window_days=60, amount=1_250, currency="GBP")
_US_STORE = PublishTerms(offer_id="us-store", hold_days=45, window_days=14, rate_bps=650)
_OFFERS = {
    "shoes": _Offer("Running shoes", "GBP", 6_500, _SHOES),
    "club": _Offer("Club membership", "GBP", 9_900, _CLUB),
    "us-store": _Offer("US store", "USD", 8_000, _US_STORE),
}
# From July on: credit is shared by the touches, better months pay better, and ten sales in a month earn a bonus.
_BETTER: dict[str, Any] = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "position_based"},
    "rules": [
        {
            "id": "shoes",
            "pay": {
                "tiers": {
                    "by": "revenue",
                    "period": "month",
                    "method": "marginal",
                    "steps": [
                        {"from": 0, "rate_bps": 800},
                        {"from": 50_000, "rate_bps": 1_000},
                        {"from": 200_000, "rate_bps": 1_200},
                    ],
                }
            },
        }
    ],
    "caps": [
        {"id": "budget", "level": "offer", "by": "commission", "period": "month", "limit": 250_000, "over": "clamp"}
    ],
    "goals": [{"id": "ten-sales", "by": "conversions", "period": "month", "target": 10, "bonus_amount": 2_500}],
}
# How a customer came to buy, and how often out of 100.
_WAYS = {"click": 82, "coupon": 8, "customer": 6, "nobody": 3, "unseen": 0.6, "unknown offer": 0.4}


class _Story:
    """The year, week by week (four weeks a month). What happens later to an order is put into the week it falls in."""

    def __init__(self, ledger: CommissionLedger, program: str, clock: _Clock, seed: int, progress: Progress) -> None:
        self._ledger, self._program, self._clock, self._progress = ledger, program, clock, progress
        self._random = random.Random(seed)
        self._affiliates = [f"{_SITES[n % len(_SITES)]}-{n + 1:02}" for n in range(AFFILIATES)]
        # A few affiliates bring most of the customers, as everywhere.
        self._weights = [1 / (rank + 2) for rank in range(AFFILIATES)]
        self._recent: list[RecordClick] = []
        self._later: defaultdict[int, list[tuple[str, Command]]] = defaultdict(list)  # week → (actor, command)
        self._numbers = {"click": 0, "order": 0}
        self._requests = 0
        self.commands = 0
        self._total = 48 * (CLICKS_A_WEEK + CONVERSIONS_A_WEEK)

    def tell(self) -> None:
        """The whole year."""
        self._open()
        for week, (start, end) in enumerate(_weeks()):
            self._clock.now = end
            self._clicks(start, end)
            self._conversions(week, start, end)
            for actor, commands in _by_actor(self._later.pop(week, [])):
                self._send(actor, commands)
            if week % 4 == 3:
                self._end_of_month(week // 4 + 1, end)
            self._progress(f"{start:%B %Y}", self.commands, self._total)
        self._propose(MARKER, self._affiliates[0], "bonus", 50_000, "The year's best partner")
        self._decide(MARKER, approve=True)

    # --- the cast ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._ledger.open_program(OpenProgram(program=self._program, currency="GBP"), self._meta(ADMIN))
        commands: list[Command] = []
        for offer_id, offer in _OFFERS.items():
            url = f"https://shop.example/{offer_id}"
            commands += [PublishOffer(offer_id=offer_id, offer_name=offer.name, landing_url=url), offer.terms]
        for number, affiliate_id in enumerate(self._affiliates):
            name = f"{_FIRST[number % len(_FIRST)]} {_LAST[number % len(_LAST)]}"
            email = f"{name.split()[0].lower()}@{affiliate_id}.example"
            commands.append(EnrolAffiliate(affiliate_id=affiliate_id, display_name=name, email=email))
            if number < AFFILIATES - 2:  # the last two still wait for an answer
                commands.append(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
        for number in range(10):
            commands.append(
                AssignCoupon(coupon=f"SAVE{number:02}", affiliate_id=self._affiliates[number * 3], offer_id="shoes")
            )
        self._send(ADMIN, commands)

    def _affiliate(self) -> str:
        return self._random.choices(self._affiliates[:-2], self._weights[:-2])[0]

    # --- a week --------------------------------------------------------------------------------------------

    def _clicks(self, start: datetime, end: datetime) -> None:
        draw = self._random
        clicks: list[RecordClick] = []
        for at in sorted(_instant(draw, start, end) for _ in range(CLICKS_A_WEEK)):
            self._numbers["click"] += 1
            number = self._numbers["click"]
            clicks.append(
                RecordClick(
                    click_id=f"click-{number:06}",
                    affiliate_id=self._affiliate(),
                    offer_id=draw.choices(("shoes", "club", "us-store"), (6, 2, 2))[0],
                    occurred_at=at,
                    customer_id=f"customer-{draw.randrange(20_000):05}" if draw.random() < 0.4 else None,
                    visitor_id=f"visitor-{number:06}",
                    sub1=f"campaign-{draw.randrange(12)}" if draw.random() < 0.3 else None,
                )
            )
        for first in range(0, len(clicks), CLICKS_AT_ONCE):
            part = clicks[first : first + CLICKS_AT_ONCE]
            self._expect(self._ledger.record_clicks(self._program, part, self._meta(TRACKING)))
        self.commands += len(clicks)
        self._recent = (self._recent + clicks)[-3 * CLICKS_A_WEEK :]

    def _conversions(self, week: int, start: datetime, end: datetime) -> None:
        orders: list[Command] = []
        for at in sorted(_instant(self._random, start, end) for _ in range(CONVERSIONS_A_WEEK)):
            order = self._order(at)
            orders.append(order)
            if self._random.random() < 0.01:  # its refund was reported before it
                self._send(FEED, [self._refund(order, "early", at + timedelta(days=1), order.amount // 2)])
            self._afterwards(week, order)
        self._send(FEED, orders)

    def _order(self, at: datetime) -> RecordConversion:
        draw = self._random
        before = [click for click in draw.sample(self._recent, 20) if click.occurred_at < at]
        click = before[0] if before else self._recent[0]
        way = draw.choices(tuple(_WAYS), tuple(_WAYS.values()))[0]
        self._numbers["order"] += 1
        number = self._numbers["order"]
        offer_id = "shoes" if way == "coupon" else click.offer_id
        offer = _OFFERS[offer_id]
        items = [self._item(offer) for _ in range(draw.choices((1, 2, 3), (6, 3, 1))[0])]
        return RecordConversion(
            order_id=f"order-{number:05}",
            offer_id="winter-sale" if way == "unknown offer" else offer_id,
            amount=sum(item.amount for item in items),
            currency=offer.currency,
            occurred_at=at,
            click_id={"click": click.click_id, "unseen": f"lost-{number:05}"}.get(way),
            coupon=f"SAVE{draw.randrange(10):02}" if way == "coupon" else None,
            customer_id=f"guest-{number:05}" if way == "nobody" else click.customer_id,
            visitor_id=None if way == "nobody" else click.visitor_id,
            items=items,
        )

    def _item(self, offer: _Offer) -> Item:
        pieces = self._random.choices((1, 2, 3), (8, 2, 1))[0]
        price = max(99, int(offer.typical * self._random.lognormvariate(-0.5, 0.5)))
        return Item(f"SKU-{self._random.randrange(400):03}", pieces, pieces * price)

    def _afterwards(self, week: int, order: RecordConversion) -> None:
        """What becomes of an order: held and decided, refunded once, twice or too much, approved early."""
        draw = self._random
        fate = draw.random()
        if fate < 0.03:
            self._later[week].append((CLERK, _decide_order(order, "hold", "the order looks unusual")))
            decision = "release" if draw.random() < 0.6 else "reject"
            self._later[week + 2].append((CLERK, _decide_order(order, decision, "the merchant looked into it")))
        elif fate < 0.05:
            self._later[week + 1].append((CLERK, _decide_order(order, "reject", "the order was a test")))
        elif fate < 0.055:
            self._later[week + 1].append((CLERK, _decide_order(order, "approve", "a long-standing partner")))
        elif fate < 0.13:
            weeks = draw.randrange(1, 10)
            at = order.occurred_at + timedelta(days=7 * weeks)
            whole = draw.random() < 0.6
            amount = order.amount if whole else order.amount // draw.randrange(2, 5)
            self._later[week + weeks].append((FEED, self._refund(order, "1", at, amount)))
            if not whole:
                second = order.amount if draw.random() < 0.1 else order.amount // 4  # sometimes more than is left
                self._later[week + weeks + 1].append((FEED, self._refund(order, "2", at + timedelta(days=6), second)))

    def _refund(self, order: RecordConversion, number: str, at: datetime, amount: int) -> RecordReversal:
        return RecordReversal(
            reversal_id=f"refund-{order.order_id}-{number}",
            order_id=order.order_id,
            occurred_at=at,
            sale_amount=amount,
            currency=order.currency,
            reason_code="returned",
        )

    # --- a month -------------------------------------------------------------------------------------------

    def _end_of_month(self, month: int, end: datetime) -> None:
        for step in self._ledger.approve_due(self._program, end, self._meta(JOB)):
            self._progress(f"approving what is due, {end:%Y-%m-%d}", self.commands + step.done, self._total)
        for _ in self._ledger.attribute_waiting(self._program, end, self._meta("job:attribute-waiting")):
            pass
        best = self._affiliates[month % 7]
        self._propose(f"bonus-{month:02}", best, "bonus", 5_000 + 500 * month, f"Best newcomer of month {month}")
        self._decide(f"bonus-{month:02}", approve=month != 8)
        if month == 5:
            self._propose("correction-05", self._affiliates[1], "correction", -3_725, "A bonus was paid twice")
            self._decide("correction-05", approve=True)
        suspended, reinstated, closed = self._affiliates[6], self._affiliates[18], self._affiliates[22]
        decisions = {
            3: [(suspended, "suspend"), (reinstated, "suspend")],
            6: [(reinstated, "reinstate")],
            9: [(closed, "close")],
        }
        for affiliate_id, decision in decisions.get(month, []):
            command = DecideAffiliate(affiliate_id=affiliate_id, decision=decision, reason="after a talk")
            self._send(ADMIN, [command])
        if month == 6:
            better = PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=_BETTER, effective_from=end)
            self._send(ADMIN, [better])

    def _propose(self, adjustment_id: str, affiliate_id: str, kind: str, amount: int, reason: str) -> None:
        command = ProposeAdjustment(
            adjustment_id=adjustment_id, affiliate_id=affiliate_id, kind=kind, amount=amount, reason=reason
        )
        self._send(MAKER, [command])

    def _decide(self, adjustment_id: str, *, approve: bool) -> None:
        self._send(CHECKER, [DecideAdjustment(adjustment_id=adjustment_id, approve=approve)])

    # --- sending -------------------------------------------------------------------------------------------

    def _meta(self, actor: str) -> Meta:
        self._requests += 1
        return Meta(actor=actor, request_id=f"{self._program}-{self._requests}")

    def _send(self, actor: str, commands: Sequence[Command]) -> None:
        self._expect(self._ledger.execute_many(self._program, commands, self._meta(actor)))
        self.commands += len(commands)

    def _expect(self, outcomes: Sequence[Outcome]) -> None:
        """A clerk may come too late (the order was refunded meanwhile), as in life; anything else is our mistake."""
        for outcome in outcomes:
            if isinstance(outcome, Refusal) and not isinstance(outcome, WrongState | NotFound | DiffersFromOriginal):
                raise outcome


def _weeks() -> Iterator[tuple[datetime, datetime]]:
    """Four a month: from the 1st, 8th, 15th and 22nd, the last one to the month's end."""
    for month in range(1, 13):
        starts = [datetime(YEAR, month, day, tzinfo=UTC) for day in (1, 8, 15, 22)]
        ends = [*starts[1:], datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC)]
        yield from zip(starts, ends, strict=True)


def _instant(draw: random.Random, start: datetime, end: datetime) -> datetime:
    return start + timedelta(seconds=draw.randrange(int((end - start).total_seconds())))


def _decide_order(order: RecordConversion, decision: str, reason: str) -> DecideConversion:
    return DecideConversion(order_id=order.order_id, decision=decision, reason=reason)


def _by_actor(things: Sequence[tuple[str, Command]]) -> Iterator[tuple[str, list[Command]]]:
    found: defaultdict[str, list[Command]] = defaultdict(list)
    for actor, command in things:
        found[actor].append(command)
    yield from found.items()
