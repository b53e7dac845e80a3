"""Recording traffic: batches of clicks, or of impressions, into the traffic log, each recorded once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, cast
from uuid import UUID

from ledger import batches
from ledger.batches import MOST_IN_A_HURRY, Outcome, retryable
from ledger.desk import Meta
from ledger.domain.click import RecordTouch
from ledger.domain.errors import DiffersFromOriginal, Unavailable
from ledger.domain.event import AHEAD_MAX, Answer, Event, too_far_ahead
from ledger.domain.ids import program_id, stream_id_parts
from ledger.projections.touches import TouchRows
from ledger.store import codec, log
from ledger.store.database import Pool, answering
from ledger.store.log import Row, Rows, uuid_array
from ledger.store.vault import Secrets, Vault

SAME_FIELDS = ("affiliate_id", "offer_id", "occurred_at", "customer_id", "visitor_id", "channel")

C = TypeVar("C", bound=RecordTouch)
E = TypeVar("E", bound=Event)


class TrafficWriter:
    """Writes one program's traffic log from this process. Thread-safe: one batch at a time."""

    def __init__(self, pool: Pool, secrets: Secrets, program: str, clock: Callable[[], datetime]) -> None:
        self.program, self.program_id = program, program_id(program)
        self._pool, self._secrets, self._clock = pool, secrets, clock
        self._lock = threading.Lock()
        self._failed_at = 0.0  # monotonic seconds

    def record(self, kind: type[Batch[C, E]], touches: Sequence[C], meta: Meta) -> list[Outcome]:
        """Record a batch in one transaction. What differs from an earlier one of its id is refused alone.
        Raises Unavailable."""
        arrived = time.monotonic()
        deadline = arrived + batches.PATIENCE_SECONDS
        # Made before the first attempt: when its COMMIT's reply is lost, the next one must find the same touches.
        ids = [kind.id_of(touch, self._secrets, self.program_id) for touch in touches]
        if not self._lock.acquire(timeout=batches.PATIENCE_SECONDS):
            raise Unavailable()
        try:
            if self._failed_at > arrived:
                # Whoever was before us waited as long for nothing: answered now, not after an attempt of our own.
                raise Unavailable()
            while True:
                try:
                    return self._attempt(kind, touches, ids, meta, deadline)
                except Exception as error:
                    if not retryable(error):
                        raise
                    if time.monotonic() + 0.1 >= deadline:
                        self._failed_at = time.monotonic()
                        raise Unavailable() from error
                    time.sleep(0.05)
        finally:
            self._lock.release()

    def _attempt(
        self, kind: type[Batch[C, E]], touches: Sequence[C], ids: Sequence[str], meta: Meta, deadline: float
    ) -> list[Outcome]:
        with answering(self._pool, deadline, whole=len(touches) <= MOST_IN_A_HURRY) as conn, conn.cursor() as cur:
            head = log.lock_head(cur, self.program_id, "traffic")
            now = head.recorded_at(self._clock())
            batch = kind(cur, self.program_id, self._secrets, head.next_position, now, meta)
            outcomes, new = batch.sort_out(touches, ids)
            if new:
                batch.append(touches, new, outcomes, head)
                log.advance_head(cur, self.program_id, "traffic", head, len(new), now, 0)
                batch.rows.store(cur)
                batch.answer_twins(touches, outcomes)
        return cast(list[Outcome], outcomes)


# A touch that is not in the log yet: its place among the touches, its id, its stream's id as bytes and as text. A plain
# tuple, as log.Row is.
_New = tuple[int, str, bytes, str]


class Batch(Generic[C, E]):
    """One batch of clicks, or of impressions, on its way into the log. kind: what streams, causes and ids are named
    after; topic: of the event."""

    kind: ClassVar[str]
    topic: ClassVar[str]

    def __init__(
        self, cur: Rows, program: UUID, secrets: Secrets, next_position: int, now: datetime, meta: Meta
    ) -> None:
        self._cur, self._program_id, self._secrets = cur, program, secrets
        self._next, self._now, self._meta = next_position, now, meta
        self._latest = now + AHEAD_MAX
        self._vault = Vault(cur, secrets, program, now)
        self._events: dict[str, tuple[int, E]] = {}
        self._twins: list[_New] = []
        self._id_field = f"{self.kind}_id"
        self.rows = TouchRows(program)

    # --- what clicks and impressions do each in their own way ---------------------------------------------

    @staticmethod
    def id_of(touch: C, secrets: Secrets, program: UUID) -> str:
        """Its id, or a new one where it brings none."""
        raise NotImplementedError

    def prepare(self, touches: Sequence[C]) -> None:
        """Ask whatever the events of new ones need."""

    def event(self, touch: C, id_: str) -> E:
        """The event of a new one."""
        raise NotImplementedError

    def differences(self, touch: C, id_: str, was: E) -> list[str]:
        """The fields in which one that was sent again is not what was recorded."""
        return [field for field in SAME_FIELDS if getattr(was, field) != getattr(touch, field)]

    # --- from commands to rows ----------------------------------------------------------------------------

    def sort_out(self, touches: Sequence[C], ids: Sequence[str]) -> tuple[list[Outcome | None], list[_New]]:
        """Which are new; the others' outcomes (None: to come). Asks all that needs asking: once the new ones stream
        into the log, the connection can answer nothing else."""
        program, prefix = self._program_id.bytes, f"{self.kind}:"
        streams = [stream_id_parts(program, prefix + id_) for id_ in ids]
        known = self._find_known([text for _, text in streams])
        outcomes: list[Outcome | None] = [None] * len(ids)
        new: dict[str, _New] = {}
        for index, (id_, (raw, text)) in enumerate(zip(ids, streams, strict=True)):
            one = (index, id_, raw, text)
            if known and text in known:
                outcomes[index] = self._again(touches[index], id_, *known[text])
            elif touches[index].occurred_at > self._latest:
                outcomes[index] = too_far_ahead("occurred_at")
            elif new.setdefault(id_, one) is not one:
                self._twins.append(one)
        self.prepare([touches[index] for index, _, _, _ in new.values()])
        return outcomes, list(new.values())

    def _find_known(self, ids: Sequence[str]) -> dict[str, tuple[int, E]]:
        self._cur.execute(
            "SELECT e.* FROM unnest(%s::uuid[]) AS wanted (id) CROSS JOIN LATERAL ("  # noqa: S608
            " SELECT originator_id, position, topic, state FROM traffic_events"
            f" WHERE program_id = %s AND originator_id = wanted.id {log.ONE_PROBE_EACH}) e",
            (uuid_array(ids), self._program_id),
        )
        return {
            str(originator_id): (position, cast(E, codec.decode_state(topic, state)))
            for originator_id, position, topic, state in self._cur
        }

    def append(self, touches: Sequence[C], new: Sequence[_New], outcomes: list[Outcome | None], head: log.Head) -> None:
        """Make the events and append them, a few hundred at a time."""
        if len(new) < log.COPY_FROM_ROWS:
            rows = self._rows(touches, new, outcomes)
            log.append(self._cur, self._program_id, "traffic", head, rows, self._now)
            return
        with log.appending(self._cur, self._program_id, "traffic", head, self._now) as write:
            for start in range(0, len(new), log.ROWS_AT_ONCE):
                write(self._rows(touches, new[start : start + log.ROWS_AT_ONCE], outcomes))

    def _rows(self, touches: Sequence[C], new: Sequence[_New], outcomes: list[Outcome | None]) -> list[Row]:
        rows: list[Row] = []
        meta, position, id_field = self._meta, self._next, self._id_field
        kind, topic, cause = self.kind, self.topic, f"record_{self.kind}"
        add_touch = self.rows.add
        for index, id_, raw, text in new:
            touch = touches[index]
            event = self.event(touch, id_)
            state = codec.encode_state(event)
            rows.append((raw, text, 1, topic, state, meta.actor, meta.key_id, meta.request_id, cause))
            add_touch(kind, position, raw, touch)
            if self._twins:
                self._events[id_] = (position, event)
            outcomes[index] = Answer("recorded", {id_field: id_}, position)
            position += 1
        self._next = position
        return rows

    def answer_twins(self, touches: Sequence[C], outcomes: list[Outcome | None]) -> None:
        """The outcomes of those whose id came earlier in this very batch."""
        for index, id_, _, _ in self._twins:
            outcomes[index] = self._again(touches[index], id_, *self._events[id_])

    def _again(self, touch: C, id_: str, position: int, was: E) -> Outcome:
        if differs := self.differences(touch, id_, was):
            return DiffersFromOriginal(f"{self.kind} {id_}", differs)
        return Answer("unchanged", {self._id_field: id_}, position)
