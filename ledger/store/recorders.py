"""The eventsourcing library's recorders, bound to one program's log.

They pass the library's own recorder test cases. What they change: notification ids are the log's gap-free positions,
given out under the head row's lock; no table lock, no NOTIFY, no table made at run time, and every wait ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event as Flag
from typing import Any
from uuid import UUID

import psycopg
import psycopg_pool
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    OperationalError,
    StoredEvent,
    Subscription,
    Tracking,
)
from eventsourcing.postgres import (
    PostgresAggregateRecorder,
    PostgresApplicationRecorder,
    PostgresTrackingRecorder,
)

from ledger.store import log
from ledger.store.database import Pool

POLL_SECONDS = 0.05


class ProgramLog:
    """Where a recorder writes: one log of one program, through a pool."""

    def __init__(self, pool: Pool, program_id: UUID, name: str = "books") -> None:
        self.pool, self.program_id, self.name = pool, program_id, name
        self.table = log.TABLES[name]

    @contextmanager
    def cursor(self) -> Iterator[log.Rows]:
        """A transaction; errors are the library's. Raises OperationalError when there is no connection in time."""
        try:
            with self.pool.connection() as conn, conn.cursor() as cur:
                yield cur
        except psycopg.IntegrityError as error:
            raise IntegrityError(str(error)) from error
        except (psycopg.OperationalError, psycopg_pool.PoolTimeout) as error:
            raise OperationalError(str(error)) from error


class StreamRecorder(PostgresAggregateRecorder):
    """Reads and writes the streams of one log."""

    def __init__(self, program_log: ProgramLog) -> None:
        # Not the base's: it prepares statements for tables that migrations own here.
        self.log = program_log

    def create_table(self) -> None:
        """Migrations own the tables."""

    def _append(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        if not stored_events:
            return []
        rows = [
            log.row(
                e.originator_id if isinstance(e.originator_id, UUID) else UUID(e.originator_id),
                e.originator_version,
                e.topic,
                e.state,
                "library",
                "",
                "",
                "insert_events",
            )
            for e in stored_events
        ]
        with self.log.cursor() as cur:
            head = log.lock_head(cur, self.log.program_id, self.log.name)
            at = head.recorded_at(datetime.now(UTC))
            log.append(cur, self.log.program_id, self.log.name, head, rows, at)
            # Nothing is known of what the caller wrote, so nobody may trust what they remember.
            last = head.next_position + len(rows) - 1
            log.advance_head(cur, self.log.program_id, self.log.name, head, len(rows), at, last)
        return list(range(head.next_position, last + 1))

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append; all or nothing. Raises IntegrityError for a version that exists."""
        self._append(stored_events)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """A stream, or the part of it with gt < version <= lte."""
        with self.log.cursor() as cur:
            cur.execute(
                f"SELECT originator_id, originator_version, topic, state FROM {self.log.table}"  # noqa: S608
                " WHERE program_id = %s AND originator_id = %s AND originator_version > %s AND originator_version <= %s"
                f" ORDER BY originator_version {'DESC' if desc else 'ASC'} LIMIT %s",
                (
                    self.log.program_id,
                    originator_id,
                    -1 if gt is None else gt,
                    2**62 if lte is None else lte,
                    limit,
                ),
            )
            return [StoredEvent(o, v, topic, state.encode()) for o, v, topic, state in cur]


class LogRecorder(StreamRecorder, PostgresApplicationRecorder):
    """Adds the log itself: notifications are its positions."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append; returns the positions."""
        return self._append(stored_events)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events from position start to stop, at most limit of them."""
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        with self.log.cursor() as cur:
            cur.execute(
                "SELECT originator_id, originator_version, topic, state, position"  # noqa: S608
                f" FROM {self.log.table} WHERE program_id = %s AND position > %s AND position <= %s"
                " AND (%s::text[] = '{}' OR topic = ANY(%s)) ORDER BY position LIMIT %s",
                (
                    self.log.program_id,
                    after,
                    2**62 if stop is None else stop,
                    list(topics),
                    list(topics),
                    limit,
                ),
            )
            return [Notification(o, v, topic, state.encode(), position) for o, v, topic, state, position in cur]

    def max_notification_id(self) -> int | None:
        """The last position, None while the log is empty."""
        with self.log.cursor() as cur:
            return log.last_position(cur, self.log.program_id, self.log.name) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Follow the log by polling: nothing depends on NOTIFY."""
        return PollingSubscription(self, gt=gt, topics=topics)


class PollingSubscription(Subscription[ApplicationRecorder]):
    """Positions are gap-free and follow commit order, so reading on from the last one misses nothing."""

    def __init__(self, recorder: ApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._last = gt or 0
        self._ready: list[Notification] = []
        self._stopped = Flag()

    def stop(self) -> None:
        """End the iteration."""
        super().stop()
        self._stopped.set()

    def __next__(self) -> Notification:
        while not self._stopped.is_set():
            if not self._ready:
                seen_to = self._recorder.max_notification_id() or 0
                if seen_to > self._last:
                    self._ready = list(
                        self._recorder.select_notifications(
                            self._last, 500, stop=seen_to, topics=self._topics, inclusive_of_start=False
                        )
                    )[::-1]
                    if len(self._ready) < 500 and not self._ready:
                        self._last = seen_to
            if self._ready:
                notification = self._ready.pop()
                self._last = notification.id
                return notification
            self._stopped.wait(POLL_SECONDS)
        raise StopIteration


class FollowerRecorder(PostgresTrackingRecorder):
    """How far a program's followers have come, in the manner of the library's tracking recorder."""

    def __init__(self, program_log: ProgramLog) -> None:
        self.log = program_log

    def create_table(self) -> None:
        """Migrations own the tables."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Move a follower forward. Raises IntegrityError when it is there already."""
        with self.log.cursor() as cur:
            advance_follower(cur, self.log.program_id, tracking.application_name, tracking.notification_id)

    def max_tracking_id(self, application_name: str) -> int | None:
        """A follower's position, None while it has none."""
        with self.log.cursor() as cur:
            cur.execute(
                "SELECT position FROM followers WHERE program_id = %s AND follower = %s",
                (self.log.program_id, application_name),
            )
            row = cur.fetchone()
        return row[0] if row else None

    def has_tracking_id(self, application_name: str, notification_id: int | None) -> bool:
        """Whether a follower has come to a position."""
        if notification_id is None:
            return True
        position = self.max_tracking_id(application_name)
        return position is not None and position >= notification_id


def advance_follower(cur: log.Rows, program_id: UUID, follower: str, position: int) -> None:
    """Move a follower forward, in the transaction of its view. Raises IntegrityError for a position behind."""
    cur.execute(
        "INSERT INTO followers (program_id, follower, position) VALUES (%s, %s, %s)"
        " ON CONFLICT (program_id, follower) DO UPDATE SET position = EXCLUDED.position"
        " WHERE followers.position < EXCLUDED.position RETURNING position",
        (program_id, follower, position),
    )
    if cur.fetchone() is None:
        raise IntegrityError(f"{follower} is at position {position} or beyond")
