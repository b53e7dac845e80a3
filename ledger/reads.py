"""The read side: questions to one program's books and records, each one statement where that is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import TupleRow

from ledger.domain.postings import accounts_of
from ledger.projections.books import BALANCE_FIELDS
from ledger.store.database import Pool


def fetch(pool: Pool, query: LiteralString, params: Mapping[str, Any]) -> list[TupleRow]:
    """The rows of one statement, in a transaction of its own that takes one round trip instead of three."""
    with pool.connection() as conn:
        conn.autocommit = True
        try:
            return conn.execute(query, params).fetchall()
        finally:
            if not conn.closed:
                conn.autocommit = False


# --- access keys -------------------------------------------------------------------------------------------

_ACCESS_KEY: LiteralString = (
    "SELECT secret_hmac, role, holder, affiliate_id, expires_at, revoked_at FROM api_keys"
    " WHERE program_id = %(program_id)s AND key_id = %(key_id)s"
)


def access_key(pool: Pool, program_id: UUID, key_id: str) -> TupleRow | None:
    """(secret_hmac, role, holder, affiliate_id, expires_at, revoked_at) of a key, or None."""
    rows = fetch(pool, _ACCESS_KEY, {"program_id": program_id, "key_id": key_id})
    return rows[0] if rows else None


# --- balances ----------------------------------------------------------------------------------------------

_BALANCE: LiteralString = (
    "SELECT h.next_position - 1, d.status, b.account, b.currency, b.amount FROM log_heads h"
    " LEFT JOIN directory d ON d.program_id = h.program_id AND d.kind = 'affiliate' AND d.record_id = %(affiliate_id)s"
    " LEFT JOIN balances b ON b.program_id = h.program_id AND b.generation = h.generation"
    "      AND b.affiliate_id = %(affiliate_id)s"
    " WHERE h.program_id = %(program_id)s AND h.log = 'books'"
)


def balance_now(pool: Pool, program_id: UUID, affiliate_id: str) -> tuple[int, list[dict[str, Any]]] | None:
    """(position, what an affiliate is owed and was paid, one object a currency), or None without such affiliate."""
    rows = fetch(pool, _BALANCE, {"program_id": program_id, "affiliate_id": affiliate_id})
    if not rows or rows[0][1] is None:
        return None
    return rows[0][0], currencies(affiliate_id, [(row[2], row[3], row[4]) for row in rows if row[2] is not None])


def currencies(affiliate_id: str, rows: Sequence[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Accounts as an affiliate reads them: what is owed and was paid, above zero, one object a currency."""
    field_of = {account: field for field, account in accounts_of(affiliate_id).items()}
    found: dict[str, dict[str, Any]] = {}
    for account, currency, amount in rows:
        one = found.get(currency)
        if one is None:
            one = found[currency] = {"currency": currency} | dict.fromkeys(BALANCE_FIELDS, 0)
        one[field_of[account]] = -amount
    return [found[currency] for currency in sorted(found)]
