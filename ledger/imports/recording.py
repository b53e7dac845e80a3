"""Recording a matched file by the commands that everybody uses. All of it may be repeated: what was recorded before
answers as it did then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import groupby, islice
from typing import Any, TypeVar

import msgspec
from psycopg.rows import TupleRow

from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain import conversion
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.conversion import Item
from ledger.domain.errors import DiffersFromOriginal, Refusal, WrongState
from ledger.domain.event import Answer, Command
from ledger.domain.exceptions import line_key
from ledger.domain.ids import stream_id
from ledger.domain.recording import RecordConversion
from ledger.domain.resolution import RaiseException
from ledger.domain.reversal import RecordReversal
from ledger.imports.errors import ImportRefused
from ledger.imports.staging import QUERIES, ROWS_AT_ONCE, ImportFile, Progress
from ledger.store.database import LONG_STATEMENT_TIMEOUT, allow_long
from ledger.store.log import last_position, uuid_array

C = TypeVar("C", bound=Command)

BATCH = 1000
NOT_A_SALE = (
    "neither a sale (quantity above 0, price not below 0) nor a refund (marked as one, quantity below 0, price above 0)"
)


class Totals(msgspec.Struct):
    """What an import came to. Amounts are minor units; exceptions: how many of each type; unchanged: nothing was
    recorded that was not there before."""

    orders: int = 0
    gross: int = 0
    commission: int = 0
    reversals: int = 0
    reversed_amount: int = 0
    reversed_commission: int = 0
    exceptions: dict[str, int] = {}
    unchanged: bool = True


class Recording:
    """One run through a matched file."""

    def __init__(self, ledger: CommissionLedger, file: ImportFile, actor: str, progress: Progress) -> None:
        self._ledger, self._file, self._progress = ledger, file, progress
        self._meta = Meta(actor=actor, request_id=f"import-{file.import_id.hex[:16]}")
        self._done = 0
        self._work: int | None = None
        with ledger.reading(file.program) as (cur, id_):
            self._began_at = last_position(cur, id_, "books")
        self.totals = Totals()

    def run(self) -> Totals:
        """Affiliates, orders, reversals, exceptions, and the note that all is recorded. Raises ImportRefused, Refusal
        (Unavailable when the database went away), psycopg.Error; the same again goes on."""
        with self._ledger.reading(self._file.program) as (cur, _):
            cur.execute(QUERIES["count_work"], self._file.params)
            row = cur.fetchone()
            self._work = row[0] if row else None
        self._enrol()
        self._orders()
        self._reversals()
        self._exceptions()
        self._finish()
        return self.totals

    # --- the four kinds of work ------------------------------------------------------------------------

    def _enrol(self) -> None:
        if not self._file.enrol:
            return
        with self._ledger.reading(self._file.program) as (cur, _):
            cur.execute(QUERIES["select_unapproved_affiliates"], self._file.params)
            missing = cur.fetchall()
        commands: list[Command] = []
        for affiliate_id, status in missing:
            if not status:
                commands.append(EnrolAffiliate(affiliate_id=affiliate_id))
            commands.append(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
        for _, answer in self._send(commands):
            # Somebody else may have decided about the affiliate meanwhile, and that stands.
            if isinstance(answer, Refusal) and not isinstance(answer, WrongState | DiffersFromOriginal):
                raise answer

    def _orders(self) -> None:
        totals = self.totals
        with self._rows("select_sale_lines") as rows:
            commands = (self._order(list(lines)) for _, lines in groupby(rows, key=lambda row: row[0]))
            for order, answer in self._applied(commands):
                totals.orders += 1
                totals.gross += order.amount
                totals.commission += answer.body.get("commission", 0)

    def _order(self, lines: list[TupleRow]) -> RecordConversion:
        invoice, occurred_at, _, _, _, customer_id, affiliate_id = lines[0]
        return RecordConversion(
            order_id=invoice,
            offer_id=self._file.offer_id,
            amount=sum(line[4] for line in lines),
            occurred_at=occurred_at,
            currency=self._file.currency,
            customer_id=customer_id,
            affiliate_id=affiliate_id or None,
            items=[Item(line[2], line[3], line[4]) for line in lines],
        )

    def _reversals(self) -> None:
        totals = self.totals
        recorded: list[tuple[RecordReversal, int]] = []
        with self._rows("select_reversals") as rows:
            for reversal, answer in self._applied(self._reversal(*row) for row in rows):
                assert reversal.sale_amount is not None
                totals.reversals += 1
                totals.reversed_amount += reversal.sale_amount
                recorded.append((reversal, answer.position))
                if len(recorded) == BATCH:
                    self._count_commission(recorded)
                    recorded.clear()
        self._count_commission(recorded)

    def _reversal(self, refund_invoice: str, order_id: str, occurred_at: Any, amount: int) -> RecordReversal:
        return RecordReversal(
            reversal_id=f"{refund_invoice}:{order_id}",
            order_id=order_id,
            occurred_at=occurred_at,
            sale_amount=amount,
            currency=self._file.currency,
            reason_code="returned",
        )

    def _count_commission(self, recorded: list[tuple[RecordReversal, int]]) -> None:
        """recorded: each reversal with the position of its own event, which stands behind its effect."""
        with self._ledger.reading(self._file.program) as (cur, id_):
            params = {
                "program_id": id_,
                "ids": uuid_array(stream_id(id_, conversion.key(one.order_id)) for one, _ in recorded),
                "reversal_ids": [one.reversal_id for one, _ in recorded],
                "positions": [position for _, position in recorded],
            }
            cur.execute(QUERIES["select_commission_taken_back"], params)
            row = cur.fetchone()
            self.totals.reversed_commission += int(row[0]) if row else 0

    def _exceptions(self) -> None:
        with self._rows("select_exceptions") as rows:
            self._raise(self._line_exception(row) for row in rows)
        with self._rows("select_changed") as rows:
            self._raise(
                _changed(
                    invoice,
                    digest,
                    "an earlier file had this invoice with other lines; these were not applied",
                    {"order_id": invoice, "lines": msgspec.json.decode(lines)},
                )
                for invoice, digest, _, lines in rows
            )

    def _line_exception(self, row: TupleRow) -> RaiseException:
        _, invoice, ordinal, kind, text, has_customer, quantity, unmatched = row
        fact = msgspec.json.decode(text)
        if kind == "neither":
            type_, detail = "not_a_sale", NOT_A_SALE
        else:
            type_ = "unmatched_refund"
            fact["unmatched_quantity"] = unmatched
            detail = (
                f"{unmatched} of {quantity} match no earlier order of this customer"
                if has_customer
                else "the refund names no customer, so its order cannot be found"
            )
        return RaiseException(exception_id=line_key(invoice, ordinal), type=type_, detail=detail, fact=fact)

    # --- sending ---------------------------------------------------------------------------------------

    def _applied(self, commands: Iterable[C]) -> Iterator[tuple[C, Answer]]:
        """Send commands and yield those that were applied, now or before. The others become exceptions."""
        differing: list[RaiseException] = []
        for command, answer in self._send(commands):
            if isinstance(answer, DiffersFromOriginal):
                # Somebody recorded the same id with other content: what the file says is kept beside it.
                content = msgspec.json.encode(command)
                name: str = getattr(command, "reversal_id", "") or getattr(command, "order_id", "")
                fact = msgspec.to_builtins(command)
                differing.append(_changed(name, sha256(content).digest(), answer.message, fact))
            elif isinstance(answer, Refusal):
                raise ImportRefused(f"{self._file.name}: {command.name} was refused: {answer.message}") from answer
            elif answer.outcome == "exception":
                self._count(answer.body["type"])
            else:
                yield command, answer
            if len(differing) == BATCH:
                self._raise(differing)
                differing.clear()
        self._raise(differing)

    def _raise(self, commands: Iterable[RaiseException]) -> None:
        for command, answer in self._send(commands):
            if isinstance(answer, Refusal):
                raise ImportRefused(f"{self._file.name}: {command.exception_id} was refused: {answer.message}")
            self._count(command.type)

    def _count(self, type_: str) -> None:
        self.totals.exceptions[type_] = self.totals.exceptions.get(type_, 0) + 1

    def _send(self, commands: Iterable[C]) -> Iterator[tuple[C, Answer | Refusal]]:
        """Send commands a thousand at a time, in order, and yield each with its outcome."""
        source = iter(commands)
        while batch := list(islice(source, BATCH)):
            outcomes = self._ledger.execute_many(self._file.program, batch, self._meta)
            for command, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Answer) and outcome.position > self._began_at:
                    self.totals.unchanged = False
                yield command, outcome
            self._done += len(batch)
            self._progress(f"{self._file.name}: recorded", self._done, self._work)

    @contextmanager
    def _rows(self, name: str) -> Iterator[Iterable[TupleRow]]:
        """The rows of a query, a few at a time. The server keeps the result outside any transaction, so that recording
        may take its time in between."""
        with self._ledger.pool.connection() as conn:
            conn.set_autocommit(True)
            conn.execute(f"SET statement_timeout = '{LONG_STATEMENT_TIMEOUT}'")
            try:
                with conn.cursor(name, withhold=True) as cur:
                    cur.itersize = ROWS_AT_ONCE
                    cur.execute(QUERIES[name], self._file.params)
                    yield cur
                conn.execute("RESET statement_timeout")
                conn.set_autocommit(False)
            except BaseException:
                # Ctrl-C cancels what the server is doing, a moment later: it must not hit a statement that tidies up
                # and come back as that one's error. The pool makes another connection.
                conn.close()
                raise

    def _finish(self) -> None:
        """Note the totals, and let go of the lines that no later refund can need."""
        document = msgspec.json.encode(self.totals, order="deterministic").decode()
        with self._ledger.pool.connection() as conn, conn.cursor() as cur:
            allow_long(cur)
            cur.execute(QUERIES["update_file"], {**self._file.params, "totals": document})
            cur.execute(QUERIES["delete_lines"], self._file.params)
            cur.execute(QUERIES["delete_invoices"], self._file.params)


def _changed(name: str, digest: bytes, detail: str, fact: dict[str, Any]) -> RaiseException:
    """An exception about an invoice, order or reversal that is there already with other content."""
    exception_id = f"differs:{name}:{digest.hex()[:16]}"
    return RaiseException(exception_id=exception_id, type="differs_from_original", detail=detail, fact=fact)
