"""Rebuilding read models: the logs replayed into shadows, and the shadows held against what is live.

compare() changes nothing: it sees one state of the database, in which logs and read models agree if all is well.
replace() puts the wrong rows right: replay and comparison go on beside the writers, who wait only while what was found
is looked at once more and exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from ledger.domain.event import Recorded
from ledger.projections import shadow
from ledger.projections.shadow import EVENTS_AT_ONCE, PROJECTIONS, Difference, Shadow
from ledger.store import log
from ledger.store.log import Rows

LOCK_LIMIT = "30s"  # to get a log's lock, which nobody holds for long


class ReplayProgress(NamedTuple):
    """log: which is read; position: how far the replay has come; last: the position it is going to."""

    log: str
    position: int
    last: int


class ProjectionReport(NamedTuple):
    """rows: as replayed; different: how many rows were not the same; replaced: how many of them are right now;
    first: the first one that was not."""

    projection: str
    rows: int
    different: int
    replaced: int
    first: Difference | None

    @property
    def equal(self) -> bool:
        """Whether the live rows were what the log says."""
        return not self.different


Progress = Callable[[ReplayProgress], None]


def compare(
    conn: Connection[TupleRow], program_id: UUID, names: Sequence[str], progress: Progress = lambda _: None
) -> list[ProjectionReport]:
    """Hold some projections against a replay of their logs. conn: between transactions; any role that may read.

    Raises UnknownProgram.
    """
    with conn.transaction(), conn.cursor() as cur:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        made = _Replay(cur, program_id, names, progress)
        made.shadow.begin()
        # What has no shadow would be written for real: the server refuses it from here on.
        cur.execute("SET TRANSACTION READ ONLY")
        made.catch_up()
        made.shadow.settle()
        reports: list[ProjectionReport] = []
        for name in names:
            different, some = made.shadow.differences(name, 1)
            reports.append(ProjectionReport(name, made.shadow.count(name), different, 0, next(iter(some), None)))
    return reports


def replace(
    owner: Connection[TupleRow], program_id: UUID, names: Sequence[str], progress: Progress = lambda _: None
) -> list[ProjectionReport]:
    """The same, and put right what is wrong, in one transaction. owner: between transactions; the role that owns the
    tables. What stands in no log, as a key's secret, cannot be put right: such rows are taken away. Raises
    UnknownProgram."""
    with owner.transaction(), owner.cursor() as cur:
        made = _Replay(cur, program_id, names, progress)
        made.shadow.begin()
        with owner.transaction():
            cur.execute("SET TRANSACTION READ ONLY")
            made.catch_up()
            made.shadow.settle()
        marked = [name for name in names if made.shadow.mark(name)]
        found: dict[str, tuple[int, list[Difference]]] = {}
        if marked:
            cur.execute(f"SET LOCAL lock_timeout = '{LOCK_LIMIT}'")
            for name in made.logs:
                log.lock_head(cur, program_id, name)
            with owner.transaction():
                cur.execute("SET TRANSACTION READ ONLY")
                made.catch_up()
                made.shadow.settle()
            found = {name: made.shadow.wrong(name, 1) for name in marked}
        reports: list[ProjectionReport] = []
        for name in names:
            different, some = found.get(name, (0, []))
            left = made.shadow.mend(name) if different else 0
            rows, first = made.shadow.count(name), next(iter(some), None)
            reports.append(ProjectionReport(name, rows, different, different - left, first))
    return reports


class _Replay:
    """Reads the logs that some projections follow from, in turn."""

    def __init__(self, cur: Rows, program_id: UUID, names: Iterable[str], progress: Progress) -> None:
        self.shadow = Shadow(cur, program_id)
        self.logs = sorted({PROJECTIONS[name].log for name in names})
        self._cur, self._program_id, self._progress = cur, program_id, progress
        self._position = dict.fromkeys(self.logs, 0)

    def catch_up(self) -> None:
        """Replay what is there, and what comes meanwhile, until little is left."""
        for name in self.logs:
            take = self.shadow.books if name == "books" else self.shadow.traffic
            while True:
                before, last = self._position[name], log.last_position(self._cur, self._program_id, name)
                for events in _events(self._cur, self._program_id, name, before, last):
                    take(events)
                    self._position[name] = events[-1].position
                    self._progress(ReplayProgress(name, self._position[name], last))
                # a log whose head promises more than there is will never come nearer to it
                if last - before <= EVENTS_AT_ONCE or self._position[name] == before:
                    break


def _events(cur: Rows, program_id: UUID, name: str, after: int, last: int) -> Iterator[list[Recorded]]:
    """A log's events behind a position up to another, some at a time."""
    while after < last:
        rows = log.select_rows(cur, program_id, name, after, min(EVENTS_AT_ONCE, last - after))
        if not rows:
            return
        yield [shadow.recorded(*row) for row in rows]
        after = rows[-1][0]
