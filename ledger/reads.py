"""The read side: questions to one program's books and records. What is asked often is one statement in one round
trip; the rest goes through a Look."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow

from ledger import batches
from ledger.application import CommissionLedger
from ledger.domain import conversion, exceptions
from ledger.domain.event import Recorded
from ledger.domain.exceptions import ExceptionState
from ledger.domain.ids import stream_id
from ledger.domain.topics import FOLDS
from ledger.projections import directory
from ledger.projections.books import BALANCE_FIELDS
from ledger.projections.directory import Entry
from ledger.store import log
from ledger.store.database import Pool
from ledger.store.log import Rows
from ledger.store.vault import Vault

AFFILIATES_AT_ONCE = 500
_NOTHING = dict.fromkeys(BALANCE_FIELDS, 0)


def fetch(pool: Pool, query: LiteralString, params: Mapping[str, Any]) -> list[TupleRow]:
    """The rows of one statement, which is a transaction of its own: one round trip instead of three."""
    with pool.connection() as conn:
        conn.autocommit = True
        conn.deadline = time.monotonic() + batches.PATIENCE_SECONDS
        try:
            return conn.execute(query, params).fetchall()
        finally:
            conn.deadline = None
            if not conn.closed:
                conn.autocommit = False


# --- access keys -------------------------------------------------------------------------------------------

_ACCESS_KEY: LiteralString = (
    "SELECT secret_hmac, role, holder, affiliate_id, expires_at, revoked_at FROM api_keys"
    " WHERE program_id = %(program_id)s AND key_id = %(key_id)s"
)
_KEY_FIELDS = (
    "key_id", "role", "holder", "holder_kind", "affiliate_id", "issued_by", "issued_at", "expires_at", "revoked_at",
)  # fmt: skip
_ACCESS_KEYS: LiteralString = (
    "SELECT key_id, role, holder, holder_kind, affiliate_id, issued_by, issued_at, expires_at, revoked_at"
    " FROM api_keys WHERE program_id = %(program_id)s AND key_id > %(after)s ORDER BY key_id LIMIT %(limit)s"
)


def access_key(pool: Pool, program_id: UUID, key_id: str) -> TupleRow | None:
    """(secret_hmac, role, holder, affiliate_id, expires_at, revoked_at) of a key, or None."""
    rows = fetch(pool, _ACCESS_KEY, {"program_id": program_id, "key_id": key_id})
    return rows[0] if rows else None


def access_keys(pool: Pool, program_id: UUID, after: str, limit: int) -> list[dict[str, Any]]:
    """Keys behind a key id, in the order of ids; nothing of their secrets."""
    rows = fetch(pool, _ACCESS_KEYS, {"program_id": program_id, "after": after, "limit": limit})
    return [dict(zip(_KEY_FIELDS, row, strict=True)) for row in rows]


# --- balances ----------------------------------------------------------------------------------------------

_BALANCE: LiteralString = (
    "SELECT h.next_position - 1, b.account, b.currency, b.amount FROM log_heads h"
    " LEFT JOIN balances b ON b.program_id = %(program_id)s AND b.generation = h.generation"
    "      AND b.affiliate_id = %(affiliate_id)s"
    " WHERE h.program_id = %(program_id)s AND h.log = 'books'"
)
_AFFILIATE_EXISTS: LiteralString = (
    "SELECT 1 FROM directory WHERE program_id = %(program_id)s AND kind = 'affiliate' AND record_id = %(affiliate_id)s"
)


def balance_now(pool: Pool, program_id: UUID, affiliate_id: str) -> tuple[int, list[dict[str, Any]]] | None:
    """(position, what an affiliate is owed and was paid, one object a currency), or None without such affiliate.

    One statement for an affiliate that ever had an entry; only then is it certain that there is one.
    """
    params = {"program_id": program_id, "affiliate_id": affiliate_id}
    rows = fetch(pool, _BALANCE, params)
    if not rows:
        return None
    if rows[0][1] is None:
        return (rows[0][0], []) if fetch(pool, _AFFILIATE_EXISTS, params) else None
    return rows[0][0], owed(row[1:] for row in rows)


def owed(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """One affiliate's (account, currency, amount) as it reads them: what is owed and was paid, above zero, one object
    a currency."""
    found: dict[str, dict[str, Any]] = {}
    for account, currency, amount in rows:
        one = found.get(currency)
        if one is None:
            one = found[currency] = {"currency": currency} | _NOTHING
        one["paid" if account.startswith("asset:") else account.rpartition(":")[2]] = -amount
    return [found[currency] for currency in sorted(found)]


# --- who is credited ---------------------------------------------------------------------------------------

_CREDITED: LiteralString = (
    "SELECT FROM conversions WHERE program_id = %(program_id)s AND originator_id = %(originator_id)s"
    " AND affiliate_id = %(affiliate_id)s LIMIT 1"
)


def is_credited(pool: Pool, program_id: UUID, order_id: str, affiliate_id: str) -> bool:
    """Whether an affiliate has a commission on an order, alone or with others."""
    originator_id = stream_id(program_id, conversion.key(order_id))
    params = {"program_id": program_id, "originator_id": originator_id, "affiliate_id": affiliate_id}
    return bool(fetch(pool, _CREDITED, params))


# --- the log -----------------------------------------------------------------------------------------------


def log_lines(pool: Pool, program_id: UUID, log_name: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """(position, export line) of up to `limit` events behind a position."""
    with pool.connection() as conn, conn.cursor() as cur:
        rows = log.select_rows(cur, program_id, log_name, after, limit)
    line = log.line_maker(program_id, log_name)
    return [(row[0], line(row)) for row in rows]


# A reversal's first event is its ReversalRecorded, which names the order.
_REVERSALS_KEPT: LiteralString = (
    "SELECT d.record_id FROM directory d JOIN book_events e ON e.program_id = %(p)s"
    " AND e.originator_id = d.originator_id AND e.originator_version = 1 AND e.topic = 'ReversalRecorded'"
    " WHERE d.program_id = %(p)s AND d.kind = 'exception' AND d.affiliate_id = %(affiliate)s"
    " AND d.type IN ('reversal_above_rest', 'currency_mismatch') AND d.record_id LIKE 'reversal:%%'"
    " AND e.state::jsonb ->> 'order_id' = %(order)s ORDER BY d.position"
)

# --- records -----------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A record: its id, what its events add up to, and the position of its last event (an exception's: of the
    event that raised it)."""

    record_id: str
    state: Any
    position: int


class Look:
    """A look at one program's records, on one connection."""

    def __init__(self, cur: Rows, program_id: UUID, vault: Vault) -> None:
        self.cur, self.program_id = cur, program_id
        self._vault = vault

    def unseal(self, subject: str, key: str, field: str, sealed: str) -> str | None:
        """Personal text again, or None once its subject's key is erased."""
        return self._vault.unseal(subject, key, field, sealed)

    def events(self, keys: Sequence[str]) -> list[Recorded]:
        """Every event of some streams, in the order of the log."""
        ids = [stream_id(self.program_id, key) for key in keys]
        return sorted(log.select_streams(self.cur, self.program_id, ids), key=lambda event: event.position)

    def record(self, key: str) -> Found | None:
        """A record by its stream key."""
        events = self.events([key])
        if not events:
            return None
        kind, _, record_id = key.partition(":")
        return Found(record_id, _folded(kind, events), events[-1].position)

    def exception(self, exception_id: str) -> Found | None:
        """The exception of a stream, if it has one."""
        state, position = _exception_in(self.events([exception_id]))
        return None if state is None else Found(exception_id, state, position)

    def reversals_kept(self, order_id: str, affiliate_id: str) -> list[str]:
        """Ids of an order's reversals that could not be applied: they stand in no stream but their own."""
        self.cur.execute(_REVERSALS_KEPT, {"p": self.program_id, "order": order_id, "affiliate": affiliate_id})
        return [record_id.partition(":")[2] for (record_id,) in self.cur]

    def listed(
        self,
        kind: str,
        after: str,
        limit: int,
        status: str | None = None,
        type_: str | None = None,
        affiliate_id: str | None = None,
    ) -> list[Entry]:
        """Which records of a kind there are, in the order of their ids."""
        return directory.page(
            self.cur,
            self.program_id,
            kind,
            after=after,
            limit=limit,
            status=status,
            type_=type_,
            affiliate_id=affiliate_id,
        )

    def records(
        self,
        kind: str,
        after: str,
        limit: int,
        status: str | None = None,
        type_: str | None = None,
        affiliate_id: str | None = None,
    ) -> list[Found]:
        """The records of a kind, in the order of their ids."""
        entries = self.listed(kind, after, limit, status, type_, affiliate_id)
        streams: dict[UUID, list[Recorded]] = {entry.originator_id: [] for entry in entries}
        for event in log.select_streams(self.cur, self.program_id, list(streams)):
            streams[event.originator_id].append(event)
        found: list[Found] = []
        for entry in entries:
            events = streams[entry.originator_id]
            if kind == "exception":
                state, position = _exception_in(events)
                found.append(Found(entry.record_id, state, position))
            else:
                found.append(Found(entry.record_id, _folded(kind, events), events[-1].position))
        return found

    def affiliates(
        self,
        at: datetime,
        after: str = "",
        status: str | None = None,
        group: str | None = None,
        at_once: int = AFFILIATES_AT_ONCE,
    ) -> Iterator[Found]:
        """Affiliates in the order of their ids, all or of a status, or in a group at an instant; read so many at once,
        as they are asked for."""
        while found := self.records("affiliate", after, at_once, status):
            for one in found:
                if group is None or one.state.group_at(at) == group:
                    yield one
            after = found[-1].record_id


def _folded(kind: str, events: Sequence[Recorded]) -> Any:
    state: Any = None
    for event in events:
        state = FOLDS[kind](state, event.body)
    return state


def _exception_in(events: Sequence[Recorded]) -> tuple[ExceptionState | None, int]:
    state: ExceptionState | None = None
    position = 0
    for event in events:
        state = exceptions.fold(state, event.body)
        if isinstance(event.body, exceptions.ExceptionRaised):
            position = event.position
    return state, position


@contextmanager
def reading(ledger: CommissionLedger, program: str) -> Iterator[Look]:
    """A look at a program."""
    with ledger.reading(program) as (cur, program_id):
        yield Look(cur, program_id, Vault(cur, ledger.secrets, program_id, ledger.clock()))
