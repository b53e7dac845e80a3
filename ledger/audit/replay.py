"""What was believed at a point of the log, from the log alone: its events up to there, and nothing that came later.

Balances follow from the auditor's own rules (ledger/audit/naive.py), statuses from topics: neither asks the journal or
any list that the service keeps. What is held in memory is what the view says, and one small record an order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, LiteralString, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from ledger.audit.directory import LEAVES, NDJSON, NoExport, read_segment_path
from ledger.audit.lines import ExportLine, read_line
from ledger.audit.merkle import HASH_BYTES, leaf_hash
from ledger.audit.naive import Books, Transfer, transfers
from ledger.domain import money
from ledger.store import log
from ledger.store.log import Rows

ROWS_AT_ONCE = 5_000
Until = int | datetime | None
"""A position, an instant of recording, or the end."""


class NotWhole(Exception):
    """The log's positions are not 1, 2, 3 …, or an event is not what was recorded; the message names the first one."""


class Event(NamedTuple):
    """An event of the books, with none of the ledger's types. state: its decoded JSON."""

    position: int
    recorded_at: datetime
    topic: str
    actor: str
    request_id: str
    state: dict[str, Any]

    @property
    def reference(self) -> str:
        """The order, adjustment, payout or bank line that it is about."""
        for name in ("order_id", "adjustment_id", "payout_id", "line_id"):
            if found := self.state.get(name):
                return str(found)
        return ""


# --- where events come from --------------------------------------------------------------------------------

_decode = msgspec.json.decode


def from_database(cur: Rows, program_id: UUID) -> Iterator[Event]:
    """The books of a program, a few thousand rows at a time, each compared with its hash. Raises UnknownProgram,
    NotWhole."""
    log.last_position(cur, program_id, "books")
    after, line_of = 0, log.line_maker(program_id, "books")
    while rows := log.select_rows(cur, program_id, "books", after, ROWS_AT_ONCE):
        cur.execute(_LEAVES, {"program_id": program_id, "after": after, "last": rows[-1][0]})
        for row, (leaf,) in zip(rows, cur.fetchall(), strict=True):
            position, _, _, topic, recorded_at, actor, _, request_id, _, state = row
            if leaf_hash(line_of(row)) != leaf:
                raise _changed(position)
            yield Event(position, recorded_at.astimezone(UTC), topic, actor, request_id, _decode(state))
        after = rows[-1][0]


_LEAVES: LiteralString = (
    "SELECT leaf_hash FROM book_events WHERE program_id = %(program_id)s AND position > %(after)s"
    " AND position <= %(last)s ORDER BY position"
)


def _changed(position: int) -> NotWhole:
    return NotWhole(f"the event at position {position} of the books is not what was recorded: its hash differs")


def from_lines(lines: Iterable[bytes | ExportLine]) -> Iterator[Event]:
    """The books among export lines, read or not. Raises UnreadableLine."""
    for raw in lines:
        line = raw if isinstance(raw, ExportLine) else read_line(raw.rstrip(b"\n"))
        if line.log == "books":
            at = datetime.fromisoformat(line.recorded_at)
            yield Event(line.position, at, line.topic, line.actor, line.request_id, _decode(line.state))


def from_directory(directory: Path) -> Iterator[Event]:
    """The books in an export directory in NDJSON, each compared with its hash among the export's leaves. Who signed
    these is for `verify` to say. Raises NoExport, UnreadableLine, NotWhole."""
    segments = sorted(
        (found[1], path)
        for path in (directory / "books").glob(f"*.{NDJSON}")
        if (found := read_segment_path(f"books/{path.name}"))
    )
    if not segments:
        raise NoExport(f"{directory} holds no segments of the books in NDJSON; Parquet cannot be replayed")
    with (directory / "books" / LEAVES).open("rb") as leaves:
        for _, path in segments:
            with path.open("rb") as file:
                yield from from_lines(_compared(file, leaves))


def _compared(lines: Iterable[bytes], leaves: BinaryIO) -> Iterator[ExportLine]:
    for raw in lines:
        line = read_line(raw.rstrip(b"\n"))
        if leaf_hash(raw.rstrip(b"\n")) != leaves.read(HASH_BYTES):
            raise _changed(line.position)
        yield line


def whole(events: Iterable[Event]) -> Iterator[Event]:
    """The same events, if none is missing. Raises NotWhole."""
    expected = 1
    for event in events:
        if event.position != expected:
            raise NotWhole(f"position {expected} of the books is missing: {event.position} comes in its place")
        expected += 1
        yield event


def is_behind(event: Event, until: Until) -> bool:
    """Whether an event came only after a point."""
    if until is None:
        return False
    return event.recorded_at > until if isinstance(until, datetime) else event.position > until


# --- what events add up to ---------------------------------------------------------------------------------


class Record(Struct):
    """A record as it stood. amount: an order's sale (or its part of it, where several affiliates are credited), a
    payout's transfer; minor units. since: the position that opened it, or opened it again. sale_amount: of all of an
    order; commission_currency: of commission and reversed_commission, '' while nobody is credited."""

    status: str
    since: int
    affiliate_id: str = ""
    type: str = ""
    currency: str = ""
    amount: int = 0
    commission: int = 0
    reversed_amount: int = 0
    reversed_commission: int = 0
    level: int = 1
    sale_amount: int = 0
    commission_currency: str = ""


class _Shared(Struct):
    """An order with several commissions: their records, the order's own first, and what was reversed of the sale."""

    commissions: list[Record]
    reversed_amount: int
    reversal_id: str = ""


class Change(NamedTuple):
    """A record's status changed; '' before: it was not there. kind: a commission on an order behind its first is a
    record of its own, 'commission'."""

    kind: str
    record_id: str
    before: str
    after: str


# topic → (kind, the field of the record's id, the status it leads to)
_LEADS_TO: dict[str, tuple[str, str, str]] = {
    "AffiliateEnrolled": ("affiliate", "affiliate_id", "applied"),
    "AffiliateApproved": ("affiliate", "affiliate_id", "approved"),
    "AffiliateSuspended": ("affiliate", "affiliate_id", "suspended"),
    "AffiliateReinstated": ("affiliate", "affiliate_id", "approved"),
    "AffiliateClosed": ("affiliate", "affiliate_id", "closed"),
    "OfferPublished": ("offer", "offer_id", ""),
    "TermsPublished": ("offer", "offer_id", "published"),
    "ConversionRecorded": ("conversion", "order_id", "recorded"),
    "CommissionAccrued": ("conversion", "order_id", "pending"),
    "CommissionRepriced": ("conversion", "order_id", ""),
    "ConversionUnattributed": ("conversion", "order_id", "unattributed"),
    "AttributionDeferred": ("conversion", "order_id", "waiting"),
    "ConversionHeld": ("conversion", "order_id", "held"),
    "ConversionReleased": ("conversion", "order_id", "pending"),
    "ConversionApproved": ("conversion", "order_id", "approved"),
    "ConversionRejected": ("conversion", "order_id", "rejected"),
    "ConversionReversed": ("conversion", "order_id", ""),
    "AdjustmentProposed": ("adjustment", "adjustment_id", "proposed"),
    "AdjustmentPosted": ("adjustment", "adjustment_id", "posted"),
    "AdjustmentRejected": ("adjustment", "adjustment_id", "rejected"),
    "PayoutRunBegun": ("payout_run", "run_id", "begun"),
    "PayoutRunProposed": ("payout_run", "run_id", "proposed"),
    "PayoutRunEmpty": ("payout_run", "run_id", "nothing_to_pay"),
    "PayoutRunApproved": ("payout_run", "run_id", "approved"),
    "PayoutRunRejected": ("payout_run", "run_id", "rejected"),
    "PayoutRunInitiationBegun": ("payout_run", "run_id", "initiating"),
    "PayoutRunInitiated": ("payout_run", "run_id", "initiated"),
    "PayoutProposed": ("payout", "payout_id", "proposed"),
    "PayoutExcluded": ("payout", "payout_id", "excluded"),
    "PayoutInitiated": ("payout", "payout_id", "initiated"),
    "PayoutSettled": ("payout", "payout_id", "settled"),
    "PayoutFailed": ("payout", "payout_id", "failed"),
    "PayoutReturned": ("payout", "payout_id", "returned"),
    "PayoutUnknown": ("payout", "payout_id", "unknown"),
    "PeriodClosed": ("period", "period", "closing"),
    "PeriodReissued": ("period", "period", "closing"),
    "StatementsIssued": ("period", "period", "closed"),
    "ExceptionRaised": ("exception", "exception_id", "open"),
    "ExceptionResolved": ("exception", "exception_id", "resolved"),
    "BreakOpened": ("break", "break_id", "open"),
    "BreakReopened": ("break", "break_id", "open"),
    "BreakResolved": ("break", "break_id", "resolved"),
    "DisputeOpened": ("dispute", "dispute_id", "open"),
    "DisputeAnswered": ("dispute", "dispute_id", "answered"),
    "DisputeAccepted": ("dispute", "dispute_id", "accepted"),
    "DisputeRejected": ("dispute", "dispute_id", "rejected"),
    "DisputeWithdrawn": ("dispute", "dispute_id", "withdrawn"),
}
_OPENING = frozenset(
    {"ExceptionRaised", "BreakOpened", "BreakReopened", "DisputeOpened", "PeriodClosed", "PeriodReissued"}
)
OPEN_STATUSES = {"exception": ("open",), "break": ("open",), "dispute": ("open", "answered")}


class Replay:
    """What the events so far add up to."""

    def __init__(self) -> None:
        self.position = 0
        self.recorded_at: datetime | None = None
        self.books = Books()
        self.records: dict[str, dict[str, Record]] = defaultdict(dict)
        self._shared: dict[str, _Shared] = {}  # by order id

    def take(self, event: Event) -> tuple[list[Transfer], Change | None]:
        """Add an event. Returns what it moved, and the status that it changed, if it did."""
        self.position, self.recorded_at = event.position, event.recorded_at
        moved = transfers(event.topic, event.state)
        self.books.post(moved)
        leads = _LEADS_TO.get(event.topic)
        return moved, self._follow(event, *leads) if leads else None

    def _follow(self, event: Event, kind: str, id_field: str, status: str) -> Change | None:
        if kind == "conversion":
            return self._sell(event, status)
        state, of_kind = event.state, self.records[kind]
        record_id = str(state[id_field])
        record = of_kind.get(record_id)
        before = record.status if record else ""
        if record is None:
            record = of_kind[record_id] = Record(status or "no_terms", event.position)
        elif status:
            record.status = status
        if event.topic in _OPENING:
            record.since = event.position
        if "affiliate_id" in state:
            record.affiliate_id = state["affiliate_id"] or ""
        record.type = state.get("type", record.type)
        if event.topic == "PayoutProposed":
            record.currency = state["currency"]
            record.amount = state["amount"] + state.get("vat_amount", 0) - state.get("withholding_amount", 0)
        elif kind == "period":
            record.type = str(state.get("version", 1))
        return Change(kind, record_id, before, record.status) if record.status != before else None

    # --- orders ----------------------------------------------------------------------------------------------

    def _sell(self, event: Event, status: str) -> Change | None:
        """An order's event: what it means for the commission that it is about."""
        state, order_id = event.state, str(event.state["order_id"])
        first = self.records["conversion"].get(order_id)
        if first is None:
            first = self.records["conversion"][order_id] = Record("", event.position)
        whose = state.get("affiliate_id", ""), state.get("level", 1)
        record = first
        if first.affiliate_id and whose != (first.affiliate_id, first.level):
            record = self._other(order_id, first, *whose, event)
        before = record.status
        if status:
            record.status = status
        if event.topic == "ConversionRecorded":
            record.currency, record.amount, record.sale_amount = state["currency"], state["amount"], state["amount"]
        elif event.topic in ("CommissionAccrued", "CommissionRepriced"):
            _accrue(record, event.topic, state)
        elif event.topic == "ConversionReversed":
            self._reverse(order_id, record, state)
        if record.status == before:
            return None
        if record is first:
            return Change("conversion", order_id, before, record.status)
        return Change("commission", _commission_id(order_id, record), before, record.status)

    def _other(self, order_id: str, first: Record, affiliate_id: str, level: int, event: Event) -> Record:
        """A commission behind the first, made when it accrues."""
        shared = self._shared.get(order_id)
        for one in shared.commissions if shared else ():
            if (one.affiliate_id, one.level) == (affiliate_id, level):
                return one
        if event.topic not in ("CommissionAccrued", "CommissionRepriced"):
            return first
        if shared is None:
            shared = self._shared[order_id] = _Shared([first], first.reversed_amount)
        made = Record("", event.position, affiliate_id, currency=first.currency, level=level)
        made.sale_amount = first.sale_amount
        shared.commissions.append(made)
        self.records["commission"][_commission_id(order_id, made)] = made
        return made

    def _reverse(self, order_id: str, record: Record, state: dict[str, Any]) -> None:
        """All of it reversed is a status of its own. Of several commissions each has the event once."""
        shared = self._shared.get(order_id)
        if shared is None:
            record.reversed_amount += state["sale_amount"]
            taken = record.reversed_amount
        else:
            if state["reversal_id"] != shared.reversal_id:
                shared.reversal_id = state["reversal_id"]
                shared.reversed_amount += state["sale_amount"]
                parts = [one.amount for one in shared.commissions]
                split = money.allocate(shared.reversed_amount, parts if any(parts) else [1, *parts[1:]])
                for one, part in zip(shared.commissions, split, strict=True):
                    one.reversed_amount = part
            taken = shared.reversed_amount
        record.reversed_commission += state["amount"]
        if taken == record.sale_amount and record.status in ("pending", "held", "approved"):
            record.status = "reversed"


def _commission_id(order_id: str, record: Record) -> str:
    return f"{order_id}/{record.affiliate_id}/{record.level}"


_STATUS_IN = {"pending": "pending", "held": "held", "payable": "approved"}


def _accrue(record: Record, topic: str, state: dict[str, Any]) -> None:
    """What is owed for the sale from now on, and for which part of it."""
    is_new = not record.commission_currency
    if is_new:
        record.affiliate_id, record.level = state["affiliate_id"], state.get("level", 1)
        record.commission_currency = state["currency"]
        all_of_it = record.sale_amount if topic == "CommissionAccrued" else 0
        part = state.get("credited_amount")
        record.amount = (all_of_it if part is None else part) if record.level == 1 else 0
    if topic == "CommissionAccrued":
        record.commission = state["amount"]
        record.status = "held" if state.get("held") else "pending"
        return
    if is_new:
        record.status = _STATUS_IN.get(state["bucket"], "rejected")
    # what is not moved was taken back already
    record.reversed_commission += state["commission"] - record.commission - state["amount"]
    record.commission = state["commission"]
