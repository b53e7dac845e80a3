"""Clicks on their way into the log: the tracking link answers at once, a thread records behind it.

The queue is bounded and lives in memory. What does not fit, and what is left when the process ends during an
outage, is dropped and counted: the visitor carries a signed click id, so the sale is attributable all the same.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ledger.batches import Outcome
from ledger.desk import Meta
from ledger.domain.click import RecordClick
from ledger.domain.errors import NotFound, Refusal, Unavailable

CAPACITY = 10_000  # clicks
BATCH = 5_000  # clicks a commit
LINGER_SECONDS = 0.05  # for company: a commit each would take the disk from the conversions
RETRY_SECONDS = 0.5
FLUSH_SECONDS = 5.0

Record = Callable[[str, Sequence[RecordClick], Meta], list[Outcome]]

log = logging.getLogger(__name__)


class ClickQueue:
    """A bounded queue of clicks and the thread that records them, program by program, each in its order.

    record: CommissionLedger.record_clicks. Each click must bring its click_id, so that recording it again after
    a lost answer changes nothing. The thread starts with the first click. Thread-safe.

    For the metrics: depth (clicks not yet in the log), recorded and dropped (clicks since the start).
    """

    def __init__(self, record: Record, meta: Meta, *, capacity: int = CAPACITY) -> None:
        self._record, self._meta, self._capacity = record, meta, capacity
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[RecordClick]] = {}
        self._thread: threading.Thread | None = None
        self._give_up_at: float | None = None  # monotonic; set once closing
        self.depth = self.recorded = self.dropped = 0

    def put(self, program: str, click: RecordClick) -> bool:
        """Queue a click. False when there is no room for it: then it was dropped, and counted."""
        if click.click_id is None:
            raise ValueError("a queued click needs its click_id")
        with self._changed:
            if self.depth >= self._capacity or self._give_up_at is not None:
                self.dropped += 1
                return False
            self._waiting.setdefault(program, deque()).append(click)
            self.depth += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="click-queue", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._changed.notify()
        return True

    def close(self, seconds: float = FLUSH_SECONDS) -> int:
        """Record what is queued, for so many seconds at most, and take no more. Returns how many were given up."""
        with self._changed:
            if self._give_up_at is None:
                self._give_up_at = time.monotonic() + seconds
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds + 2.0)
            atexit.unregister(self.close)
        with self._changed:
            left = self.depth
            self.dropped += left
            self.depth = 0
            self._waiting.clear()
        if left:
            log.warning("%d queued clicks were given up; their click ids stay attributable", left)
        return left

    # --- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = LINGER_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.depth or self._give_up_at is not None)
                self._changed.wait_for(lambda: self._give_up_at is not None, timeout=pause)
                closing = self._give_up_at is not None
                if not self.depth or (closing and time.monotonic() >= (self._give_up_at or 0)):
                    return
                programs = list(self._waiting)
            done = [self._drain(program) for program in programs]
            pause = LINGER_SECONDS if all(done) else RETRY_SECONDS
            if closing and not all(done):
                time.sleep(LINGER_SECONDS)

    def _drain(self, program: str) -> bool:
        """Record one batch of a program's clicks. False when the database does not take them just now."""
        with self._changed:
            batch = list(islice(self._waiting.get(program, ()), BATCH))
        try:
            outcomes: list[Outcome] = self._record(program, batch, self._meta)
        except Unavailable:
            return False
        except NotFound as refusal:
            outcomes = [refusal] * len(batch)
        except Exception as error:
            # Its class only: a message might quote what a visitor sent.
            log.error("a batch of %d clicks failed with %s; recording them singly", len(batch), type(error).__name__)
            outcomes = self._singly(program, batch)
        recorded = sum(not isinstance(outcome, Refusal) for outcome in outcomes)
        with self._changed:
            queue = self._waiting.get(program)
            if queue is None:  # close() lost patience with us, and counted them as given up
                return False
            for _ in outcomes:
                queue.popleft()
            if not queue:
                del self._waiting[program]
            self.depth -= len(outcomes)
            self.recorded += recorded
            self.dropped += len(outcomes) - recorded
        return len(outcomes) == len(batch)

    def _singly(self, program: str, batch: Sequence[RecordClick]) -> list[Outcome]:
        """One click broke its batch in a way nobody foresaw: it must not take the others with it."""
        outcomes: list[Outcome] = []
        for click in batch:
            try:
                outcomes += self._record(program, [click], self._meta)
            except Unavailable:
                break
            except Exception as error:
                log.error("a queued click was dropped: %s", type(error).__name__)
                outcomes.append(Refusal("internal error"))
        return outcomes
