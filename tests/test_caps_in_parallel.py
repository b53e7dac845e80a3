"""Caps and tiers while many write at once: never overshot, exactly filled; nothing counts twice, whoever is killed."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
from naive_books import check_books
from support import PROGRAM, by, open_ledger, open_shop, program_id, read_log, refund, sale
from test_concurrency import in_parallel, patiently

from ledger.application import CommissionLedger
from ledger.domain import conversion_state
from ledger.domain.conversion_state import ConversionState
from ledger.domain.event import Command
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counted, CounterKey
from ledger.domain.plans.plan import Plan
from ledger.projections import counters
from ledger.projections.counters import FIGURES
from ledger.store import codec
from ledger.store.database import Database

WRITERS, EACH = 50, 2
SOLD = WRITERS * EACH
MOST_PAID, BUDGET = 37, 4_321
TEN = [{"id": "all", "pay": {"rate_bps": 1_000}}]
BY_COUNT = {"by": "conversions", "period": "total", "level": "offer", "retroactive": True, "on_reversal": "take_back"}
STEPS = [{"from": 0, "rate_bps": 100}, {"from": SOLD // 2, "rate_bps": 200}, {"from": SOLD, "rate_bps": 300}]
PLANS: dict[str, dict[str, Any]] = {
    # 37 of a hundred are paid
    "counted": {"rules": TEN, "caps": [{"id": "c", "by": "conversions", "limit": MOST_PAID}]},
    # of 100 each: 43, and the 44th what is left
    "budgeted": {"rules": TEN, "caps": [{"id": "c", "by": "commission", "limit": BUDGET, "over": "clamp"}]},
    # the hundredth sale brings all of them to 3 %
    "tiered": {"rules": [{"id": "all", "pay": {"tiers": {**BY_COUNT, "steps": STEPS}}}]},
}


def open_plans(ledger: CommissionLedger) -> None:
    """Three offers, each with a plan that counts over all affiliates."""
    open_shop(ledger)
    for offer_id, said in PLANS.items():
        caps = [{"level": "offer", "period": "total", **cap} for cap in said.get("caps", [])]
        plan = {"plan": 1, "currency": "GBP", **said, **({"caps": caps} if caps else {})}
        msgspec.convert(plan, Plan)
        ledger.execute(PROGRAM, PublishOffer(offer_id=offer_id), by())
        ledger.execute(PROGRAM, PublishTerms(offer_id=offer_id, hold_days=30, window_days=30, plan=plan), by())


def commands(writer: int) -> list[Command]:
    """A writer's sales on every offer, by ada or bob."""
    return [
        sale(f"{offer_id}-{writer}-{number}", affiliate_id=("ada", "bob")[writer % 2], offer_id=offer_id)
        for number in range(EACH)
        for offer_id in PLANS
    ]


def folded(ledger: CommissionLedger) -> tuple[dict[str, ConversionState], Counted]:
    """Every conversion and every counter, from the log alone."""
    states: dict[str, ConversionState] = {}
    found: Counted = {}
    for row in read_log(ledger):
        if (order_id := row.state.get("order_id")) and row.topic != "ReversalRecorded":
            event = codec.decode_state(row.topic, msgspec.json.encode(row.state).decode())
            state = states[order_id] = conversion_state.fold(states.get(order_id), event)
            counting.add_up(found, counting.changes(state, event))
    return states, found


def stored(ledger: CommissionLedger) -> Counted:
    """Every counter, as the table has it."""
    columns = ", ".join((*CounterKey._fields, *FIGURES))
    with ledger.reading(PROGRAM) as (cur, id_):
        cur.execute(f"SELECT {columns} FROM plan_counters WHERE program_id = %s", (id_,))
        return {CounterKey(*row[:4]): counting.Counter(*row[4:]) for row in cur.fetchall()}


def check_nothing_is_overshot(ledger: CommissionLedger) -> None:
    """The limits of all three hold to the unit, at every position of the log; counters and books are its fold."""
    states, counted = folded(ledger)
    assert len(states) == len(PLANS) * SOLD
    commissions = {
        offer_id: [one.commission for key, one in states.items() if key.startswith(f"{offer_id}-")]
        for offer_id in PLANS
    }
    assert sorted(commissions["counted"]) == [0] * (SOLD - MOST_PAID) + [100] * MOST_PAID
    whole, rest = divmod(BUDGET, 100)
    assert sorted(commissions["budgeted"]) == [0] * (SOLD - whole - 1) + [rest] + [100] * whole
    assert commissions["tiered"] == [30] * SOLD
    assert stored(ledger) == counted
    check_books(ledger)


def ledgers(stack: ExitStack, database: Database) -> Iterator[CommissionLedger]:
    """As if in processes of their own: what one remembers of the program is news to the others."""
    for coalesce in (True, True, False):
        yield stack.enter_context(open_ledger(database, coalesce=coalesce))


def test_fifty_writers_fill_every_cap_exactly(database: Database) -> None:
    """Over three ledgers that know nothing of each other; all of it sent again changes nothing."""
    with ExitStack() as stack:
        some = list(ledgers(stack, database))
        open_plans(some[0])

        def send(writer: int) -> list[Any]:
            ledger = some[writer % len(some)]
            return [
                (answer.body, answer.position)
                for command in commands(writer)
                for answer in [patiently(lambda command=command: ledger.execute(PROGRAM, command, by()))]  # type: ignore[misc]
            ]

        first = in_parallel(WRITERS, send)
        check_nothing_is_overshot(some[0])
        before = len(read_log(some[0]))
        assert in_parallel(WRITERS, lambda writer: send(WRITERS - 1 - writer))[::-1] == first
        assert len(read_log(some[0])) == before
        # one goes back: the tier is lost for all, in one commit, whichever ledger hears of it
        some[2].execute(PROGRAM, refund("r1", "tiered-0-0"), by())
        states, counted = folded(some[1])
        tiered = [one.outstanding for key, one in states.items() if key.startswith("tiered-")]
        assert sorted(tiered) == [0] + [20] * (SOLD - 1)
        assert stored(some[1]) == counted


def write(database: Database, writers: range, ready: Any) -> None:
    """A process that sells for some of the writers."""
    with open_ledger(database) as ledger:
        ready.wait()
        for writer in writers:
            for command in commands(writer):
                patiently(lambda command=command: ledger.execute(PROGRAM, command, by()))  # type: ignore[misc]


def test_a_process_that_is_killed_overshoots_nothing(database: Database) -> None:
    """Two processes sell, one of them is killed on the way; a third sends everything, once more where it was sent."""
    spawn = multiprocessing.get_context("spawn")
    with open_ledger(database) as ledger:
        open_plans(ledger)
        ready = spawn.Event()
        parts = (range(WRITERS // 2), range(WRITERS // 2, WRITERS))
        killed, other = (spawn.Process(target=write, args=(database, part, ready)) for part in parts)
        killed.start()
        other.start()
        ready.set()
        while sold(ledger) < SOLD // 2:
            time.sleep(0.01)
        killed.kill()
        killed.join()
        everything = [command for writer in range(WRITERS) for command in commands(writer)]
        patiently(lambda: ledger.execute_many(PROGRAM, everything, by()))
        other.join()
        assert other.exitcode == 0
        check_nothing_is_overshot(ledger)


def sold(ledger: CommissionLedger) -> int:
    """How many conversions are recorded so far."""
    with ledger.reading(PROGRAM) as (cur, id_):
        cur.execute("SELECT count(*) FROM conversions WHERE program_id = %s", (id_,))
        row = cur.fetchone()
        assert row is not None
        return int(row[0])


def test_a_counter_that_was_never_counted_is_nothing(database: Database) -> None:
    """Loaded alone or with others; another program's are its own."""
    with open_ledger(database) as ledger:
        open_plans(ledger)
        ledger.execute(PROGRAM, sale("o1", offer_id="counted"), by())
        known, unknown = CounterKey("counted", "", "total", "GBP"), CounterKey("counted", "", "total", "EUR")
        with ledger.reading(PROGRAM) as (cur, id_):
            assert id_ == program_id(PROGRAM)
            found = counters.load(cur, id_, {known, unknown})
            assert counters.load(cur, program_id("other"), {known})[known] == counting.Counter()
        assert (found[known].paid_conversions, found[unknown]) == (1, counting.Counter())
