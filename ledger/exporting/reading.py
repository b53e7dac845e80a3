"""Long reads: a transaction that is given time, and rows that the server holds until they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg.abc import Query

from ledger.application import CommissionLedger
from ledger.store.database import allow_long
from ledger.store.log import Rows

ROWS_AT_ONCE = 5_000
IDLE_TIMEOUT = "10min"  # a disk may be slow while a cursor waits


@contextmanager
def reading(ledger: CommissionLedger, program: str) -> Iterator[tuple[Rows, UUID]]:
    """As ledger.reading(), for work that takes long."""
    with ledger.reading(program) as (cur, id_):
        allow_long(cur, IDLE_TIMEOUT)
        yield cur, id_


def in_parts(cur: Rows, name: str, query: Query, params: dict[str, Any]) -> Iterator[Sequence[Any]]:
    """A query's rows, some thousand at a time, which the server holds until they are asked for."""
    with cur.connection.cursor(name=name) as rows:
        rows.execute(query, params)
        while some := rows.fetchmany(ROWS_AT_ONCE):
            yield some
