"""The queue behind the tracking link: bounded, in order, patient in an outage, emptied when the process ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from support import T0

from ledger.batches import Outcome
from ledger.clickqueue import BATCH, ClickQueue
from ledger.desk import Meta
from ledger.domain.click import RecordClick
from ledger.domain.errors import NotFound, Refusal, Unavailable
from ledger.domain.event import Answer

META = Meta("tracking-link")


def click(number: int) -> RecordClick:
    return RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0, click_id=f"c{number}")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Recorder:
    """Stands for the ledger: remembers batches, and fails as told."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.down = threading.Event()
        self.calls = 0
        self.fails: Callable[[str, Sequence[RecordClick]], None] = lambda program, clicks: None

    def __call__(self, program: str, clicks: Sequence[RecordClick], meta: Meta) -> list[Outcome]:
        self.calls += 1
        if self.down.is_set():
            raise Unavailable()
        self.fails(program, clicks)
        self.batches.append((program, [str(one.click_id) for one in clicks]))
        return [Answer("recorded", {"click_id": one.click_id}) for one in clicks]

    def of(self, program: str) -> list[str]:
        return [click_id for name, ids in self.batches if name == program for click_id in ids]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_clicks_arrive_in_order_and_in_few_commits(recorder: Recorder) -> None:
    """Every click once, each program's in its order, many a commit and never more than a batch."""
    queue = ClickQueue(recorder, META, capacity=2 * BATCH)
    for number in range(BATCH + 500):
        assert queue.put("shop", click(number))
        if number < 10:
            assert queue.put("other", click(number))
    assert queue.close() == 0
    assert recorder.of("shop") == [f"c{number}" for number in range(BATCH + 500)]
    assert recorder.of("other") == [f"c{number}" for number in range(10)]
    assert max(len(ids) for _, ids in recorder.batches) <= BATCH
    assert len(recorder.batches) < 100
    assert (queue.depth, queue.recorded, queue.dropped) == (0, BATCH + 510, 0)


def test_clicks_arrive_without_being_asked_for(recorder: Recorder) -> None:
    """The thread records on its own, also after a pause."""
    queue = ClickQueue(recorder, META)
    for number in range(2):
        queue.put("shop", click(number))
        until(lambda: queue.depth == 0)
    assert recorder.of("shop") == ["c0", "c1"]
    queue.close()


def test_an_outage_keeps_what_fits_and_counts_the_rest(recorder: Recorder) -> None:
    """While the database is down nothing is lost that fits; afterwards it arrives in its order."""
    recorder.down.set()
    queue = ClickQueue(recorder, META, capacity=5)
    taken = [queue.put("shop", click(number)) for number in range(8)]
    assert taken == [True] * 5 + [False] * 3
    until(lambda: recorder.calls >= 2)
    assert (queue.depth, queue.recorded, queue.dropped) == (5, 0, 3)
    recorder.down.clear()
    until(lambda: queue.depth == 0)
    assert recorder.of("shop") == [f"c{number}" for number in range(5)]
    assert queue.put("shop", click(9)), "there is room again"
    assert queue.close() == 0


def test_a_program_that_cannot_be_written_does_not_hold_up_the_others(recorder: Recorder) -> None:
    """One program's lock is taken for long: the others' clicks go on."""

    def fails(program: str, clicks: Sequence[RecordClick]) -> None:
        if program == "locked":
            raise Unavailable()

    recorder.fails = fails
    queue = ClickQueue(recorder, META)
    queue.put("locked", click(1))
    for number in range(3):
        queue.put("shop", click(number))
    until(lambda: recorder.of("shop") == ["c0", "c1", "c2"])
    recorder.fails = lambda program, clicks: None
    assert queue.close() == 0
    assert recorder.of("locked") == ["c1"]


def test_a_poisoned_click_and_a_program_that_is_gone_are_dropped_alone(recorder: Recorder) -> None:
    """What can never be recorded is counted as dropped, and takes nothing with it."""

    def fails(program: str, clicks: Sequence[RecordClick]) -> None:
        if program == "nowhere":
            raise NotFound("program nowhere does not exist")
        if any(one.click_id == "c3" for one in clicks):
            raise ValueError("poison")

    recorder.fails = fails
    queue = ClickQueue(recorder, META)
    queue.put("nowhere", click(0))
    for number in range(6):
        queue.put("shop", click(number))
    assert queue.close() == 0
    assert recorder.of("shop") == ["c0", "c1", "c2", "c4", "c5"]
    assert (queue.recorded, queue.dropped) == (5, 2)


def test_a_refused_click_is_counted_as_dropped() -> None:
    """The ledger may refuse one click of a batch."""

    def record(program: str, clicks: Sequence[RecordClick], meta: Meta) -> list[Outcome]:
        return [Refusal("no") if one.click_id == "c1" else Answer("recorded", {}) for one in clicks]

    queue = ClickQueue(record, META)
    for number in range(3):
        queue.put("shop", click(number))
    queue.close()
    assert (queue.recorded, queue.dropped) == (2, 1)


def test_closing_in_an_outage_gives_up_in_time_and_says_how_many(recorder: Recorder) -> None:
    """A process that must end ends; what was given up is counted, and nothing is taken any more."""
    recorder.down.set()
    queue = ClickQueue(recorder, META)
    for number in range(4):
        queue.put("shop", click(number))
    began = time.monotonic()
    assert queue.close(seconds=0.3) == 4
    assert time.monotonic() - began < 10
    assert (queue.depth, queue.dropped) == (0, 4)
    assert not queue.put("shop", click(5))
    assert queue.dropped == 5


def test_a_click_without_an_id_is_refused(recorder: Recorder) -> None:
    """It could be recorded twice after a lost answer."""
    with pytest.raises(ValueError, match="click_id"):
        ClickQueue(recorder, META).put("shop", RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0))


ENDING = """
import sys
from ledger.clickqueue import ClickQueue
from ledger.desk import Meta
from ledger.domain.click import RecordClick
from ledger.domain.event import Answer, BEGINNING

def record(program, clicks, meta):
    print(len(clicks), flush=True)
    return [Answer("recorded", {}) for _ in clicks]

queue = ClickQueue(record, Meta("tracking-link"))
for n in range(7):
    queue.put("shop", RecordClick(affiliate_id="a", offer_id="o", occurred_at=BEGINNING, click_id=str(n)))
"""


def test_a_process_that_ends_records_what_is_queued() -> None:
    """Nobody calls close(): the interpreter's end does."""
    said = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60, check=True)
    assert sum(map(int, said.stdout.split())) == 7
