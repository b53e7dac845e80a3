"""The desk at which one batch of commands is decided: everything known of one program, under its lock.

It loads what the commands need in a few statements, answers decisions as their View, takes their events, and
writes log, books and read models. Whoever holds the desk holds the program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger.domain import (
    access,
    adjustment,
    affiliate,
    conversion,
    conversion_state,
    coupon,
    erasure,
    exceptions,
    offer,
    program,
    reversal,
)
from ledger.domain.click import ClickSeen, ClickToken
from ledger.domain.click import key as click_key
from ledger.domain.event import Draft, Event, Recorded
from ledger.domain.ids import stream_id
from ledger.domain.plans.counting import Counted, Counter, CounterKey
from ledger.domain.plans.journey import JourneyKey, Touch
from ledger.domain.topics import FOLDS, MASTER_KINDS, TOPIC_OF
from ledger.domain.view import FirstSale, Needs
from ledger.projections import books, inline, obligations, touches
from ledger.projections.customers import CustomerKey
from ledger.projections.payables import Payables
from ledger.projections.planning import REMEMBERED, Planning
from ledger.store import codec, log
from ledger.store.log import Head, Row, Rows, row
from ledger.store.vault import Secrets, Vault


class Meta(msgspec.Struct, frozen=True):
    """Who asks: a person or job, by which key, in which request."""

    actor: str
    key_id: str = ""
    request_id: str = ""


def _has(body: Event, having: dict[str, Any]) -> bool:
    for field, value in having.items():  # noqa: SIM110 - a third of the time of all(…), and rates are many
        if getattr(body, field) != value:
            return False
    return True


class Stream:
    """A stream of events and what they add up to, folded when first asked for."""

    __slots__ = ("_folded", "_state", "fresh", "id", "key", "kind", "records")

    def __init__(self, key: str, id_: UUID) -> None:
        self.key, self.id = key, id_
        self.kind = key.partition(":")[0]
        self.records: list[Recorded] = []
        self.fresh = 0  # how many of the records this batch appended
        self._state: Any = None
        self._folded = 0

    @property
    def state(self) -> Any:
        """The state after all records, None for an empty stream."""
        if self._folded < len(self.records):
            fold = FOLDS.get(self.kind, exceptions.fold)
            for record in self.records[self._folded :]:
                self._state = fold(self._state, record.body)
            self._folded = len(self.records)
        return self._state

    def answered_at(self, *types: type[Event], **having: Any) -> int:
        """See View.answered_at."""
        for index in range(len(self.records) - 1, -1, -1):
            found = self.records[index]
            if isinstance(found.body, types) and _has(found.body, having):
                for at in range(index + 1, len(self.records)):
                    later = self.records[at]
                    # another one of these events, with other values, is another command of the same request
                    if (later.recorded_at, later.request_id, later.cause) != (
                        found.recorded_at, found.request_id, found.cause,
                    ) or (isinstance(later.body, types) and not _has(later.body, having)):  # fmt: skip
                        break
                    found = later
                return found.position
        return 0


class Memory:
    """What a process remembers of one program between batches. Master data stays true while master_position
    stands still; running balances stay true while nobody else has written or rebuilt."""

    def __init__(self) -> None:
        self.master: dict[str, Stream] = {}
        self.master_position = -1
        self.running = books.RunningBalances()
        self.next_position = -1
        self.generation = -1
        self.counters: Counted = {}

    def forget(self) -> None:
        """After a batch that failed: what it changed here never happened."""
        self.__init__()  # type: ignore[misc]

    def check(self, head: Head) -> None:
        """Drop what may no longer be true."""
        if head.master_position != self.master_position or len(self.master) > 50_000:
            self.master = {}
        # a rebuild may have put other books in place without moving the log
        here = (self.next_position, self.generation)
        if (head.next_position, head.generation) != here or len(self.running.amounts) > 200_000:
            self.running = books.RunningBalances()
            self.counters = {}
        if len(self.counters) > REMEMBERED:
            self.counters = {}


class Desk:
    """Implements View. Use: load() what a batch needs, take() each decision's events, commit()."""

    def __init__(
        self, cur: Rows, program_name: str, program_id: UUID, secrets: Secrets, memory: Memory, now: datetime
    ) -> None:
        self._cur, self._program_id, self._secrets, self._memory = cur, program_id, secrets, memory
        self._program_key = program.key(program_name)
        self._head = log.lock_head(cur, program_id, "books")
        memory.check(self._head)
        self.now = self._head.recorded_at(now)
        self.actor = ""
        self.traffic_position = self._head.traffic_position
        self._vault = Vault(cur, secrets, program_id, self.now)
        self._streams: dict[str, Stream] = {}
        self._clicks: dict[str, ClickSeen | None] = {}
        self._last_clicks: dict[tuple[str, str, datetime], ClickSeen | None] = {}
        self._journeys: dict[JourneyKey, list[Touch]] = {}
        self._payables = Payables(cur, program_id, self._head.generation)
        self._planning = Planning(cur, program_id, memory.counters)
        self._rows: list[Row] = []
        self._appended: list[Recorded] = []
        self._touched: dict[str, Stream] = {}

    # --- loading ---------------------------------------------------------------------------------------

    def load(self, needs: Sequence[Needs]) -> None:
        """Read what a batch will look at, in as many statements as there are kinds of it."""
        self._load_streams({key for need in needs for key in need.streams})
        clicks = {click_id for need in needs for click_id in need.clicks}
        if clicks:
            self._load_clicks(clicks)
        wanted = {customer for need in needs for customer in need.customers}
        if wanted:
            self._last_clicks.update(touches.last_clicks(self._cur, self._program_id, sorted(wanted)))
        journeys = {journey for need in needs for journey in need.journeys}
        if journeys:
            self._journeys.update(touches.journeys(self._cur, self._program_id, list(journeys)))
        self._payables.load({payable for need in needs for payable in need.payables})
        self._planning.load(
            {key for need in needs for key in need.counters},
            {CustomerKey(*sale) for need in needs for sale in need.sales},
        )
        seen = [c for c in (*self._clicks.values(), *self._last_clicks.values()) if c]
        affiliates = {affiliate.key(c.affiliate_id) for c in seen}
        affiliates |= {affiliate.key(t.affiliate_id) for journey in self._journeys.values() for t in journey}
        affiliates |= {
            affiliate.key(one.affiliate_id)
            for stream in list(self._streams.values())
            if stream.kind == "coupon" and stream.state
            for one in stream.state.assignments
        }
        self._load_streams(affiliates)

    def _load_streams(self, keys: Iterable[str]) -> None:
        missing = [key for key in keys if key not in self._streams and not self._remembered(key)]
        if not missing:
            return
        by_id: dict[UUID, Stream] = {}
        for key in missing:
            stream = Stream(key, stream_id(self._program_id, key))
            self._streams[key] = by_id[stream.id] = stream
        for record in log.select_streams(self._cur, self._program_id, list(by_id)):
            by_id[record.originator_id].records.append(record)
        for key in missing:
            if self._streams[key].kind in MASTER_KINDS:
                self._memory.master[key] = self._streams[key]

    def _remembered(self, key: str) -> bool:
        stream = self._memory.master.get(key)
        if stream is not None:
            self._streams[key] = stream
        return stream is not None

    def _load_clicks(self, click_ids: Iterable[str]) -> None:
        missing = {stream_id(self._program_id, click_key(c)): c for c in click_ids if c not in self._clicks}
        self._clicks.update(dict.fromkeys(missing.values()))
        for seen in touches.clicks(self._cur, self._program_id, list(missing)):
            self._clicks[seen.click_id] = seen

    def stream(self, key: str) -> Stream:
        """A stream of the books, empty if nothing was ever written to it."""
        found = self._streams.get(key)
        if found is None:
            self._load_streams([key])
            found = self._streams[key]
        return found

    # --- the View --------------------------------------------------------------------------------------

    @property
    def program(self) -> program.ProgramState | None:
        state: program.ProgramState | None = self.stream(self._program_key).state
        return state

    def offer(self, offer_id: str) -> offer.OfferState | None:
        state: offer.OfferState | None = self.stream(f"offer:{offer_id}").state
        return state

    def affiliate(self, affiliate_id: str) -> affiliate.AffiliateState | None:
        state: affiliate.AffiliateState | None = self.stream(f"affiliate:{affiliate_id}").state
        return state

    def coupon(self, code: str) -> coupon.CouponState | None:
        state: coupon.CouponState | None = self.stream(f"coupon:{code}").state
        return state

    def conversion(self, order_id: str) -> conversion_state.ConversionState | None:
        state: conversion_state.ConversionState | None = self.stream(f"conversion:{order_id}").state
        return state

    def reversal(self, reversal_id: str) -> reversal.ReversalState | None:
        state: reversal.ReversalState | None = self.stream(f"reversal:{reversal_id}").state
        return state

    def adjustment(self, adjustment_id: str) -> adjustment.AdjustmentState | None:
        state: adjustment.AdjustmentState | None = self.stream(f"adjustment:{adjustment_id}").state
        return state

    def access_key(self, access_key_id: str) -> access.KeyState | None:
        state: access.KeyState | None = self.stream(f"key:{access_key_id}").state
        return state

    def exception(self, exception_id: str) -> exceptions.ExceptionState | None:
        state: exceptions.ExceptionState | None = None
        for record in self.stream(exception_id).records:
            state = exceptions.fold(state, record.body)
        return state

    def state(self, key: str) -> Any:
        return self.stream(key).state

    def click(self, click_id: str) -> ClickSeen | None:
        if click_id not in self._clicks:
            self._load_clicks([click_id])
        return self._saw(self._clicks[click_id])

    def _saw(self, click: ClickSeen | None) -> ClickSeen | None:
        # the head was read before the click: one that came in between was seen nevertheless
        if click is not None and click.position > self.traffic_position:
            self.traffic_position = click.position
        return click

    def token(self, click_id: str) -> ClickToken | None:
        return self._secrets.read_click(self._program_id, click_id)

    def last_click(self, customer_id: str, offer_id: str, until: datetime) -> ClickSeen | None:
        key = (customer_id, offer_id, until)
        if key not in self._last_clicks:
            self._last_clicks.update(touches.last_clicks(self._cur, self._program_id, [key]))
        return self._saw(self._last_clicks[key])

    def journey(self, key: JourneyKey) -> list[Touch]:
        if key not in self._journeys:
            self._journeys.update(touches.journeys(self._cur, self._program_id, [key]))
        found = self._journeys[key]
        self.traffic_position = max([self.traffic_position, *(touch.position for touch in found)])
        return found

    def first_sale(self, customer_id: str, offer_id: str, until: datetime, but: str) -> FirstSale | None:
        key = CustomerKey(customer_id, offer_id, until, but)
        return self._planning.first_sale(key, self._appended, credited=False)

    def referrer(self, customer_id: str, offer_id: str, until: datetime, but: str) -> str | None:
        key = CustomerKey(customer_id, offer_id, until, but)
        found = self._planning.first_sale(key, self._appended, credited=True)
        return found.affiliate_id if found is not None else None

    def counter(self, key: CounterKey) -> Counter:
        return self._planning.counter(key)

    def counted_orders(self, key: CounterKey) -> list[str]:
        assert self.program is not None
        order_ids = self._planning.counted_orders(key, self.program.zone, self._appended)
        self._load_streams([conversion.key(order_id) for order_id in order_ids])
        return order_ids

    def payable(self, affiliate_id: str, currency: str) -> int:
        return self._payables.payable(affiliate_id, currency, self._appended)

    def proposed_payouts(self, affiliate_id: str, currency: str) -> list[tuple[str, str]]:
        return self._payables.proposed(affiliate_id, currency, self._appended)

    def decided_payouts(self, run_id: str) -> int:
        return self._payables.decided(run_id, self._appended)

    def unsettled(self, affiliate_id: str) -> list[tuple[str, str]]:
        found = obligations.unsettled(self._cur, self._program_id, affiliate_id, self.now)
        # what this batch has decided already is in no table yet
        return [*found, ("command", "of the same moment: send this one again")] if self._appended else found

    def answered_at(self, key: str, *types: type[Event], **having: Any) -> int:
        return self.stream(key).answered_at(*types, **having)

    def seal(self, subject: str, key: str, field: str, text: str) -> str:
        return self._vault.seal(subject, key, field, text)

    def unseal(self, subject: str, key: str, field: str, sealed: str) -> str | None:
        return self._vault.unseal(subject, key, field, sealed)

    # --- taking and writing ----------------------------------------------------------------------------

    def take(self, drafts: Sequence[Draft], meta: Meta, cause: str, own: str = "") -> int:
        """Give events their places, in order. Returns the position of the last one of the stream `own`, '' for the
        last one of all."""
        position = self._head.next_position + len(self._rows) - 1
        answered_at = position + len(drafts)
        for key, event in drafts:
            position += 1
            stream = self._streams.get(key) or self.stream(key)
            version = len(stream.records) + 1
            stream.records.append(
                Recorded(
                    stream.id,
                    version,
                    event,
                    position,
                    self.now,
                    meta.actor,
                    meta.key_id,
                    meta.request_id,
                    cause,
                )
            )
            stream.fresh += 1
            self._touched[key] = stream
            if isinstance(event, erasure.SubjectErased):
                self._vault.erase(event.subject)  # here, so that no way of recording it leaves the key alive
            self._appended.append(stream.records[-1])
            if self._planning.counts(event):
                self._planning.took(stream.state, event)
            if key == own:
                answered_at = position
            self._rows.append(
                row(
                    stream.id, version, TOPIC_OF[type(event)], codec.encode_state(event),
                    meta.actor, meta.key_id, meta.request_id, cause,
                )
            )  # fmt: skip
        return answered_at

    @property
    def appended(self) -> Sequence[Recorded]:
        """The events taken so far."""
        return self._appended

    def write(self) -> None:
        """Write log, books and read models; the transaction's owner commits."""
        if not self._rows:
            return
        head, memory = self._head, self._memory
        log.append(self._cur, self._program_id, "books", head, self._rows, self.now)
        masters = [s for s in self._touched.values() if s.kind in MASTER_KINDS]
        last = head.next_position + len(self._rows) - 1
        master_position = last if masters else head.master_position
        log.advance_head(self._cur, self._program_id, "books", head, len(self._rows), self.now, master_position)
        books.post(self._cur, self._program_id, head.generation, self._appended, self.now, memory.running)
        touched = list(self._touched.values())
        inline.store(self._cur, self._program_id, touched, self.now)
        self._planning.store()
        for stream in touched:
            stream.fresh = 0
        memory.master_position, memory.next_position = master_position, last + 1
        memory.generation = head.generation
