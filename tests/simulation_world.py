"""A program with everything that a simulation has to decide again: two versions of terms, tiers that reach back, caps,
goals, shared credit, a recruiter, returning customers, reversals (early ones, too) and rejections."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from support import PROGRAM, T0, Clock, by, ok, open_ledger

from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate, GroupAffiliate, RecruitAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.event import Command
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.domain.rates import RecordRate
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.simulating.report import Simulated, simulated
from ledger.simulating.trial import trial_of
from ledger.store.database import Database

AFFILIATES = ("ada", "bob", "cyd", "dan", "eve")
ORDERS, CUSTOMERS, DAYS = 300, 40, 60
PLAN: dict[str, Any] = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "position_based"},
    "rules": [
        {"id": "lead", "when": {"event": ["lead"]}, "pay": {"amount": 300}},
        {"id": "back", "when": {"customer": "returning"}, "pay": {"tiers": {
            "by": "revenue", "period": "month", "method": "marginal",
            "steps": [{"from": 0, "rate_bps": 400}, {"from": 20000, "rate_bps": 600}]}}},
        {"id": "all", "pay": {"tiers": {
            "by": "conversions", "period": "month", "retroactive": True, "on_reversal": "take_back",
            "steps": [{"from": 0, "rate_bps": 500}, {"from": 5, "rate_bps": 800}, {"from": 12, "rate_bps": 1000}]}}},
    ],
    "min_amount": 20,
    "max_amount": 900,
    "caps": [
        {"id": "week", "level": "affiliate", "by": "commission", "period": "week", "limit": 4000, "over": "clamp"},
        {"id": "few", "level": "offer", "by": "conversions", "period": "day", "limit": 12},
    ],
    "goals": [{"id": "ten", "by": "conversions", "period": "month", "target": 10, "bonus_amount": 700,
               "on_reversal": "take_back"}],
    "second_level": {"of": "commission", "rate_bps": 1000},
    "overrides": [{"id": "gold", "groups": ["gold"], "max_amount": 1500}],
}  # fmt: skip
TERMS: dict[str, Any] = {"hold_days": 14, "window_days": 30, "plan": PLAN}


class Shop(NamedTuple):
    """An open ledger with the history."""

    ledger: CommissionLedger
    clock: Clock


@contextmanager
def open_history(database: Database, seed: int = 5, days: int = DAYS) -> Iterator[Shop]:
    """The program with its history of some two months, and its ledger."""
    clock = Clock(T0)
    with open_ledger(database, clock) as ledger:
        _begin(ledger)
        draw = random.Random(seed)
        sold: list[str] = []
        for day in range(days):
            clock.now = T0 + timedelta(days=day)
            if day == 20:
                ok(ledger.execute(PROGRAM, PublishTerms(offer_id="shoes", **TERMS), by()))
                _do(ledger, GroupAffiliate(affiliate_id="eve", group="gold"))
            _rate(ledger, clock)
            _clicks(ledger, draw, clock)
            _day(ledger, draw, clock, day, sold)
        clock.advance(days=1)
        yield Shop(ledger, clock)


def _do(ledger: CommissionLedger, *commands: Command) -> None:
    for outcome in ledger.execute_many(PROGRAM, commands, by()):
        ok(outcome)


def _begin(ledger: CommissionLedger) -> None:
    ledger.open_program(OpenProgram(program=PROGRAM, currency="GBP", zone="Europe/Berlin"), by())
    for affiliate_id in AFFILIATES:
        _do(
            ledger,
            EnrolAffiliate(affiliate_id=affiliate_id),
            DecideAffiliate(affiliate_id=affiliate_id, decision="approve"),
        )
    _do(
        ledger,
        RecruitAffiliate(affiliate_id="bob", recruiter_id="dan"),
        PublishOffer(offer_id="shoes"),
        PublishTerms(offer_id="shoes", hold_days=30, window_days=30, rate_bps=700),
        PublishOffer(offer_id="hats"),
        PublishTerms(offer_id="hats", hold_days=30, window_days=30, rate_bps=100),
    )


def _rate(ledger: CommissionLedger, clock: Clock) -> None:
    rate = f"0.8{clock.now.day:02}"
    _do(ledger, RecordRate(base="EUR", quote="GBP", rate=rate, as_of=clock.now, source="test"))


def _clicks(ledger: CommissionLedger, draw: random.Random, clock: Clock) -> None:
    clicks = [
        RecordClick(
            affiliate_id=draw.choice(AFFILIATES),
            offer_id="shoes",
            occurred_at=clock.now - timedelta(hours=draw.choice((0, 0, 30, 70))),  # some are told late
            click_id=f"click-{clock.now:%m%d}-{n}",
            customer_id=f"c{draw.randrange(CUSTOMERS)}",
            channel=draw.choice(("direct", "mail", "search")),
        )
        for n in range(8)
    ]
    for outcome in ledger.record_clicks(PROGRAM, clicks, by()):
        ok(outcome)


def _day(ledger: CommissionLedger, draw: random.Random, clock: Clock, day: int, sold: list[str]) -> None:
    fresh = [f"o{day}-{n}" for n in range(draw.randrange(2 * ORDERS // DAYS))]
    commands: list[Command] = []
    for order_id in fresh:
        if draw.random() < 0.05:  # before its sale is known
            commands.append(RecordReversal(reversal_id=f"early-{order_id}", order_id=order_id, occurred_at=clock.now))
        commands.append(_sale(draw, order_id, clock))
    _do(ledger, *commands)
    sold += fresh
    clock.advance(hours=5)
    later: list[Command] = []
    for n in range(min(2, len(sold))):
        order_id, back = draw.choice(sold), draw.choice((None, 100))
        later.append(
            RecordReversal(reversal_id=f"r{day}-{n}", order_id=order_id, occurred_at=clock.now, sale_amount=back)
        )
    if sold and draw.random() < 0.3:
        later.append(DecideConversion(order_id=draw.choice(sold), decision=draw.choice(("reject", "hold", "approve")),
                                      reason="as asked"))  # fmt: skip
    ledger.execute_many(PROGRAM, later, by())  # some are refused: what is reversed is not rejected


def _sale(draw: random.Random, order_id: str, clock: Clock) -> RecordConversion:
    lead = draw.random() < 0.1
    return RecordConversion(
        order_id=order_id,
        offer_id=draw.choices(("shoes", "hats"), (9, 1))[0],
        amount=0 if lead else draw.randrange(200, 9000),
        occurred_at=clock.now - timedelta(hours=draw.randrange(60)),
        currency=draw.choices(("GBP", "EUR"), (5, 1))[0],
        customer_id=f"c{draw.randrange(CUSTOMERS)}" if draw.random() < 0.8 else None,
        affiliate_id=draw.choice(AFFILIATES) if draw.random() < 0.5 else None,
        event_id="lead" if lead else None,
    )


@contextmanager
def simulation(shop: Shop, terms: dict[str, Any] | None = None, model: str | None = None, **more: Any) -> (
    Iterator[Simulated]
):  # fmt: skip
    """A simulation of the history."""
    trial = trial_of("shoes", terms, model, more.get("since"), more.get("until"))
    with shop.ledger.pool.connection() as conn, simulated(conn, PROGRAM, shop.ledger.secrets, trial) as found:
        yield found
