"""The books: journal and balances, written in the append's transaction, so that a balance is never stale.

Running balances are known because the caller holds the program's lock. The same Ledger of running balances writes
the live books and their rebuild.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import sql
from ledger.domain.event import Recorded
from ledger.domain.postings import Transfer, owner, postings
from ledger.store.copy import BINARY_HEADER, BINARY_TRAILER, MICROSECOND, PG_EPOCH
from ledger.store.log import Rows, last_position, position_at

QUERIES = sql.load("ledger.projections", "books.sql")

JOURNAL_COLUMNS = (
    "program_id, generation, position, line_no, debit, credit, amount, currency, effective_at, recorded_at,"
    " affiliate_id, debit_balance, credit_balance"
)
BALANCE_COLUMNS = "program_id, generation, account, currency, affiliate_id, amount, position"
COPY_FROM_LINES = 4
VALUES_AT_ONCE = 500

Account = tuple[str, str]  # (account, currency)


class Line(NamedTuple):
    """A journal line as it is written."""

    position: int
    line_no: int
    transfer: Transfer
    recorded_at: datetime
    debit_balance: int
    credit_balance: int


class RunningBalances:
    """What accounts hold as lines are added in order. amounts may be remembered between batches while nobody else
    has written; moved are the accounts to be stored."""

    def __init__(self) -> None:
        self.amounts: dict[Account, int] = {}
        self.stored: set[Account] = set()  # those that have a row
        self.moved: dict[Account, int] = {}  # → the position that moved it last

    def lines(self, position: int, recorded_at: datetime, transfers: Sequence[Transfer]) -> Iterable[Line]:
        """Number an event's transfers and add them up."""
        amounts, moved = self.amounts, self.moved
        for line_no, transfer in enumerate(transfers, 1):
            debit, credit = (transfer.debit, transfer.currency), (transfer.credit, transfer.currency)
            after_debit = amounts[debit] = amounts.get(debit, 0) + transfer.amount
            after_credit = amounts[credit] = amounts.get(credit, 0) - transfer.amount
            moved[debit] = moved[credit] = position
            yield Line(position, line_no, transfer, recorded_at, after_debit, after_credit)


def post(
    cur: Rows,
    program_id: UUID,
    generation: int,
    recorded: Sequence[Recorded],
    recorded_at: datetime,
    running: RunningBalances,
) -> None:
    """Post a batch's events. The caller holds the head's lock; `running` knows nothing false."""
    planned = [(r.position, transfers) for r in recorded if (transfers := postings(r.body))]
    if not planned:
        return
    _load_missing(cur, program_id, generation, planned, running)
    lines = [line for position, transfers in planned for line in running.lines(position, recorded_at, transfers)]
    insert_lines(cur, program_id, generation, lines)
    store_balances(cur, program_id, generation, running)


def _load_missing(
    cur: Rows,
    program_id: UUID,
    generation: int,
    planned: Sequence[tuple[int, Sequence[Transfer]]],
    running: RunningBalances,
) -> None:
    amounts = running.amounts
    wanted = {(account, t.currency) for _, transfers in planned for t in transfers for account in (t.debit, t.credit)}
    missing = wanted.difference(amounts)
    if not missing:
        return
    for account, amount in amounts_now(cur, program_id, generation, {account for account, _ in missing}).items():
        running.stored.add(account)
        amounts.setdefault(account, amount)


def amounts_now(cur: Rows, program_id: UUID, generation: int, accounts: Iterable[str]) -> dict[Account, int]:
    """What some accounts hold, in every currency. The caller holds the head's lock."""
    params = {"program_id": program_id, "generation": generation, "accounts": sorted(accounts)}
    cur.execute(QUERIES["select_balances"], params)
    return {(account, currency): amount for account, currency, amount in cur}


def insert_lines(cur: Rows, program_id: UUID, generation: int, lines: Sequence[Line]) -> None:
    """Write journal lines."""
    if len(lines) >= COPY_FROM_LINES:
        with cur.copy(f"COPY journal ({JOURNAL_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(BINARY_HEADER + binary_lines(program_id, generation, lines) + BINARY_TRAILER)
        return
    params: list[Any] = []
    for line in lines:
        t = line.transfer
        params += (
            program_id,
            generation,
            line.position,
            line.line_no,
            t.debit,
            t.credit,
            t.amount,
            t.currency,
        )
        params += (t.effective_at, line.recorded_at, t.affiliate_id, line.debit_balance, line.credit_balance)
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(lines))
    cur.execute(f"INSERT INTO journal ({JOURNAL_COLUMNS}) VALUES {values}", params)  # noqa: S608


_LINE_HEAD = struct.Struct(">hi16siiiqihi").pack  # 13 fields … up to the length of debit
_FIELD = struct.Struct(">i").pack
_TWO_INSTANTS = struct.Struct(">iqiqi").pack
_TWO_BALANCES = struct.Struct(">iqiq").pack
_AMOUNT = struct.Struct(">iqi").pack


def binary_lines(program_id: UUID, generation: int, lines: Iterable[Line]) -> bytes:
    """Journal lines as binary COPY rows, without header and trailer."""
    program = program_id.bytes
    parts: list[bytes] = []
    add = parts.append
    known_at: datetime | None = None
    recorded = 0
    for position, line_no, t, recorded_at, debit_balance, credit_balance in lines:
        if recorded_at is not known_at:
            known_at, recorded = recorded_at, (recorded_at - PG_EPOCH) // MICROSECOND
        debit, credit, currency = t.debit.encode(), t.credit.encode(), t.currency.encode()
        affiliate = t.affiliate_id.encode()
        effective = (t.effective_at - PG_EPOCH) // MICROSECOND
        add(_LINE_HEAD(13, 16, program, 4, generation, 8, position, 2, line_no, len(debit)))
        add(debit)
        add(_FIELD(len(credit)))
        add(credit)
        add(_AMOUNT(8, t.amount, len(currency)))
        add(currency)
        add(_TWO_INSTANTS(8, effective, 8, recorded, len(affiliate)))
        add(affiliate)
        add(_TWO_BALANCES(8, debit_balance, 8, credit_balance))
    return b"".join(parts)


def store_balances(cur: Rows, program_id: UUID, generation: int, running: RunningBalances) -> None:
    """Write what the moved accounts hold now."""
    moved, stored = running.moved, running.stored
    if known := [account for account in moved if account in stored]:
        _update_balances(cur, program_id, generation, running, known)
    new = [account for account in moved if account not in stored]
    for start in range(0, len(new), VALUES_AT_ONCE):
        part = new[start : start + VALUES_AT_ONCE]
        params: list[Any] = []
        for key in part:
            params += (program_id, generation, *key, owner(key[0]), running.amounts[key], moved[key])
        values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(part))
        cur.execute(f"INSERT INTO balances ({BALANCE_COLUMNS}) VALUES {values}", params)  # noqa: S608
    stored.update(new)
    moved.clear()


def _update_balances(
    cur: Rows, program_id: UUID, generation: int, running: RunningBalances, accounts: Sequence[Account]
) -> None:
    """One parameter for all of them: JSON, because psycopg's work is by the parameter."""
    rows = [
        {"account": key[0], "currency": key[1], "amount": running.amounts[key], "position": running.moved[key]}
        for key in accounts
    ]
    cur.execute(
        QUERIES["update_balances"],
        {"program_id": program_id, "generation": generation, "rows": msgspec.json.encode(rows).decode()},
    )
    if cur.rowcount != len(rows):
        raise RuntimeError(f"{len(rows)} balances were to be updated, {cur.rowcount} are there: rebuild the books")


# --- reading -------------------------------------------------------------------------------------------


class AsOf(NamedTuple):
    """A point on both axes: what was known after a position, of what had happened before an instant.
    None: of all that is known, or of all that happened."""

    position: int | None = None
    effective: datetime | None = None


def as_of_position(cur: Rows, program_id: UUID, as_of: int | datetime | None) -> int | None:
    """A position for a position or a recorded instant. Raises UnknownProgram."""
    if isinstance(as_of, datetime):
        last_position(cur, program_id, "books")
        return position_at(cur, program_id, "books", as_of)
    return as_of


def account_balances(
    cur: Rows, program_id: UUID, as_of: AsOf, affiliate_id: str | None = None
) -> list[tuple[str, str, int]]:
    """(account, currency, amount) of one affiliate's accounts, or of all (affiliate_id None)."""
    params: dict[str, Any] = {"program_id": program_id, "affiliate_id": affiliate_id}
    if as_of.effective is not None:
        name = "select_effective_balances"
        params |= {
            "position": 2**62 if as_of.position is None else as_of.position,
            "effective": as_of.effective,
        }
    elif as_of.position is not None:
        name = "select_balances_at_position"
        params["position"] = as_of.position
    elif affiliate_id is None:
        cur.execute(QUERIES["select_all_balances"], params)
        return [(account, currency, amount) for account, currency, amount, _ in cur]
    else:
        name = "select_affiliate_balances"
    cur.execute(QUERIES[name], params)
    return list(cur)


BALANCE_FIELDS = ("pending", "held", "payable", "in_transit", "paid")


def all_owed(rows: Iterable[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Every affiliate's balance by currency: the document that `ledger balances --json` prints."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for account, currency, amount in rows:
        affiliate_id = owner(account)
        if not affiliate_id:
            continue
        field = account.rpartition(":")[2] if account.startswith("liability:") else "paid"
        empty = {"affiliate_id": affiliate_id, "currency": currency} | dict.fromkeys(BALANCE_FIELDS, 0)
        found.setdefault((affiliate_id, currency), empty)[field] = -amount
    return [found[key] for key in sorted(found)]


def trial_balance(cur: Rows, program_id: UUID, as_of: AsOf) -> list[dict[str, Any]]:
    """Every account that ever moved, debits above zero; sums to zero a currency."""
    rows = account_balances(cur, program_id, as_of)
    return [{"account": account, "currency": currency, "amount": amount} for account, currency, amount in rows]


def entries(cur: Rows, program_id: UUID, affiliate_id: str, after: tuple[int, int], limit: int) -> list[dict[str, Any]]:
    """An affiliate's lines behind (position, line_no), oldest first."""
    cur.execute(
        QUERIES["select_entries"],
        {
            "program_id": program_id,
            "affiliate_id": affiliate_id,
            "position": after[0],
            "line_no": after[1],
            "limit": limit,
        },
    )
    names = (
        "position", "line_no", "debit", "credit", "amount", "currency", "effective_at", "recorded_at", "event",
        "reference",
    )  # fmt: skip
    return [dict(zip(names, row, strict=True)) for row in cur]


def has_entry(cur: Rows, program_id: UUID, affiliate_id: str, position: int) -> bool:
    """Whether a line of the affiliate's stands at a position."""
    params = {"program_id": program_id, "affiliate_id": affiliate_id, "position": position}
    row = cur.execute(QUERIES["select_has_entry"], params).fetchone()
    return bool(row and row[0])


def lines_of(cur: Rows, program_id: UUID, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The journal lines that some events made."""
    cur.execute(QUERIES["select_lines_of_positions"], {"program_id": program_id, "positions": list(positions)})
    names = ("position", "line_no", "debit", "credit", "amount", "currency", "effective_at")
    return [dict(zip(names, row, strict=True)) for row in cur]
