"""A firm whose books have everything that a journal may stumble over: what the tests of journals share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from statement_world import Firm, local
from support import Clock, open_ledger

from ledger.application import CommissionLedger
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.bank import RecordBankLine
from ledger.domain.recording import RecordConversion
from ledger.journals.writing import Asked, open_journal
from ledger.projections import books
from ledger.store.database import Database

ZONE = "America/New_York"
ODD = ("a.b_c-1", "Ada", "-x", "_", "X-cAda", "program", "1st", "vat")
NASTY = '=1+1; "x", | a)  b [2026-01-01] date:1 %2C ü \\ {affiliate}'
CURRENCIES = ("GBP", "USD", "JPY", "KWD")


def at(*when: int) -> datetime:
    """An instant by the clocks of New York."""
    return local(ZONE, *when)


def journal(ledger: CommissionLedger, program: str, kind: str, **how: Any) -> bytes:
    """A journal's text."""
    with open_journal(ledger, program, Asked(kind, **how)) as made:
        return b"".join(made.pieces)


def held(ledger: CommissionLedger, program: str, as_of: books.AsOf) -> dict[tuple[str, str], int]:
    """What every account of a program holds, without the empty ones."""
    with ledger.reading(program) as (cur, id_):
        rows = books.account_balances(cur, id_, as_of)
    return {(account, currency): amount for account, currency, amount in rows if amount}


class Books:
    """The firm, and what was exported of February when it had just been closed."""

    def __init__(self, ledger: CommissionLedger, clock: Clock) -> None:
        self.firm = Firm(ledger, clock, "firm", ZONE)
        self.ledger, self.clock = ledger, clock
        self.early: dict[str, bytes] = {}

    def export(self, kind: str, **how: Any) -> bytes:
        """A journal of the firm."""
        return journal(self.ledger, self.firm.program, kind, **how)

    def held(self, as_of: books.AsOf = books.AsOf()) -> dict[tuple[str, str], int]:  # noqa: B008
        """What every account holds by the ledger, without the empty ones."""
        return held(self.ledger, self.firm.program, as_of)

    def sell(self, order_id: str, amount: int, affiliate_id: str, currency: str, when: datetime) -> None:
        """A sale in some currency. None is recorded more than a day before it happens."""
        self.clock.now = max(self.clock.now, when - timedelta(hours=23))
        self.firm.do(
            RecordConversion(
                order_id=order_id, offer_id="shoes", amount=amount, affiliate_id=affiliate_id, occurred_at=when,
                currency=currency,
            )
        )  # fmt: skip

    def adjust(self, adjustment_id: str, amount: int, affiliate_id: str, currency: str, when: datetime) -> None:
        """A bonus or correction in some currency."""
        kind = "bonus" if amount > 0 else "correction"
        what: dict[str, Any] = {"affiliate_id": affiliate_id, "kind": kind, "amount": amount, "currency": currency}
        self.firm.do(ProposeAdjustment(adjustment_id=adjustment_id, reason="agreed", effective_at=when, **what))
        self.firm.do(DecideAdjustment(adjustment_id=adjustment_id, approve=True), "ben")

    def bank(self, line_id: str, amount: int, payout_id: str = "", kind: str = "payment", charges: int = 0) -> None:
        """A line of the bank's, of today."""
        self.firm.do(
            RecordBankLine(
                line_id=line_id, booked_on=self.clock.now.date(), amount=amount, currency="GBP",
                end_to_end_id=payout_id, kind=kind, charges=charges,
            )
        )  # fmt: skip


@contextmanager
def open_books(database: Database) -> Iterator[Books]:
    """January closed and issued again, February closed, March going on."""
    clock = Clock(at(2026, 1, 2))
    with open_ledger(database, clock) as ledger:
        world = Books(ledger, clock)
        world.firm.register_payees()
        for affiliate_id in ODD:
            world.firm.do(EnrolAffiliate(affiliate_id=affiliate_id))
            world.firm.do(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
        _january(world)
        _february(world)
        _march(world)
        yield world


def _january(world: Books) -> None:
    firm, clock = world.firm, world.clock
    for n, affiliate_id in enumerate((*ODD, "ada", "bob")):
        for currency in CURRENCIES:
            world.sell(f"{currency} {n}", 123_457 + 1000 * n, affiliate_id, currency, at(2026, 1, 5, n))
    world.sell("before the first period", 40_000, "bob", "GBP", at(2025, 12, 30))
    world.sell(NASTY, 20_005, "a.b_c-1", "KWD", at(2026, 1, 6))
    world.sell("last minute", 10_000, "ada", "GBP", at(2026, 1, 31, 23, 30))  # February in UTC
    clock.now = at(2026, 1, 20)
    firm.refund("GBP 0", 5_003)
    firm.approve_due()
    firm.refund("JPY 1")
    world.adjust("bonus", 4_000, "Ada", "JPY", at(2026, 1, 21))
    world.adjust("correction", -1_234_567, "-x", "KWD", at(2026, 1, 22))
    clock.now = at(2026, 2, 3)
    firm.approve_due()
    world.sell("known early", 30_000, "ada", "USD", at(2026, 2, 2))  # the cut knows it, and it is February's
    firm.close("2026-01")
    paid = {row.affiliate_id: row for row in firm.pay("2026-01")}
    clock.now = at(2026, 2, 5)
    world.bank("b1", -paid["ada"].transfer_amount - 150, paid["ada"].payout_id, charges=150)
    firm.outcome(paid["bob"].payout_id, "fail")


def _february(world: Books) -> None:
    firm, clock = world.firm, world.clock
    clock.now = at(2026, 2, 10)
    world.sell("late in version 2", 70_000, "Ada", "GBP", at(2026, 1, 7))
    firm.reissue("2026-01")
    world.sell("late in February", 80_000, "1st", "KWD", at(2026, 1, 8))
    clock.now = at(2026, 3, 2, 12)
    world.sell("late and after the end", 90_000, "1st", "JPY", at(2026, 1, 9))
    firm.approve_due()
    firm.close("2026-02")
    world.early = {kind: world.export(kind, period="2026-02") for kind in ("hledger", "beancount", "csv")}
    paid = firm.pay("2026-02")
    clock.now = at(2026, 3, 4)
    for row in paid:
        firm.outcome(row.payout_id, "settle", date(2026, 3, 4))
    firm.outcome(paid[0].payout_id, "return", date(2026, 3, 4))


def _march(world: Books) -> None:
    firm, clock = world.firm, world.clock
    clock.now = at(2026, 3, 20)
    world.bank("fee", -275, kind="fee")
    world.sell("march", 55_555, "ada", "KWD", at(2026, 3, 8, 12))  # the day the clocks change
    world.sell("late again", 66_666, "bob", "USD", at(2026, 2, 8))
    firm.approve_due()
    clock.now = at(2026, 4, 2)
    world.sell("april", 77_777, "bob", "USD", datetime(2026, 4, 1, 4, tzinfo=UTC))  # midnight in New York
