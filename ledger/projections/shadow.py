"""Read models rebuilt beside the live ones: replayed from the log, compared, and put right where they differ.

A temporary table of the same name stands in front of each table that a projection writes, so that the very code that
wrote the live rows writes the shadow's, and reads the log where it is. The replay runs in a read-only transaction, in
which nothing but temporary tables can be written: a projection that has no shadow here fails instead of writing twice,
and nothing outside of the database is called by it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql as pgsql

from ledger import sql
from ledger.domain import exceptions
from ledger.domain.access import KeyIssued, KeyRevoked
from ledger.domain.click import ClickRecorded
from ledger.domain.event import Recorded
from ledger.domain.impression import ImpressionRecorded
from ledger.domain.period import PeriodClosed, PeriodReissued
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counted
from ledger.domain.stream_keys import stream_key
from ledger.domain.topics import FOLDS
from ledger.projections import counters, inline, periods, touches
from ledger.projections.planning import Planning
from ledger.store import codec
from ledger.store.database import allow_long
from ledger.store.log import Rows, uuid_array

QUERIES = sql.load("ledger.projections", "shadow.sql")
EVENTS_AT_ONCE = 5_000
RECORDS_KEPT = 20_000  # of streams that were touched last, so that they need not be read again


class Projection(NamedTuple):
    """A table that follows from a log. key: its primary key behind program_id; subject: what people call a row by;
    beside: columns that stand in no event, neither compared nor rebuilt."""

    table: str
    log: str
    key: tuple[str, ...]
    subject: tuple[str, ...]
    beside: tuple[str, ...] = ()


PROJECTIONS: dict[str, Projection] = {
    one.table: one
    for one in (
        Projection("conversions", "books", ("originator_id", "share_no"), ("order_id",)),
        Projection("directory", "books", ("kind", "record_id"), ("kind", "record_id")),
        Projection("payouts", "books", ("payout_id",), ("payout_id",)),
        Projection("payout_runs", "books", ("run_id",), ("run_id",)),
        Projection("bank_lines", "books", ("line_id",), ("line_id",)),
        Projection("periods", "books", ("period", "version"), ("period", "version")),
        Projection(
            "statements", "books", ("affiliate_id", "period", "version"), ("affiliate_id", "period", "version")
        ),
        Projection(
            "carried_lines", "books", ("period", "version", "position", "line_no"),
            ("period", "version", "position", "line_no"),
        ),
        Projection(
            "plan_counters", "books", ("offer_id", "affiliate_id", "period", "currency"),
            ("offer_id", "affiliate_id", "period", "currency"),
        ),
        # the secret itself is in no log: a row that is gone cannot be made again, its key must be issued anew
        Projection("api_keys", "books", ("key_id",), ("key_id",), ("secret_hmac",)),
        Projection(
            "touches", "traffic", ("person", "offer_id", "kind", "occurred_at", "position"), ("position",)
        ),
    )
}  # fmt: skip


class Difference(NamedTuple):
    """A row on which replay and live table disagree. subject: 'conversions o1'; position: of the event that the row
    says wrote it last, None where rows bear none; expected (replayed) and found (live): the columns that differ, the
    whole row where the other side has none, which is None."""

    table: str
    subject: str
    position: int | None
    expected: dict[str, Any] | None
    found: dict[str, Any] | None


class _Stream:
    """A stream as projections are handed it (ledger.projections.listing.Touched)."""

    __slots__ = ("_folded", "_state", "fresh", "id", "key", "kind", "records")

    def __init__(self, id_: UUID) -> None:
        self.id, self.key, self.kind = id_, "", ""
        self.records: list[Recorded] = []
        self.fresh = 0
        self._state: Any = None
        self._folded = 0

    def add(self, record: Recorded) -> None:
        """The stream's next event."""
        if not self.records:
            self.key = stream_key(record.body)
            self.kind = self.key.partition(":")[0]
        self.records.append(record)

    @property
    def state(self) -> Any:
        """What its events add up to."""
        if self._folded < len(self.records):
            fold = FOLDS.get(self.kind, exceptions.fold)
            for record in self.records[self._folded :]:
                self._state = fold(self._state, record.body)
            self._folded = len(self.records)
        return self._state


class Shadow:
    """The shadows of one program's read models, in a transaction of the cursor's connection. cur: not binary.

    Call begin() first; then the events of each log in order, through books() and traffic(); settle(); and compare.
    """

    def __init__(self, cur: Rows, program_id: UUID) -> None:
        self._cur, self._program_id = cur, program_id
        self._streams: OrderedDict[UUID, _Stream] = OrderedDict()
        self._kept = 0
        self._carried: set[tuple[str, int]] = set()

    def begin(self) -> None:
        """Make the empty tables. They, and the search path that puts them in front, are gone with the transaction."""
        allow_long(self._cur)
        for one in PROJECTIONS.values():
            table = pgsql.Identifier(one.table)
            self._cur.execute(
                pgsql.SQL("CREATE TEMPORARY TABLE {} (LIKE public.{}) ON COMMIT DROP").format(table, table)
            )
            for column in one.beside:
                self._cur.execute(
                    pgsql.SQL("ALTER TABLE pg_temp.{} DROP COLUMN {}").format(table, pgsql.Identifier(column))
                )
            self._cur.execute(
                pgsql.SQL("ALTER TABLE pg_temp.{} ADD PRIMARY KEY ({})").format(table, _names(("program_id", *one.key)))
            )
        self._cur.execute("SET LOCAL search_path = pg_temp, public")

    # --- replaying -------------------------------------------------------------------------------------

    def books(self, events: Sequence[Recorded]) -> None:
        """The next events of the books."""
        part: list[Recorded] = []
        for event in events:
            part.append(event)
            # a cut's row bears its own instant, and knows the cut before it by its row
            if isinstance(event.body, PeriodClosed | PeriodReissued):
                self._batch(part)
                part = []
        if part:
            self._batch(part)

    def _batch(self, events: Sequence[Recorded]) -> None:
        self._load({e.originator_id: e for e in reversed(events)})
        touched: dict[UUID, _Stream] = {}
        counted: Counted = {}
        for event in events:
            stream = self._streams[event.originator_id]
            stream.add(event)
            stream.fresh += 1
            touched[event.originator_id] = stream
            if Planning.counts(event.body):
                counting.add_up(counted, counting.changes(stream.state, event.body))
        now = events[-1].recorded_at
        assert now is not None
        inline.store(self._cur, self._program_id, list(touched.values()), now)
        self._store_keys(events)
        counters.store(self._cur, self._program_id, counted)
        self._kept += len(events)
        for id_, stream in touched.items():
            stream.fresh = 0
            self._streams.move_to_end(id_)
        while self._kept > RECORDS_KEPT:
            self._kept -= len(self._streams.popitem(last=False)[1].records)

    def _load(self, firsts: dict[UUID, Recorded]) -> None:
        """Have the earlier events of the streams that a batch goes on with. firsts: each one's first in the batch."""
        old: list[UUID] = []
        for id_, first in firsts.items():
            if id_ not in self._streams:
                self._streams[id_] = _Stream(id_)
                if first.originator_version > 1:
                    old.append(id_)
        if not old:
            return
        before = min(first.position for first in firsts.values())
        params = {"program_id": self._program_id, "ids": uuid_array(old), "before": before}
        for record in _recorded(self._cur.execute(QUERIES["select_streams_before"], params)):
            self._streams[record.originator_id].add(record)
            self._kept += 1

    def _store_keys(self, events: Iterable[Recorded]) -> None:
        for event in events:
            body = event.body
            if isinstance(body, KeyIssued):
                row = {
                    "program_id": self._program_id, "key_id": body.access_key_id, "role": body.role,
                    "holder": body.holder, "holder_kind": body.holder_kind, "affiliate_id": body.affiliate_id,
                    "issued_by": f"rotation-by-{event.actor}" if body.rotates else event.actor,
                    "issued_at": event.recorded_at, "expires_at": body.expires_at,
                }  # fmt: skip
                self._cur.execute(QUERIES["insert_key"], row)
            elif isinstance(body, KeyRevoked):
                row = {"program_id": self._program_id, "key_id": body.access_key_id, "revoked_at": event.recorded_at}
                self._cur.execute(QUERIES["revoke_key"], row)

    def traffic(self, events: Iterable[Recorded]) -> None:
        """The next clicks and impressions."""
        rows = touches.TouchRows(self._program_id)
        for event in events:
            touch = event.body
            if isinstance(touch, ClickRecorded | ImpressionRecorded):
                kind = "click" if isinstance(touch, ClickRecorded) else "impression"
                rows.add(kind, event.position, event.originator_id.bytes, touch)
        rows.store(self._cur)

    def settle(self) -> None:
        """What follows from tables instead of events: the lines that wait for a later period. Call it again after
        more events."""
        params = {"program_id": self._program_id}
        self._cur.execute(QUERIES["select_cuts"], params)
        for period, version in self._cur.fetchall():
            if (period, version) not in self._carried:
                self._carried.add((period, version))
                cut = periods.cut(self._cur, self._program_id, period, version)
                assert cut is not None
                periods.carry(self._cur, self._program_id, cut)
        # between the cut and the end of closing there is a moment at which the live ones are not noted yet
        self._cur.execute(QUERIES["forget_lines_to_come"], params)
        for one in PROJECTIONS.values():
            self._cur.execute(pgsql.SQL("ANALYZE pg_temp.{}").format(pgsql.Identifier(one.table)))

    # --- comparing -------------------------------------------------------------------------------------

    def count(self, name: str) -> int:
        """How many rows the replay made."""
        query = pgsql.SQL("SELECT count(*) FROM pg_temp.{} WHERE program_id = %s")
        self._cur.execute(query.format(pgsql.Identifier(name)), (self._program_id,))
        return _one(self._cur)

    def differences(self, name: str, limit: int) -> tuple[int, list[Difference]]:
        """(how many rows differ, the first of them in the order of their keys)."""
        one, params = PROJECTIONS[name], {"program_id": self._program_id, "limit": limit}
        self._cur.execute(self._compose("count_differences", one), params)
        if not (count := _one(self._cur)):
            return 0, []
        self._cur.execute(self._compose("select_differences", one), params)
        return count, [_difference(one, *row) for row in self._cur]

    def mark(self, name: str) -> int:
        """Note which rows differ. While others write, that is more than are wrong, and never less. Returns how
        many."""
        self._cur.execute(self._compose("mark_differences", PROJECTIONS[name]), {"program_id": self._program_id})
        return self._cur.rowcount

    def wrong(self, name: str, limit: int) -> tuple[int, list[Difference]]:
        """As differences(), of the rows that were marked and differ now. The caller holds the log's lock."""
        one, params = PROJECTIONS[name], {"program_id": self._program_id, "limit": limit}
        self._cur.execute(self._compose("unmark_equal", one), params)
        self._cur.execute(self._compose("count_marked", one))
        count = _one(self._cur)
        self._cur.execute(self._compose("select_marked", one), params)
        return count, [_difference(one, *row) for row in self._cur]

    def mend(self, name: str) -> int:
        """Replace the wrong rows by the replay's, as the owner and under the log's lock. Returns how many could not be
        made again, because something in them stands in no log."""
        one, params = PROJECTIONS[name], {"program_id": self._program_id}
        for query in ("keep_beside", "delete_wrong", "insert_right"):
            self._cur.execute(self._compose(query, one), params)
        self._cur.execute(self._compose("unmark_equal", one), params)
        self._cur.execute(self._compose("count_missing", one), params)
        return _one(self._cur)

    def _compose(self, query: str, one: Projection) -> pgsql.Composed:
        """A query about a table. Its columns are asked for, so that one that is added is compared as well."""
        self._cur.execute(QUERIES["select_columns"], {"table": f"public.{one.table}"})
        columns = [column for (column,) in self._cur if column not in one.beside]
        keys = ("program_id", *one.key)
        either = [pgsql.SQL("coalesce(s.{0}, l.{0})").format(pgsql.Identifier(key)) for key in one.key]
        named = [pgsql.SQL("{} AS {}").format(e, pgsql.Identifier(k)) for e, k in zip(either, one.key, strict=True)]
        known = [pgsql.SQL("k.{} IS NOT NULL").format(pgsql.Identifier(column)) for column in one.beside]
        return pgsql.SQL(QUERIES[query]).format(
            table=pgsql.Identifier(one.table),
            marked=pgsql.Identifier(f"marked_{one.table}"),
            kept=pgsql.Identifier(f"kept_{one.table}"),
            on=_and([pgsql.SQL("s.{0} = l.{0}").format(pgsql.Identifier(key)) for key in keys]),
            either=_listed(either),
            either_named=_listed(named),
            replayed=_names(columns, "s"),
            live=_names(columns, "l"),
            every=_names((*columns, *one.beside)),
            right=_listed([_names(columns, "s"), *(_names([c], "k") for c in one.beside)]),
            known=_and([pgsql.SQL("true"), *known]),
            **{f"of_{of}": _names(one.key, of) for of in "smlk"},
        )


def _and(parts: Iterable[pgsql.Composable]) -> pgsql.Composed:
    return pgsql.SQL(" AND ").join(parts)


def _listed(parts: Iterable[pgsql.Composable]) -> pgsql.Composed:
    return pgsql.SQL(", ").join(parts)


def _names(columns: Iterable[str], of: str = "") -> pgsql.Composed:
    return _listed(pgsql.Identifier(of, column) if of else pgsql.Identifier(column) for column in columns)


def _one(cur: Rows) -> int:
    row = cur.fetchone()
    assert row is not None
    return int(row[0])


def _difference(one: Projection, expected: dict[str, Any] | None, found: dict[str, Any] | None) -> Difference:
    said = expected or found or {}
    subject = " ".join([one.table, *(str(said[name]) for name in one.subject)])
    position = said.get("position")
    for row in (expected, found):
        if row is not None:
            row.pop("program_id", None)
            for name in one.beside:
                row.pop(name, None)
    if expected is not None and found is not None:
        apart = [name for name in expected if expected[name] != found.get(name)]
        expected, found = ({name: row.get(name) for name in apart} for row in (expected, found))
    return Difference(one.table, subject, position, expected, found)


def _recorded(rows: Iterable[Any]) -> Iterator[Recorded]:
    for position, originator, version, topic, recorded_at, actor, key_id, request_id, cause, state in rows:
        yield recorded(position, originator, version, topic, recorded_at, actor, key_id, request_id, cause, state)


def recorded(
    position: int, originator: UUID, version: int, topic: str, recorded_at: datetime, actor: str, key_id: str,
    request_id: str, cause: str, state: str,
) -> Recorded:  # fmt: skip
    """A row of a log, decoded. Raises codec.UnknownTopic, msgspec.DecodeError."""
    body = codec.decode_state(topic, state)
    return Recorded(originator, version, body, position, recorded_at, actor, key_id, request_id, cause)
