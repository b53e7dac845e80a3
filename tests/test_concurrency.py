"""Many writers, one log: nothing is skipped, nothing counts twice, and each command succeeds or fails alone."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import psycopg
import pytest
from naive_books import check_books
from support import PROGRAM, T0, Clock, balance, by, open_ledger, open_shop, owner, program_id, read_log, refund, sale

from ledger.application import CommissionLedger
from ledger.domain.adjustment import AdjustmentPosted, ProposeAdjustment
from ledger.domain.click import RecordClick
from ledger.domain.errors import DiffersFromOriginal, NotFound, Refusal, Unavailable
from ledger.domain.event import Answer, Command, Decision
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.view import Needs, View
from ledger.store.database import Database
from ledger.store.recorders import LogRecorder, ProgramLog

WRITERS = 8
BATCHES = 25
CLICKS = 500
SALES = 20

Result = TypeVar("Result")


# --- eight processes and two readers --------------------------------------------------------------------


def patiently(work: Callable[[], Result]) -> Result:
    """Try again while the ledger says that it cannot be reached just now: every command here has its own id."""
    while True:
        try:
            return work()
        except Unavailable:
            time.sleep(0.05)


def write(database: Database, writer: int, ready: Any) -> None:
    """One process: clicks into the traffic log, sales into the books, in batches."""
    with open_ledger(database) as ledger:
        ready.wait()
        for batch in range(BATCHES):
            ids = [f"{writer}-{batch}-{n}" for n in range(CLICKS)]
            clicks = [RecordClick(click_id=i, affiliate_id="ada", offer_id="shoes", occurred_at=T0) for i in ids]
            patiently(lambda clicks=clicks: ledger.record_clicks(PROGRAM, clicks, by(f"writer-{writer}")))  # type: ignore[misc]
            sales = [sale(i, 1000) for i in ids[:SALES]]
            patiently(lambda sales=sales: ledger.execute_many(PROGRAM, sales, by(f"writer-{writer}")))  # type: ignore[misc]


def tail(program_log: ProgramLog, done: threading.Event, found: list[int]) -> None:
    """Follow a log by its positions, as every follower does, until the writers are done and it is read up."""
    recorder, last = LogRecorder(program_log), 0
    while True:
        finished = done.is_set()
        notifications = recorder.select_notifications(last, 1000, inclusive_of_start=False)
        found += [one.id for one in notifications]
        last = found[-1] if found else 0
        if finished and not notifications:
            return
        if not notifications:
            time.sleep(0.002)


def test_eight_processes_write_and_a_tailing_reader_skips_nothing(database: Database) -> None:
    """More than 100,000 events of 8 processes: both logs are gap-free as they grow, in the order of commit;
    recorded_at never falls; the books are the fold of the log."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    with open_ledger(database) as ledger:
        open_shop(ledger)
        before = len(read_log(ledger))
        writers = [spawn.Process(target=write, args=(database, n, ready)) for n in range(WRITERS)]
        done, found = threading.Event(), {"books": list[int](), "traffic": list[int]()}
        readers = [
            threading.Thread(target=tail, args=(ProgramLog(ledger.pool, program_id(PROGRAM), name), done, seen))
            for name, seen in found.items()
        ]
        for reader in readers:
            reader.start()
        for writer in writers:
            writer.start()
        ready.set()
        for writer in writers:
            writer.join()
        done.set()
        for reader in readers:
            reader.join()
        assert [writer.exitcode for writer in writers] == [0] * WRITERS
        clicks, sales = WRITERS * BATCHES * CLICKS, WRITERS * BATCHES * SALES
        assert found["traffic"] == list(range(1, clicks + 1))
        assert found["books"] == list(range(1, before + 2 * sales + 1))
        assert clicks + 2 * sales > 100_000
        for name in found:
            rows = read_log(ledger, name=name)
            assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(rows))
        check_books(ledger)
        assert balance(ledger, "ada") == {"pending": 100 * sales}


def test_recorded_at_never_falls_though_the_processes_clocks_disagree(database: Database) -> None:
    """One process is an hour behind: what it records stands at the other's instant, so that time follows position."""
    with open_ledger(database, Clock(T0)) as ahead, open_ledger(database, Clock(T0 - timedelta(hours=1))) as behind:
        open_shop(ahead)
        for number in range(6):
            (behind, ahead)[number % 2].execute(PROGRAM, sale(f"o{number}"), by())
        assert {row.recorded_at for row in read_log(ahead)} == {T0}


# --- one key, many senders ------------------------------------------------------------------------------


def in_parallel(count: int, work: Callable[[int], Result]) -> list[Result]:
    """The results of many threads that begin together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Result:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize(
    ("command", "events"),
    [
        (sale("A"), 2),
        (refund("r1", "A"), 2),
        (ProposeAdjustment(adjustment_id="j1", affiliate_id="ada", kind="bonus", amount=5, reason="thanks"), 1),
    ],
    ids=["sale", "early reversal", "adjustment"],
)
def test_fifty_parallel_sends_of_one_key_are_one_event(
    database: Database, coalesce: bool, command: Command, events: int
) -> None:
    """From two processes, coalesced or not: one is recorded, and all fifty get the same body and position."""
    with open_ledger(database, coalesce=coalesce) as one, open_ledger(database, coalesce=coalesce) as other:
        open_shop(one)
        before = len(read_log(one))
        answers = in_parallel(50, lambda n: patiently(lambda: (one, other)[n % 2].execute(PROGRAM, command, by())))
        assert sorted(answer.outcome for answer in answers) == ["recorded"] + ["unchanged"] * 49
        assert all((a.body, a.position) == (answers[0].body, answers[0].position) for a in answers)
        assert answers[0].position == before + events == len(read_log(one))


def test_fifty_parallel_sends_of_one_click_are_one_event(database: Database) -> None:
    """The same for a click of the caller's own id."""
    click = RecordClick(click_id="k1", affiliate_id="ada", offer_id="shoes", occurred_at=T0, customer_id="c1")
    with open_ledger(database) as one, open_ledger(database) as other:
        open_shop(one)
        outcomes = in_parallel(50, lambda n: (one, other)[n % 2].record_clicks(PROGRAM, [click], by())[0])
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        assert {(a.body["click_id"], a.position) for a in answers} == {("k1", 1)}
        assert (len(answers), len(read_log(one, name="traffic"))) == (50, 1)


# --- coalesced, and alone all the same ------------------------------------------------------------------


class Breaks(Command, frozen=True):
    """A command with a bug that nobody foresaw: in its decision, or in what it wants written."""

    name = "breaks"
    where: str

    def needs(self) -> Needs:
        return Needs([])

    def decide(self, view: View) -> Decision:
        if self.where == "decision":
            raise ZeroDivisionError
        too_large = AdjustmentPosted(
            adjustment_id="j", affiliate_id="ada", amount=2**70, currency="GBP", effective_at=view.now
        )
        return Decision([("adjustment:j", too_large)], Answer("recorded", {}))


@contextmanager
def somebody_holds_the_program(database: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Another session holds the head's lock until the block is left."""
    with owner(database) as conn, conn.transaction():
        conn.execute("SELECT 1 FROM log_heads WHERE program_id = %s FOR UPDATE", (program_id(PROGRAM),))
        yield conn


def send_as_one_batch(ledger: CommissionLedger, database: Database, commands: Sequence[Command]) -> list[Any]:
    """Send commands from a thread each so that all but the first are in one batch; answers or refusals in order."""

    def send(command: Command) -> Any:
        try:
            return ledger.execute(PROGRAM, command, by())
        except Refusal as refusal:
            return refusal

    committer = ledger._of(PROGRAM)[1]
    with ThreadPoolExecutor(len(commands) + 1) as pool:
        with somebody_holds_the_program(database):
            first = pool.submit(send, sale("first"))
            while not committer._busy:
                time.sleep(0.001)
            futures = []
            for number, command in enumerate(commands, 1):
                futures.append(pool.submit(send, command))
                while len(committer._queue) < number:
                    time.sleep(0.001)
        assert isinstance(first.result(), Answer)
        return [future.result() for future in futures]


MIXED: list[tuple[Command, object]] = [
    (sale("B", 2000), "recorded"),
    (sale("A", 999), DiffersFromOriginal),
    (sale("A"), "unchanged"),
    (DecideConversion(order_id="nope", decision="hold"), NotFound),
    (refund("r1", "A", 500), "recorded"),
    (refund("r2", "A", 501), "exception"),
    (refund("r1", "A", 500), "unchanged"),
    (sale("C", offer_id="gloves"), "exception"),
    (DecideConversion(order_id="A", decision="hold"), "recorded"),
    (DecideConversion(order_id="B", decision="hold"), "recorded"),
]


def outcome_of(result: Any) -> object:
    return result.outcome if isinstance(result, Answer) else type(result)


def test_good_and_bad_commands_of_one_batch_succeed_or_fail_alone(database: Database) -> None:
    """They share one commit, which their common instant shows, and each hears its own answer."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, sale("A"), by())
        results = send_as_one_batch(ledger, database, [command for command, _ in MIXED])
        assert [outcome_of(result) for result in results] == [expected for _, expected in MIXED]
        positions = [r.position for r in results if isinstance(r, Answer) and r.outcome == "recorded"]
        shared = {row.recorded_at for row in read_log(ledger) if row.position in positions}
        assert len(shared) == 1
        assert balance(ledger, "ada") == {"pending": 100, "held": 50 + 200}
        check_books(ledger)


@pytest.mark.parametrize("where", ["decision", "what is written"])
def test_a_command_that_breaks_its_batch_takes_nobody_with_it(database: Database, where: str) -> None:
    """The others get the answers that they would have got; the broken one hears of an error, and left no trace."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, sale("A"), by())
        broken = Breaks(where=where)
        commands = [command for command, _ in MIXED]
        results = send_as_one_batch(ledger, database, [*commands[:5], broken, *commands[5:], broken])
        failures = [results.pop(5), results.pop()]
        assert [outcome_of(result) for result in results] == [expected for _, expected in MIXED]
        assert [type(failure) for failure in failures] == [Refusal, Refusal]
        assert not any(row.topic == "AdjustmentPosted" for row in read_log(ledger))
        assert ledger.execute(PROGRAM, sale("Z", 4000), by()).outcome == "recorded"
        assert balance(ledger, "ada") == {"pending": 500, "held": 250}
        check_books(ledger)


@pytest.mark.parametrize("count", [1, 3])
def test_a_program_that_was_never_opened_is_not_found(database: Database, count: int) -> None:
    """Whether one command names it, several in a row, or a click."""
    click = RecordClick(click_id="k1", affiliate_id="ada", offer_id="shoes", occurred_at=T0)
    with open_ledger(database) as ledger:
        with pytest.raises(NotFound):
            ledger.execute_many("nowhere", [sale(f"o{n}") for n in range(count)], by())
        with pytest.raises(NotFound):
            ledger.record_clicks("nowhere", [click], by())

        def not_found(number: int) -> bool:
            with pytest.raises(NotFound):
                ledger.execute("nowhere", sale(f"o{number}"), by())
            return True

        assert all(in_parallel(8, not_found))
