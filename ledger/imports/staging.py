"""Bringing a file into the database and matching its refunds there: one transaction, so it is done or it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from psycopg import Connection
from psycopg.rows import TupleRow

from ledger import sql
from ledger.domain import conversion, money
from ledger.domain.ids import AMOUNT_MAX, stream_id
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import Mapping
from ledger.imports.matching import Candidate, Part, match
from ledger.imports.reading import read_lines
from ledger.store.database import allow_long
from ledger.store.log import Rows, uuid_array

QUERIES = sql.load("ledger.imports", "staging.sql")
ROWS_AT_ONCE = 2_000

Progress = Callable[[str, int, int | None], None]  # (what is being done, how many, of how many)


class ImportFile(NamedTuple):
    """A file and how it is read. import_id: from content, mapping and offer, so the same again is the same."""

    program: str
    program_id: UUID
    import_id: UUID
    name: str
    offer_id: str
    currency: str
    enrol: bool

    @property
    def params(self) -> dict[str, Any]:
        """What every statement is given."""
        return {"program_id": self.program_id, "import_id": self.import_id}


def import_id(program_id: UUID, digest: bytes, mapping: Mapping, offer_id: str, currency: str) -> UUID:
    """The identity of an import: the same content, read in the same way, for the same offer."""
    return uuid5(program_id, f"import:{digest.hex()}:{offer_id}:{currency}:{mapping.meaning().decode()}")


def stage(
    conn: Connection[TupleRow], file: ImportFile, path: Path, mapping: Mapping, now: datetime, progress: Progress
) -> bool:
    """Read and match a file that is not there yet. The caller's transaction ends it; False: an earlier import was
    interrupted and must be finished first. Raises ImportRefused, psycopg.errors.LockNotAvailable while another import
    of the program has the turn."""
    with conn.cursor() as cur:
        allow_long(cur)
        cur.execute(QUERIES["take_turn"], {**file.params, "now": now})
        cur.execute(QUERIES["select_file"], file.params)
        if cur.fetchone() is not None:
            return True  # somebody else brought it while we waited
        cur.execute(QUERIES["select_unfinished"], file.params)
        if cur.fetchone() is not None:
            return False
        copy_lines(cur, file, path, mapping, progress, now)
        cur.execute(QUERIES["insert_invoices"], file.params)
        _check(cur, file, path)
        _match(conn, cur, file, progress)
        cur.execute(
            QUERIES["insert_file"],
            {
                **file.params,
                "file_name": file.name,
                "offer_id": file.offer_id,
                "currency": file.currency,
                "enrol": file.enrol,
                "now": now,
            },
        )
    return True


def copy_lines(
    cur: Rows, file: ImportFile, path: Path, mapping: Mapping, progress: Progress, now: datetime | None = None
) -> None:
    """Bring a file's lines in. now: see read_lines. Raises ImportRefused."""
    columns = (
        "program_id, import_id, line_no, invoice, kind, sku, customer_id, quantity, price, amount, occurred_at,"
        " affiliate_id, fact"
    )
    ids = (str(file.program_id), str(file.import_id))
    instants: dict[datetime, str] = {}
    with cur.copy(f"COPY import_lines ({columns}) FROM STDIN") as copy:
        for count, line in enumerate(read_lines(path, mapping, file.currency, now), 1):
            at = instants.get(line.occurred_at)
            if at is None:
                if len(instants) > 10_000:
                    instants.clear()
                at = instants[line.occurred_at] = line.occurred_at.isoformat()
            copy.write_row(
                (
                    *ids, line.line_no, line.invoice, line.kind, line.sku, line.customer_id, line.quantity,
                    str(line.price), line.amount, at, line.affiliate_id, line.fact,
                )
            )  # fmt: skip
            if not count % ROWS_AT_ONCE:
                progress("lines read", count, None)


def _check(cur: Rows, file: ImportFile, path: Path) -> None:
    """What only the whole file shows. Raises ImportRefused."""
    cur.execute(QUERIES["select_too_large"], {**file.params, "most": AMOUNT_MAX})
    if row := cur.fetchone():
        raise ImportRefused(f"{path}, line {row[1]}: order {row[0]} comes to more than {AMOUNT_MAX} minor units")
    if file.enrol:
        return
    cur.execute(QUERIES["select_unapproved_affiliates"], file.params)
    if missing := cur.fetchall():
        some = ", ".join(f"{name} ({status or 'not enrolled'})" for name, status in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ImportRefused(
            f"{path} names affiliates that may not earn yet: {some}{more}; enrol and approve them first, or import"
            " with --enrol-affiliates"
        )


def _match(conn: Connection[TupleRow], cur: Rows, file: ImportFile, progress: Progress) -> None:
    """Match refunds with sales; then one reversal a refund invoice and order, capped at what is left of the order."""
    places = money.EXPONENTS[file.currency]
    with conn.cursor("candidates") as candidates:
        candidates.itersize = ROWS_AT_ONCE
        candidates.execute(QUERIES["select_candidates"], file.params)
        parts = match((Candidate(*row) for row in candidates), places)
        done = 0
        while some := list(islice(parts, ROWS_AT_ONCE)):
            copy_parts(cur, file.program_id, some)
            done += len(some)
            progress("refunds matched", done, None)
    with conn.cursor("taken_back") as taken:
        taken.itersize = ROWS_AT_ONCE
        taken.execute(QUERIES["select_taken_back"], file.params)
        orders = groupby(taken, key=lambda row: row[0])
        while some_orders := [(order, list(rows)) for order, rows in islice(orders, 500)]:
            _copy_reversals(cur, file, some_orders)


def copy_parts(cur: Rows, program_id: UUID, parts: Iterable[Part]) -> None:
    """Keep which part of a refund line was matched to which line of an order."""
    columns = "program_id, refund_invoice, refund_ordinal, part_no, order_id, order_line_no, quantity, amount"
    with cur.copy(f"COPY import_matches ({columns}) FROM STDIN") as copy:
        for part in parts:
            copy.write_row((program_id, *part))


def _copy_reversals(cur: Rows, file: ImportFile, orders: list[tuple[str, list[TupleRow]]]) -> None:
    ids = [stream_id(file.program_id, conversion.key(order_id)) for order_id, _ in orders]
    cur.execute(QUERIES["select_reversed"], {**file.params, "ids": uuid_array(ids)})
    rest = {order_id: amount - reversed_amount for order_id, amount, reversed_amount in cur}
    columns = "program_id, refund_invoice, order_id, occurred_at, amount"
    with cur.copy(f"COPY import_reversals ({columns}) FROM STDIN") as copy:
        for order_id, rows in orders:
            for refund_invoice, occurred_at, amount in _capped(rows, rest.get(order_id)):
                copy.write_row((file.program_id, refund_invoice, order_id, occurred_at, amount))


def _capped(rows: Iterable[TupleRow], rest: int | None) -> Iterator[tuple[str, datetime, int]]:
    """One order's refunds with what is left for each. rest None: the order is not in the log yet, all is left."""
    for _, refund_invoice, occurred_at, worth, order_amount in rows:
        rest = order_amount if rest is None else rest
        amount = min(worth, rest)
        if amount > 0:
            yield refund_invoice, occurred_at, amount
            rest -= amount
