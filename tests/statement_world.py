"""A firm that sells, pays and closes periods: what the tests of statements, of their API and of their verbs share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from support import T0, Clock, by, open_ledger, program_id

from ledger import payruns, presenting
from ledger.application import CommissionLedger
from ledger.closing import close_period, reissue_period
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.event import Command
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout_method import DecidePayoutMethod, ProposePayoutMethod
from ledger.domain.period import month_of
from ledger.domain.program import OpenProgram
from ledger.domain.proposing import DecideRun
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.domain.tax import DecideTaxRules, ProposeTaxRules, RecordTaxProfile, TaxRule
from ledger.payouts import payees
from ledger.presenting import Found
from ledger.projections import payouts, periods
from ledger.projections.payouts import PayoutRow
from ledger.projections.periods import Cut
from ledger.statements.document import StatementLine
from ledger.store.database import Database

AFFILIATES = ("ada", "bob")


class Mark(NamedTuple):
    """A journal line as it stands in the table."""

    position: int
    line_no: int
    affiliate_id: str
    effective_at: datetime


class Firm:
    """A program of its own in GBP; hold of 10 days, 10 percent."""

    def __init__(self, ledger: CommissionLedger, clock: Clock, program: str = "firm", zone: str = "UTC") -> None:
        self.ledger, self.clock, self.program, self.zone = ledger, clock, program, zone
        ledger.open_program(OpenProgram(program=program, currency="GBP", zone=zone), by())
        for affiliate_id in AFFILIATES:
            self.do(EnrolAffiliate(affiliate_id=affiliate_id, display_name=f"{affiliate_id.title()} & Co <b>"))
            self.do(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
        self.do(PublishOffer(offer_id="shoes"))
        self.do(PublishTerms(offer_id="shoes", rate_bps=1000, hold_days=10, window_days=30))

    def do(self, command: Command, actor: str = "ana") -> Any:
        """A command's answer."""
        return self.ledger.execute(self.program, command, by(actor))

    def sell(self, order_id: str, amount: int, affiliate_id: str = "ada", at: datetime | None = None) -> None:
        """A sale, now unless said otherwise."""
        self.do(
            RecordConversion(
                order_id=order_id,
                offer_id="shoes",
                amount=amount,
                affiliate_id=affiliate_id,
                occurred_at=at or self.clock.now,
            )
        )

    def refund(self, order_id: str, amount: int | None = None, at: datetime | None = None) -> None:
        """Some of a sale, or all that is left, is taken back."""
        self.do(
            RecordReversal(
                reversal_id=f"r-{order_id}-{self.clock.now:%j%H%M}",
                order_id=order_id,
                sale_amount=amount,
                occurred_at=at or self.clock.now,
            )
        )

    def adjust(self, adjustment_id: str, amount: int, affiliate_id: str = "ada", at: datetime | None = None) -> None:
        """A bonus or correction by two people."""
        kind = "bonus" if amount > 0 else "correction"
        self.do(
            ProposeAdjustment(
                adjustment_id=adjustment_id,
                affiliate_id=affiliate_id,
                kind=kind,
                amount=amount,
                reason="agreed",
                effective_at=at,
            )
        )
        self.do(DecideAdjustment(adjustment_id=adjustment_id, approve=True), "ben")

    def approve_due(self) -> None:
        """Approve what has matured."""
        for _ in self.ledger.approve_due(self.program, self.clock.now, by()):
            pass

    def close(self, period: str, ends_at: datetime | None = None) -> Cut:
        """Close a period to its end."""
        for _ in close_period(self.ledger, self.program, period, by(), ends_at):
            pass
        return self.cut(period)

    def reissue(self, period: str, version: int = 2) -> Cut:
        """A new version of a period's statements."""
        for _ in reissue_period(self.ledger, self.program, period, version, "asked for", by()):
            pass
        return self.cut(period)

    def cut(self, period: str, version: int | None = None) -> Cut:
        """A closed period's cut."""
        with self.ledger.reading(self.program) as (cur, id_):
            found = periods.cut(cur, id_, period, version)
        assert found is not None
        return found

    def statement(self, affiliate_id: str, period: str, version: int | None = None) -> Found:
        """A statement, proven against its hash."""
        return presenting.verify_statement(self.ledger, self.program, affiliate_id, period, version)

    def lines(self, found: Found) -> list[StatementLine]:
        """A statement's lines."""
        with presenting.read_lines(self.ledger, self.program, found) as lines:
            return list(lines())

    def journal(self) -> list[Mark]:
        """Every line about an affiliate, as anybody with SQL sees it."""
        with self.ledger.reading(self.program) as (cur, id_):
            cur.execute(
                "SELECT position, line_no, affiliate_id, effective_at FROM journal"
                " WHERE program_id = %s AND affiliate_id <> ''",
                (id_,),
            )
            return [Mark(*row) for row in cur]

    # --- paying ------------------------------------------------------------------------------------------

    def register_payees(self, taxed: bool = True) -> None:
        """A PayPal address for everybody, and taxes: VAT on top for ada, withholding for bob."""
        id_ = program_id(self.program)
        for affiliate_id in AFFILIATES:
            details = payees.check_details("paypal", {"email": f"{affiliate_id}@example.com"}, "GBP")
            key = self.ledger.secrets.fingerprint_key(id_)
            fingerprint = payees.fingerprint(id_, "paypal", details, key)
            common: dict[str, Any] = {"affiliate_id": affiliate_id, "currency": "GBP", "fingerprint": fingerprint}
            self.do(ProposePayoutMethod(method="paypal", minimum_amount=100, details=details, **common))
            self.do(DecidePayoutMethod(method_version=1, approve=True, **common), "ben")
        if taxed:
            rules = [TaxRule("DE", "business", 1900, 0), TaxRule("US", "person", 0, 1500)]
            self.do(ProposeTaxRules(rules=rules))
            self.do(DecideTaxRules(rules_version=1, approve=True), "ben")
            self.do(RecordTaxProfile(affiliate_id="ada", country="DE", tax_status="business", tax_number="DE123"))
            self.do(RecordTaxProfile(affiliate_id="bob", country="US", tax_status="person", tax_number="=7"))
        self.clock.advance(hours=73)  # until the payout methods are in force

    def pay(self, period: str) -> list[PayoutRow]:
        """Initiate what a closed period owes, and render its files. Returns the payouts on their way."""
        answer = payruns.propose(self.ledger, self.program, period=period, currency="GBP", method="paypal", meta=by())
        if answer.body["status"] == "nothing_to_pay":
            return []
        run_id = answer.body["run_id"]
        proposed = payruns.load_run(self.ledger, self.program, run_id).proposed
        assert proposed is not None
        self.do(DecideRun(run_id=run_id, approve=True, hash=proposed.hash), "ben")
        payruns.initiate(self.ledger, self.program, run_id, by())
        payruns.render(self.ledger, self.program, run_id, by())
        with self.ledger.reading(self.program) as (cur, id_):
            return [row for row in payouts.of_run(cur, id_, run_id) if row.status == "initiated"]

    def outcome(self, payout_id: str, outcome: str, booked_on: date | None = None) -> None:
        """What became of a payout."""
        self.do(DecidePayout(payout_id=payout_id, outcome=outcome, reason="the bank says so", booked_on=booked_on))


@contextmanager
def open_firm(database: Database, program: str = "firm", zone: str = "UTC", now: datetime = T0) -> Iterator[Firm]:
    """A firm on a database."""
    clock = Clock(now)
    with open_ledger(database, clock) as ledger:
        yield Firm(ledger, clock, program, zone)


def random_history(firm: Firm, seed: int, months: int = 3, steps: int = 40) -> list[str]:
    """Sales, refunds, adjustments, payouts and their outcomes in random order, often recorded long after they happened;
    periods are closed at random after they are over. Returns the closed periods, oldest first."""
    draw = random.Random(seed)
    firm.register_payees(taxed=bool(seed % 2))
    closed: list[str] = []
    orders: list[tuple[str, datetime]] = []
    waiting: list[PayoutRow] = []
    next_up = "2026-01"
    for step in range(steps):
        firm.clock.advance(hours=draw.uniform(1, 24 * 60 * months / steps))
        now = firm.clock.now
        for n in range(draw.randint(0, 3)):
            at = max(T0, now - timedelta(hours=draw.choice((0, 1, 30, 800))))
            firm.sell(f"o{step}-{n}", draw.randint(1, 90_000), draw.choice(AFFILIATES), at)
            orders.append((f"o{step}-{n}", at))
        if orders and draw.random() < 0.4:
            order_id, at = draw.choice(orders)
            firm.refund(order_id, draw.choice((None, 1)), at + (now - at) * draw.random())
        if draw.random() < 0.2:
            back = draw.choice((None, max(T0, now - timedelta(days=40))))
            firm.adjust(f"a{step}", draw.choice((-700, 900)), draw.choice(AFFILIATES), back)
        firm.approve_due()
        if waiting and draw.random() < 0.5:
            _end(firm, waiting.pop(), draw)
        if draw.random() < 0.5 and next_up < month_of(now, firm.zone):
            firm.close(next_up)
            closed.append(next_up)
            waiting += firm.pay(next_up)
            next_up = month_of(firm.cut(next_up).ends_at, firm.zone)
    return closed


def _end(firm: Firm, payout: PayoutRow, draw: random.Random) -> None:
    outcome = draw.choice(("settle", "fail", "return"))
    if outcome == "return":
        firm.outcome(payout.payout_id, "settle")
        firm.clock.advance(days=2)
    firm.outcome(payout.payout_id, outcome)


def months(first: str, count: int) -> Sequence[str]:
    """'2026-01', 3 → January to March."""
    year, number = int(first[:4]), int(first[5:]) - 1
    return [f"{year + (number + n) // 12}-{(number + n) % 12 + 1:02}" for n in range(count)]


def local(zone: str, *when: int) -> datetime:
    """An instant by a zone's wall clock, in UTC."""
    return datetime(*when, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[misc, arg-type]
