"""`reconcile orders`: a merchant's export against the recorded conversions. Every difference becomes a break.

The file is staged and its refunds are matched as an import would do it, in a transaction that is undone at the end:
nothing is imported. Running it again finds the same breaks; those that it does not find any more have vanished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid5

import msgspec
import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from ledger import sql
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain import breaks, money
from ledger.domain.errors import Refusal, WrongState
from ledger.domain.event import BEGINNING, Answer
from ledger.imports import staging
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import Mapping
from ledger.imports.matching import Candidate, match
from ledger.imports.reading import content_digest
from ledger.imports.staging import ROWS_AT_ONCE, ImportFile, Progress, copy_lines, copy_parts
from ledger.store.database import LONG_STATEMENT_TIMEOUT, allow_long
from ledger.store.log import Rows, currency_of

QUERIES = sql.load("ledger.imports", "reconcile.sql")
BATCH = 1000
T = TypeVar("T")
SHOWN = 5  # differences of each type that a report names
MICROSECOND = timedelta(microseconds=1)


class Settings(NamedTuple):
    """What is compared. since and until narrow or widen the file's own span: from an instant to the one before
    another; actor: who compares; record False: only look."""

    program: str
    path: Path
    mapping: Mapping
    actor: str
    since: datetime | None = None
    until: datetime | None = None
    record: bool = True


class Difference(msgspec.Struct, frozen=True):
    """One difference. reference: an order, or line:<invoice>:<ordinal>; expected: what our books say, found: what the
    file says, minor units."""

    type: str
    break_id: str
    reference: str
    affiliate_id: str
    expected: int | None
    found: int | None
    currency: str
    occurred_at: datetime

    def detail(self) -> str:
        """One sentence for people."""
        here, there = self._money(self.expected), self._money(self.found)
        day, order = self.occurred_at.astimezone(UTC).date().isoformat(), f"order {self.reference}"
        match self.type:
            case "missing":
                return f"{order} of {day} ({there}) is in the export and was never recorded here"
            case "extra":
                return f"{order} of {day} ({here}) is recorded here and not in the export"
            case "currency_differs":
                return f"{order} of {day} is recorded here in {self.currency}, and is in another currency in the export"
            case "amount_differs":
                return f"{order} of {day} is {there} in the export and {here} here"
            case "refunded_there" if self.reference.startswith("line:"):
                invoice, _, ordinal = self.reference.removeprefix("line:").rpartition(":")
                return f"refund {invoice}, line {ordinal}, of {day} gives back {there} of no order that is known"
            case "refunded_there":
                return f"{there} of {order} were given back by the export, {here} here, last on {day}"
        return f"{here} of {order} were given back here, {there} by the export, last on {day}"

    def _money(self, amount: int | None) -> str:
        return f"{money.major_units(amount or 0, self.currency)} {self.currency}"


class TypeTotal(msgspec.Struct):
    """The differences of a type in a currency. expected and found: sums in minor units; first: the first few."""

    type: str
    currency: str
    count: int = 0
    expected: int = 0
    found: int = 0
    first: list[Difference] = []


class Report(msgspec.Struct):
    """What a reconciliation found. orders_there and orders_here: how many the file and the books have in the span;
    known: differences that are kept as exceptions already; opened: breaks that are new, back, or have new figures;
    vanished: breaks of earlier runs that are no differences any more."""

    since: datetime
    until: datetime
    orders_there: int = 0
    orders_here: int = 0
    differences: list[TypeTotal] = []
    known: int = 0
    opened: int = 0
    vanished: int = 0

    @property
    def count(self) -> int:
        """How many differences there are."""
        return sum(one.count for one in self.differences)

    def add(self, one: Difference) -> None:
        """Count a difference."""
        total = next((t for t in self.differences if (t.type, t.currency) == (one.type, one.currency)), None)
        if total is None:
            total = TypeTotal(one.type, one.currency, first=[])
            self.differences = sorted([*self.differences, total], key=lambda t: (t.type, t.currency))
        total.count += 1
        total.expected += one.expected or 0
        total.found += one.found or 0
        if len(total.first) < SHOWN:
            total.first.append(one)


def reconcile_orders(
    ledger: CommissionLedger, settings: Settings, progress: Progress = lambda what, done, total: None
) -> Report:
    """Compare a file with the books, and open, change and resolve the breaks that follow.

    Raises ImportRefused for a file or mapping that does not allow it, and while an import is unfinished; NotFound;
    Refusal or psycopg.Error when the database goes away: the same again goes on.
    """
    file = _identify(ledger, settings)
    return _Reconciliation(ledger, settings, file, progress).run()


def _identify(ledger: CommissionLedger, settings: Settings) -> ImportFile:
    with ledger.reading(settings.program) as (cur, id_):
        of_program = currency_of(cur, id_)
    currency = settings.mapping.constants.currency or of_program
    name = f"reconcile:{content_digest(settings.path).hex()}:{currency}:{settings.mapping.meaning().decode()}"
    return ImportFile(settings.program, id_, uuid5(id_, name), settings.path.name, "", currency, True)


class _Reconciliation:
    """One call of reconcile_orders."""

    def __init__(self, ledger: CommissionLedger, settings: Settings, file: ImportFile, progress: Progress) -> None:
        self._ledger, self._settings, self._file, self._progress = ledger, settings, file, progress
        self._meta = Meta(actor=settings.actor, request_id=f"reconcile-{file.import_id.hex[:16]}")
        # the refunds' parts stand beside those of imports, under names that no import has
        self._prefix = f"reconcile:{file.import_id}:"
        self._found: set[str] = set()
        self._report = Report(BEGINNING, BEGINNING, differences=[])

    def run(self) -> Report:
        """See reconcile_orders."""
        with self._ledger.pool.connection() as conn:
            try:
                with conn.transaction(force_rollback=True):
                    with conn.cursor() as cur:
                        self._stage(conn, cur)
                    for some in _batches(self._differences(conn)):
                        self._open(some)
            except psycopg.errors.LockNotAvailable:
                raise ImportRefused("another import of the program is running: try again when it is done") from None
            except BaseException:
                # A cancelled statement must not come back as the error of the one that tidies up.
                conn.close()
                raise
        if self._settings.record and self._report.orders_there:
            self._resolve_vanished()
        return self._report

    # --- staging ---------------------------------------------------------------------------------------

    def _stage(self, conn: Connection[TupleRow], cur: Rows) -> None:
        file, path = self._file, self._settings.path
        allow_long(cur, idle=LONG_STATEMENT_TIMEOUT)
        cur.execute(staging.QUERIES["take_turn"], {**file.params, "now": self._ledger.clock()})
        cur.execute(staging.QUERIES["select_unfinished"], file.params)
        if (unfinished := cur.fetchone()) is not None:
            raise ImportRefused(
                f"the import of {unfinished[1]} was interrupted: finish it first, with the same command"
            )
        copy_lines(cur, file, path, self._settings.mapping, self._progress)
        cur.execute(staging.QUERIES["insert_invoices"], file.params)
        self._match(conn, cur)
        self._measure(cur)

    def _match(self, conn: Connection[TupleRow], cur: Rows) -> None:
        places, done = money.EXPONENTS[self._file.currency], 0
        with conn.cursor("candidates") as candidates:
            candidates.itersize = ROWS_AT_ONCE
            candidates.execute(QUERIES["select_candidates"], self._file.params)
            parts = match((Candidate(*row) for row in candidates), places)
            while some := list(islice(parts, ROWS_AT_ONCE)):
                named = [part._replace(refund_invoice=self._prefix + part.refund_invoice) for part in some]
                copy_parts(cur, self._file.program_id, named)
                done += len(some)
                self._progress("refunds matched", done, None)

    def _measure(self, cur: Rows) -> None:
        """The span that is compared. Raises ImportRefused for a file without lines."""
        cur.execute(QUERIES["select_span"], self._file.params)
        first, last = cur.fetchone() or (None, None)
        if first is None:
            raise ImportRefused(f"{self._settings.path}: the file has no lines, so there is nothing to compare")
        since, until = self._settings.since or first, self._settings.until or last + MICROSECOND
        if since >= until:
            raise ImportRefused(f"nothing lies between {since.isoformat()} and {until.isoformat()}")
        self._report.since, self._report.until = since.astimezone(UTC), until.astimezone(UTC)
        cur.execute(QUERIES["count_orders"], self._params)
        self._report.orders_there, self._report.orders_here = cur.fetchone() or (0, 0)

    @property
    def _params(self) -> dict[str, Any]:
        return {
            **self._file.params,
            "since": self._report.since,
            "until": self._report.until,
            "currency": self._file.currency,
            "prefix": self._prefix,
            "places": money.EXPONENTS[self._file.currency],
        }

    # --- differences -----------------------------------------------------------------------------------

    def _differences(self, conn: Connection[TupleRow]) -> Iterator[Difference]:
        """Every difference that is not known already."""
        for type_, order, affiliate_id, here, there, currency, at, known in self._rows(
            conn, "select_order_differences"
        ):
            found = None if type_ == "currency_differs" else there
            if self._is_new(known):
                yield _difference(type_, order, affiliate_id, here, found, currency, at)
        for type_, order, affiliate_id, here, there, currency, at, known, in_file in self._rows(
            conn, "select_refund_differences"
        ):
            # An order of an earlier file may get refunds in several: each file's difference has a name of its own.
            since = "" if in_file else f"@{self._report.since.date().isoformat()}"
            if self._is_new(known):
                yield _difference(type_, order, affiliate_id, here, there, currency, at, since)
        for line, affiliate_id, worth, at, known in self._rows(conn, "select_unmatched_refunds"):
            if self._is_new(known):
                yield _difference("refunded_there", line, affiliate_id, None, worth, self._file.currency, at)

    def _is_new(self, known: bool) -> bool:
        self._report.known += known
        return not known

    def _rows(self, conn: Connection[TupleRow], name: str) -> Iterator[TupleRow]:
        with conn.cursor(name) as cur:
            cur.itersize = ROWS_AT_ONCE
            cur.execute(QUERIES[name], self._params)
            yield from cur

    # --- breaks ----------------------------------------------------------------------------------------

    def _open(self, differences: list[Difference]) -> None:
        for one in differences:
            self._report.add(one)
            self._found.add(one.break_id)
        if self._settings.record:
            commands = [_command(one) for one in differences]
            for outcome in self._ledger.execute_many(self._file.program, commands, self._meta):
                if isinstance(outcome, Refusal):
                    raise outcome
                self._report.opened += outcome.outcome == "recorded"
        self._progress("differences", self._report.count, None)

    def _resolve_vanished(self) -> None:
        """Resolve the open breaks of the days that this file covers, where it shows no difference any more."""
        days = {
            "program_id": self._file.program_id,
            "first_day": self._report.since.date(),
            "last_day": (self._report.until - MICROSECOND).date(),
        }
        with self._ledger.reading(self._file.program) as (cur, _):
            cur.execute(QUERIES["select_open_breaks"], days)
            gone = [break_id for (break_id,) in cur if break_id not in self._found]
        for some in _batches(gone):
            commands = [breaks.ResolveBreak(break_id=id_, resolution="vanished", cause="timing") for id_ in some]
            for outcome in self._ledger.execute_many(self._file.program, commands, self._meta):
                # whoever resolved it meanwhile knew better
                if isinstance(outcome, Refusal) and not isinstance(outcome, WrongState):
                    raise outcome
                self._report.vanished += isinstance(outcome, Answer) and outcome.outcome == "recorded"


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while some := list(islice(source, BATCH)):
        yield some


def _difference(
    type_: str,
    reference: str,
    affiliate_id: str,
    expected: int | None,
    found: int | None,
    currency: str,
    occurred_at: datetime,
    since: str = "",
) -> Difference:
    break_id = breaks.id_of("orders", type_, reference + since)
    return Difference(type_, break_id, reference, affiliate_id, expected, found, currency, occurred_at.astimezone(UTC))


def _command(one: Difference) -> breaks.OpenBreak:
    return breaks.OpenBreak(
        break_id=one.break_id,
        source="orders",
        type=one.type,
        detail=one.detail(),
        affiliate_id=one.affiliate_id,
        reference=one.reference[:128],
        expected_amount=one.expected,
        found_amount=one.found,
        currency=one.currency,
        occurred_on=one.occurred_at.date(),
    )
