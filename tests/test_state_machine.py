"""Any mix of commands leaves books that are the fold of the log, on every axis, whoever wrote and in whatever order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from naive_books import check_books
from support import T0, Clock, by, open_ledger, open_shop, program_id, refund, sale, trial

from ledger.application import CommissionLedger
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.coupon import AssignCoupon
from ledger.domain.errors import Refusal
from ledger.domain.event import Answer, Command
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishTerms
from ledger.domain.recording import RecordConversion
from ledger.domain.resolution import ResolveException
from ledger.domain.reversal import RecordReversal
from ledger.projections import directory
from ledger.projections.rebuild import rebuild
from ledger.store.database import Database

_programs = itertools.count(1)

AFFILIATES = ("ada", "bob")
# Few orders and few amounts, so that commands meet: a refund of just what is left, a rejection of what is held.
ORDERS = st.sampled_from(["o0", "o1", "o2", "o3"])
AMOUNTS = st.one_of(st.sampled_from([0, 1, 5, 1000, 1001, 1970]), st.integers(0, 10**7))
DAYS = st.integers(0, 40)
CLAIMS = st.sampled_from(
    [{"affiliate_id": "ada"}, {"affiliate_id": "ada"}, {"affiliate_id": "bob"},
     {"affiliate_id": "bob", "coupon": "TEN"}, {"affiliate_id": None, "click_id": "k0"},
     {"affiliate_id": None, "click_id": "k1"}, {"affiliate_id": None, "customer_id": "c0"},
     {"affiliate_id": None}, {"affiliate_id": "nobody"}, {"affiliate_id": "ada", "offer_id": "gloves"}]
)  # fmt: skip
SALES = st.builds(
    lambda order, amount, day, claim: sale(order, amount, occurred_at=T0 + timedelta(days=day), **claim),
    ORDERS, AMOUNTS, DAYS, CLAIMS,
)  # fmt: skip
REFUNDS = st.builds(
    lambda n, order, amount, day: refund(f"r{n}-{order}", order, amount, occurred_at=T0 + timedelta(days=day)),
    st.integers(0, 5), ORDERS, st.one_of(st.none(), AMOUNTS), DAYS,
)  # fmt: skip
DECISIONS = st.builds(
    lambda order, decision: DecideConversion(order_id=order, decision=decision, reason="because"),
    ORDERS,
    st.sampled_from(["hold", "release", "approve", "reject"]),
)


class Commands(RuleBasedStateMachine):
    """Two processes write one program's books; each remembers what it knew, and neither may trust it wrongly."""

    ledgers: tuple[CommissionLedger, CommissionLedger]
    clock: Clock

    @initialize()
    def open(self) -> None:
        self.program = f"shop{next(_programs)}"
        self.clock.now = T0 + timedelta(days=10)
        self.numbers = itertools.count(1)
        self.recorded: list[tuple[Command, Answer]] = []
        open_shop(self.ledgers[0], self.program)
        self.send(0, AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes"))
        self.one(1, sale("o0", 1000))
        self.one(0, sale("o1", 1970, "bob"))

    def send(self, process: int, command: Command, actor: str = "ana") -> Answer | None:
        """Any refusal will do; anything else is a bug."""
        try:
            return self.ledgers[process].execute(self.program, command, by(actor))
        except Refusal:
            return None

    @rule(process=st.integers(0, 1), command=st.one_of(SALES, SALES, REFUNDS, DECISIONS))
    def one(self, process: int, command: Command) -> None:
        answer = self.send(process, command)
        if answer is not None and isinstance(command, RecordConversion | RecordReversal):
            again = self.send(1 - process, command)
            assert again is not None
            assert (again.body, again.position) == (answer.body, answer.position), "a retry hears the same"
            if answer.outcome == "recorded":
                self.recorded.append((command, answer))

    @rule(process=st.integers(0, 1), number=st.integers(0, 100))
    def send_again(self, process: int, number: int) -> None:
        """However much has come since: the position of the first answer, and of a sale its whole body."""
        if self.recorded:
            command, answer = self.recorded[number % len(self.recorded)]
            again = self.send(process, command)
            assert again is not None
            assert again.position == answer.position
            assert again.body == answer.body or not isinstance(command, RecordConversion)

    @rule(process=st.integers(0, 1), commands=st.lists(st.one_of(SALES, REFUNDS, DECISIONS), min_size=2, max_size=40))
    def many(self, process: int, commands: list[Command]) -> None:
        for outcome in self.ledgers[process].execute_many(self.program, commands, by()):
            assert isinstance(outcome, Answer) or outcome.code != "refused", "no command breaks its batch"

    @rule(process=st.integers(0, 1), affiliate_id=st.sampled_from(AFFILIATES))
    def suspend_or_reinstate(self, process: int, affiliate_id: str) -> None:
        if self.send(process, DecideAffiliate(affiliate_id=affiliate_id, decision="suspend")) is None:
            return
        self.send(1 - process, sale(f"s{next(self.numbers)}", 777, affiliate_id))
        self.send(process, DecideAffiliate(affiliate_id=affiliate_id, decision="reinstate"))

    @rule(process=st.integers(0, 1))
    def suspend_for_good(self, process: int) -> None:
        self.send(process, DecideAffiliate(affiliate_id="bob", decision="suspend"))

    @rule(process=st.integers(0, 1), days=st.integers(0, 60))
    def approve_due(self, process: int, days: int) -> None:
        list(self.ledgers[process].approve_due(self.program, T0 + timedelta(days=days), by("job")))

    @rule(process=st.integers(0, 1), number=st.integers(0, 1), day=DAYS)
    def click(self, process: int, number: int, day: int) -> None:
        at = T0 + timedelta(days=day)
        click = RecordClick(
            click_id=f"k{number}", affiliate_id=AFFILIATES[number], offer_id="shoes", occurred_at=at, customer_id="c0"
        )
        self.ledgers[process].record_clicks(self.program, [click], by())

    @rule(process=st.integers(0, 1), hours=st.integers(0, 100))
    def attribute_waiting(self, process: int, hours: int) -> None:
        list(self.ledgers[process].attribute_waiting(self.program, self.clock.advance(hours=hours), by("job")))

    @rule(process=st.integers(0, 1), rate_bps=st.integers(0, 3000))
    def new_terms(self, process: int, rate_bps: int) -> None:
        self.clock.advance(minutes=1)
        self.send(process, PublishTerms(offer_id="shoes", hold_days=5, window_days=20, rate_bps=rate_bps))

    @rule(
        process=st.integers(0, 1),
        amount=st.integers(-(10**6), 10**6).filter(bool),
        currency=st.sampled_from(["GBP", "EUR"]),
    )
    def adjust(self, process: int, amount: int, currency: str) -> None:
        id_ = f"j{next(self.numbers)}"
        self.send(
            process,
            ProposeAdjustment(
                adjustment_id=id_, affiliate_id="ada", kind="correction", amount=amount, reason="r", currency=currency
            ),
        )
        self.send(1 - process, DecideAdjustment(adjustment_id=id_, approve=True), "cyd")

    @rule(process=st.integers(0, 1), action=st.sampled_from(["retry", "dismiss"]))
    def resolve(self, process: int, action: str) -> None:
        with self.ledgers[0].reading(self.program) as (cur, id_):
            open_ones = directory.page(cur, id_, "exception", status="open", limit=1)
        for one in open_ones:
            self.send(process, ResolveException(exception_id=one.record_id, action=action, reason="seen"))

    @rule(process=st.integers(0, 1))
    def rebuild(self, process: int) -> None:
        """The live books equal their rebuild, which then takes their place under both processes."""
        report = rebuild(self.ledgers[process].pool, program_id(self.program))
        assert report.equal, report.different

    @rule(process=st.integers(0, 1), minutes=st.integers(-1000, 1000), command=DECISIONS)
    def move_the_clock(self, process: int, minutes: int, command: Command) -> None:
        """Also backwards: recorded_at never falls all the same."""
        self.clock.advance(minutes=minutes)
        self.send(process, command)

    @invariant()
    def the_books_are_the_fold_of_the_log(self) -> None:
        if hasattr(self, "program"):
            check_books(self.ledgers[0], self.program)


@pytest.fixture
def two_processes(database: Database) -> Iterator[tuple[tuple[CommissionLedger, CommissionLedger], Clock]]:
    """Two ledgers on one database, as two processes have them, going by one clock."""
    clock = Clock()
    with open_ledger(database, clock) as first, open_ledger(database, clock) as second:
        yield (first, second), clock


def test_the_books_are_the_fold_of_the_log(
    two_processes: tuple[tuple[CommissionLedger, CommissionLedger], Clock],
) -> None:
    """After every command, from either process: the live books equal a naive fold, sums are zero, balances as of any
    point of either axis equal the fold of what was known then, and the running balances agree."""

    class Machine(Commands):
        ledgers, clock = two_processes

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@given(
    amounts=st.lists(AMOUNTS, min_size=1, max_size=3),
    parts=st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 1000))), max_size=6),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
def test_the_end_does_not_depend_on_the_order_of_arrival(
    two_processes: tuple[tuple[CommissionLedger, CommissionLedger], Clock],
    amounts: list[int],
    parts: list[tuple[int, int | None]],
    seed: int,
) -> None:
    """Sales and their reversals in whatever order they arrive, one by one or in a batch, approved early or late: the
    same books. (Reversals of one order stay in their order: which of two is above the rest depends on it.)"""
    ledger, chance = two_processes[0][0], random.Random(seed)
    sales: list[Command] = [sale(f"o{n}", amount) for n, amount in enumerate(amounts)]
    refunds: list[Command] = [refund(f"r{n}", f"o{o}", amount) for n, (o, amount) in enumerate(parts) if o < len(sales)]
    ends = []
    for arrival in ("sales first", "reversals first", "mixed", "mixed in a batch"):
        program = f"order{next(_programs)}"
        open_shop(ledger, program, rate_bps=1234)
        commands = refunds + sales if arrival == "reversals first" else sales + refunds
        if arrival.startswith("mixed"):
            slots = [chance.random() for _ in refunds]
            keyed = [(chance.random(), one) for one in sales] + list(zip(sorted(slots), refunds, strict=True))
            commands = [one for _, one in sorted(keyed, key=lambda pair: pair[0])]
        if arrival == "mixed in a batch":
            ledger.execute_many(program, commands, by())
        else:
            for number, command in enumerate(commands):
                ledger.execute(program, command, by())
                if arrival == "mixed" and number % 2:
                    list(ledger.approve_due(program, T0 + timedelta(days=60), by("job")))
        list(ledger.approve_due(program, T0 + timedelta(days=60), by("job")))
        check_books(ledger, program)
        ends.append(trial(ledger, program))
    assert ends[1:] == ends[:-1]
