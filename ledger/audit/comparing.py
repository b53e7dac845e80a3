"""Two views of the log side by side: which accounts differ, and event by event why.

Movements between the two points are many, so they wait in a temporary file (SQLite, which is in the standard library),
where they are also added up a second time: what the events say must be what the balances differ by.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType

from msgspec import Struct

from ledger.audit.replay import Event, Replay, Until, is_behind, whole
from ledger.audit.views import View, owner_of, view

_TABLES = """
CREATE TABLE moves (account TEXT, currency TEXT, position INTEGER, at TEXT, topic TEXT, actor TEXT, request_id TEXT,
                    reference TEXT, amount INTEGER);
CREATE TABLE changes (kind TEXT, before TEXT, after TEXT, record_id TEXT, position INTEGER);
"""
_AT_ONCE = 10_000


class DoesNotAddUp(Exception):
    """The events between two views do not sum to what an account differs by; the message names it."""


class Move(Struct):
    """An event that moved an account. amount: minor units, above zero a debit."""

    position: int
    recorded_at: str
    topic: str
    actor: str
    request_id: str
    reference: str
    amount: int


class Moved(Struct):
    """An account that events moved: before + the sum of its event_count events = after (debits less credits)."""

    account: str
    currency: str
    affiliate_id: str
    before: int
    after: int
    change: int
    event_count: int


class Became(Struct):
    """Records of a kind whose status changed from one to another ('': they were not there), and the first and last
    position where one did."""

    kind: str
    before: str
    after: str
    count: int
    first_position: int
    last_position: int


class TopicCount(Struct):
    """How many events of a topic lie between, and where."""

    topic: str
    count: int
    first_position: int
    last_position: int


class Difference:
    """What changed from one view to a later one. Close it."""

    def __init__(self, affiliate_id: str = "") -> None:
        self._db = sqlite3.connect("")  # a temporary file, gone when closed
        self._db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
        self._affiliate_id = affiliate_id
        self._moves: list[tuple[object, ...]] = []
        self._changes: list[tuple[object, ...]] = []
        self._topics: dict[str, TopicCount] = {}
        self.before: View
        self.after: View

    def __enter__(self) -> Difference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    # --- filling ---------------------------------------------------------------------------------------------

    def note(self, replayed: Replay, event: Event) -> None:
        """Take an event that lies between the two."""
        moved, change = replayed.take(event)
        mine = self._affiliate_id
        for one in moved:
            for account, amount in ((one.debit, one.amount), (one.credit, -one.amount)):
                if not mine or owner_of(account) == mine:
                    self._moves.append(
                        (account, one.currency, event.position, event.recorded_at.isoformat(), event.topic, event.actor,
                         event.request_id, event.reference, amount)
                    )  # fmt: skip
        if len(self._moves) + len(self._changes) >= _AT_ONCE:
            self._store()
        if mine and not self._is_mine(
            replayed, event, change.kind if change else "", change.record_id if change else ""
        ):
            return
        seen = self._topics.setdefault(event.topic, TopicCount(event.topic, 0, event.position, event.position))
        seen.count, seen.last_position = seen.count + 1, event.position
        if change is not None:
            self._changes.append((change.kind, change.before, change.after, change.record_id, event.position))

    def _is_mine(self, replayed: Replay, event: Event, kind: str, record_id: str) -> bool:
        if event.state.get("affiliate_id") == self._affiliate_id:
            return True
        record = replayed.records[kind].get(record_id) if kind else None
        return record is not None and record.affiliate_id == self._affiliate_id

    def _store(self) -> None:
        self._db.executemany("INSERT INTO moves VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._moves)
        self._db.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", self._changes)
        self._moves.clear()
        self._changes.clear()

    def finish(self, before: View, after: View) -> None:
        """Both ends are known. Raises DoesNotAddUp."""
        self._store()
        self._db.execute("CREATE INDEX moves_by_account ON moves (account, currency, position)")
        self.before, self.after = before, after
        was, is_ = (_amounts(one) for one in (before, after))
        said = {
            (account, currency): total
            for account, currency, total in self._db.execute(
                "SELECT account, currency, sum(amount) FROM moves GROUP BY account, currency"
            )
        }
        for place in sorted(was.keys() | is_.keys() | said.keys()):
            change = is_.get(place, 0) - was.get(place, 0)
            if said.get(place, 0) != change:
                raise DoesNotAddUp(
                    f"{place[0]} differs by {change} {place[1]} in minor units, but its events say {said.get(place, 0)}"
                )

    # --- reading ---------------------------------------------------------------------------------------------

    def accounts(self) -> Iterator[Moved]:
        """Every account that was moved, also where nothing is left of it, in the order of names."""
        was, is_ = _amounts(self.before), _amounts(self.after)
        query = "SELECT account, currency, count(*) FROM moves GROUP BY account, currency ORDER BY account, currency"
        for account, currency, count in self._db.execute(query):
            before, after = was.get((account, currency), 0), is_.get((account, currency), 0)
            yield Moved(account, currency, owner_of(account), before, after, after - before, count)

    def events(self, account: str, currency: str) -> Iterator[Move]:
        """What moved an account, in the order of the log."""
        query = (
            "SELECT position, at, topic, actor, request_id, reference, amount FROM moves"
            " WHERE account = ? AND currency = ? ORDER BY position, rowid"
        )
        for row in self._db.execute(query, (account, currency)):
            yield Move(*row)

    def changes(self) -> list[Became]:
        """How many records went from one status to another."""
        query = (
            "SELECT kind, before, after, count(*), min(position), max(position) FROM changes"
            " GROUP BY kind, before, after ORDER BY kind, before, after"
        )
        return [Became(*row) for row in self._db.execute(query)]

    def positions(self, became: Became) -> list[int]:
        """Where records went from one status to another."""
        query = "SELECT position FROM changes WHERE kind = ? AND before = ? AND after = ? ORDER BY position"
        return [one for (one,) in self._db.execute(query, (became.kind, became.before, became.after))]

    def topics(self) -> list[TopicCount]:
        """Every topic between the two points."""
        return [self._topics[topic] for topic in sorted(self._topics)]


def _amounts(of: View) -> dict[tuple[str, str], int]:
    return {(one.account, one.currency): one.amount for one in of.accounts}


def compare(events: Iterable[Event], one: Until, other: Until, affiliate_id: str = "") -> Difference:
    """The difference between what was believed at two points, whichever is earlier. Close it. Raises NotWhole,
    DoesNotAddUp."""
    replayed = Replay()
    found = Difference(affiliate_id)
    try:
        before: View | None = None
        bounds: list[int | datetime | None] = [one, other]
        for event in whole(events):
            passed = [bound for bound in bounds if is_behind(event, bound)]
            if passed and before is None:
                before = view(replayed, affiliate_id)
                bounds.remove(passed[0])
                passed = passed[1:]
            if passed:
                break
            if before is None:
                replayed.take(event)
            else:
                found.note(replayed, event)
        after = view(replayed, affiliate_id)
        found.finish(before or after, after)
    except BaseException:
        found.__exit__(None, None, None)
        raise
    return found
