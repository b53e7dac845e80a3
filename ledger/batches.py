"""Batches: a command is always one of a batch, decided under the program's lock and committed together.

Each command succeeds or is refused alone; requests that wait for the same program coalesce into its next batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import psycopg
import psycopg_pool

from ledger.desk import Desk, Memory, Meta
from ledger.domain.errors import Refusal, Unavailable
from ledger.domain.event import Answer, Command
from ledger.domain.ids import program_id
from ledger.domain.view import Needs
from ledger.store.database import Pool, answering
from ledger.store.lease import GuardRefused
from ledger.store.log import Rows, UnknownProgram
from ledger.store.vault import Secrets

MOST_AT_ONCE = 1000
MOST_IN_A_HURRY = 200  # a larger batch is bulk work, which a slow disk may take longer over
PATIENCE_SECONDS = 1.6  # so that a caller hears 503 within two seconds
# Connection lost or shut down, serialization, deadlock, and a lock that was not had in time: worth another try,
# because every command is idempotent. Judged by sqlstate (class 08, 57P, 40, 55P03).
_RETRY_CLASSES = ("08", "57P", "40001", "40P01", "55P03")


Item = tuple[Command, Meta]
Outcome = Answer | Refusal
# called in the batch's transaction, after its events are written: (cursor, desk)
Also = Callable[[Rows, Desk], None]
# called at the start of each transaction, before the program's lock: (cursor, program_id); raises GuardRefused
Guard = Callable[[Rows, UUID], None]


def retryable(error: BaseException) -> bool:
    """Whether the database may answer the same batch another time."""
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.TooManyRequests):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_RETRY_CLASSES)


def _size(items: Sequence[Item]) -> int:
    return sum(command.record_count for command, _ in items)


def _then(command: Command, desk: Desk) -> Needs | None:
    return command.needs_then(desk)


def _last(command: Command, desk: Desk) -> Needs | None:
    return command.needs_last(desk)


class ProgramWriter:
    """Writes one program's books from this process. Thread-safe: one batch at a time."""

    def __init__(
        self, pool: Pool, secrets: Secrets, program: str, clock: Callable[[], datetime], guard: Guard | None = None
    ) -> None:
        self.program, self.program_id = program, program_id(program)
        self._pool, self._secrets, self._clock, self._guard = pool, secrets, clock, guard
        self._memory = Memory()
        self._lock = threading.Lock()
        self._failed_at = 0.0  # monotonic seconds

    def execute(self, items: Sequence[Item], also: Also | None = None) -> list[Outcome]:
        """Decide and commit a batch. Raises Unavailable when the database cannot be reached in time: nothing was
        acknowledged, and the same again is safe. Raises what the guard raises."""
        arrived = time.monotonic()
        deadline = arrived + PATIENCE_SECONDS
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            raise Unavailable()
        try:
            if self._failed_at > arrived:
                # Whoever was before us waited as long for nothing: answered now, not after an attempt of our own.
                raise Unavailable()
            return self._execute(items, also, deadline)
        finally:
            self._lock.release()

    def _execute(self, items: Sequence[Item], also: Also | None, deadline: float) -> list[Outcome]:
        while True:
            try:
                return self._attempt(items, also, deadline)
            except Exception as error:
                self._memory.forget()
                if not retryable(error):
                    if len(items) == 1 or isinstance(error, UnknownProgram | GuardRefused):
                        raise
                    return self._one_by_one(items, also)
                if time.monotonic() + 0.1 >= deadline:
                    self._failed_at = time.monotonic()
                    raise Unavailable() from error
                time.sleep(0.05)

    def _one_by_one(self, items: Sequence[Item], also: Also | None) -> list[Outcome]:
        """One command broke the batch in a way nobody foresaw: it must not take the others with it."""
        outcomes: list[Outcome] = []
        for item in items:
            try:
                outcomes += self._attempt([item], also, time.monotonic() + PATIENCE_SECONDS)
            except Exception as error:
                self._memory.forget()
                if retryable(error):
                    raise Unavailable() from error
                if isinstance(error, GuardRefused):
                    raise
                refusal = Refusal("internal error")
                refusal.__cause__ = error
                outcomes.append(refusal)
        return outcomes

    def _attempt(self, items: Sequence[Item], also: Also | None, deadline: float) -> list[Outcome]:
        with answering(self._pool, deadline, whole=_size(items) <= MOST_IN_A_HURRY) as conn, conn.cursor() as cur:
            if self._guard is not None:
                self._guard(cur, self.program_id)
            desk = Desk(cur, self.program, self.program_id, self._secrets, self._memory, self._clock())
            desk.load([command.needs() for command, _ in items])
            for ask in (_then, _last):
                more = [need for command, _ in items if (need := ask(command, desk)) is not None]
                if more:
                    desk.load(more)
            outcomes = [self._decide(desk, command, meta) for command, meta in items]
            desk.write()
            if also is not None:
                also(cur, desk)
        return outcomes

    def _decide(self, desk: Desk, command: Command, meta: Meta) -> Outcome:
        desk.actor = meta.actor
        try:
            decision = command.decide(desk)
        except Refusal as refusal:
            return refusal
        if decision.drafts:
            decision.answer.position = desk.take(decision.drafts, meta, command.name, decision.own)
        return decision.answer


class _Waiting:
    """A command on its way into a batch. wake is released once: when it is answered, or when it is to lead."""

    __slots__ = ("error", "item", "outcome", "wake")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class Committer:
    """Coalesces the commands of many threads: whoever finds nobody committing commits for all who wait, then
    hands the lead to the first of those who came meanwhile. No thread of its own, and one wake-up a command."""

    def __init__(self, writer: ProgramWriter, coalesce: bool = True) -> None:
        self._writer, self._coalesce = writer, coalesce
        self._queue: deque[_Waiting] = deque()
        self._mutex = threading.Lock()
        self._busy = False

    def submit(self, command: Command, meta: Meta) -> Answer:
        """Decide and commit one command, together with whoever else waits. Raises its Refusal, or Unavailable."""
        if not self._coalesce:
            return _answer(self._writer.execute([(command, meta)])[0])
        mine = _Waiting((command, meta))
        with self._mutex:
            self._queue.append(mine)
            leads = not self._busy
            self._busy = True
        if not leads and not mine.wake.acquire(timeout=PATIENCE_SECONDS):
            self._give_up(mine)
        if mine.outcome is None and mine.error is None:
            self._lead()
        if mine.error is not None:
            raise mine.error
        assert mine.outcome is not None
        return _answer(mine.outcome)

    def _give_up(self, mine: _Waiting) -> None:
        """Somebody's long work is before us. Raises Unavailable, unless our turn has just come."""
        with self._mutex:
            if mine.wake.acquire(blocking=False):
                return
            if mine in self._queue:
                self._queue.remove(mine)
        raise Unavailable()

    def _lead(self) -> None:
        """Commit all who wait, and pass the lead on."""
        with self._mutex:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))]
        try:
            outcomes = self._writer.execute([one.item for one in batch])
            for one, outcome in zip(batch, outcomes, strict=True):
                one.outcome = outcome
        except BaseException as error:
            if isinstance(error, Unavailable):
                # Whoever queued up meanwhile has waited as long: answered now, not after another attempt each.
                with self._mutex:
                    batch += self._queue
                    self._queue.clear()
            for one in batch:
                one.error = error
        with self._mutex:
            successor = self._queue[0] if self._queue else None
            self._busy = successor is not None
            # under the mutex: whoever gives up must know whether the lead is his already
            if successor is not None:
                successor.wake.release()
        for one in batch:
            one.wake.release()


def _answer(outcome: Outcome) -> Answer:
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome
