"""One pass over the books' log, in which every sale of an offer is decided again where history decided it.

Facts are taken from the log: sales, reversals, rejections, dismissals. What the old terms led to (commissions, top-ups,
bonuses) is not: it only says what was. Approvals and holds move no commission, and are passed over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from psycopg import Connection
from psycopg.rows import TupleRow

from ledger.domain import conversion, conversion_state, offer, recording, reversal
from ledger.domain.conversion import (
    RESERVED_PREFIX,
    CommissionAccrued,
    CommissionRepriced,
    ConversionRecorded,
    ConversionRejected,
    ConversionReversed,
    ConversionUnattributed,
    ReversalDeferred,
)
from ledger.domain.errors import NotFound, Refusal
from ledger.domain.event import Draft, Event, fold_all
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.ids import program_id, stream_id
from ledger.domain.offer import OfferState
from ledger.domain.plans import counting
from ledger.domain.plans.following import following
from ledger.domain.plans.plan import ReadPlan
from ledger.domain.reversal import ReversalRecorded
from ledger.domain.topics import EVENTS, TOPIC_OF
from ledger.simulating.kept import Kept, new_state
from ledger.simulating.known import Counted
from ledger.simulating.scratch import open_scratch
from ledger.simulating.trial import Trial
from ledger.simulating.view import SimulatedView
from ledger.store import codec, log
from ledger.store.log import Rows
from ledger.store.vault import Secrets

EVENTS_AT_ONCE = 4_000
STATEMENT_LIMIT = "1h"
GOAL_PREFIX = f"{RESERVED_PREFIX}goal-"
_CONVERSION = "conversion:"
_ALIVE = ("pending", "held", "approved")
# what master data is made of: everything of its modules but access keys
_MODULES = {"program", "affiliate", "offer", "coupon", "rates"}
_MASTER = tuple(event for event in EVENTS if event.__module__.rpartition(".")[2] in _MODULES)
_SALES: tuple[type[Event], ...] = (
    ConversionRecorded, CommissionAccrued, ConversionUnattributed, CommissionRepriced, ConversionReversed,
    ConversionRejected, ReversalDeferred,
)  # fmt: skip
_TOPICS = [TOPIC_OF[event] for event in (*_MASTER, *_SALES)]

Progress = Callable[[int, int], None]  # (position, the last one)


class Replayed(NamedTuple):
    """What a pass found. view: with all orders in its scratch; position: up to where the log was read; events: how many
    of them said anything; db: the scratch."""

    view: SimulatedView
    position: int
    events: int
    db: sqlite3.Connection


@contextmanager
def replayed(
    conn: Connection[TupleRow], program_name: str, secrets: Secrets, trial: Trial, progress: Progress = lambda *_: None
) -> Iterator[Replayed]:
    """The pass, in one transaction that may only read. conn: between transactions. Raises UnknownProgram, NotFound for
    an offer that there is not, InvalidInput for a trial that cannot be."""
    id_ = program_id(program_name)
    with closing(open_scratch()) as db, conn.transaction(), conn.cursor() as cur:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cur.execute(f"SET LOCAL statement_timeout = '{STATEMENT_LIMIT}'")
        cur.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        last = log.last_position(cur, id_, "books")
        the_offer = _offer(cur, id_, trial.offer_id)
        plans, customers = _plans(the_offer, trial)
        counted = Counted(db, plans)
        view = SimulatedView(cur, id_, secrets, trial, db, counted, customers)
        replay = _Replay(view, trial)
        events = 0
        with conn.cursor(name="simulated_log") as rows:
            rows.execute(
                "SELECT position, originator_version, topic, recorded_at, state FROM book_events"
                " WHERE program_id = %s AND position <= %s AND topic = ANY(%s) ORDER BY position",
                (id_, last, _TOPICS),
            )
            while some := rows.fetchmany(EVENTS_AT_ONCE):
                replay.take(some)
                events += len(some)
                progress(some[-1][0], last)
        replay.end()
        yield Replayed(view, last, events, db)


def _offer(cur: Rows, id_: UUID, offer_id: str) -> OfferState:
    """The offer as it is now. Raises NotFound."""
    events = [record.body for record in log.select_streams(cur, id_, [stream_id(id_, offer.key(offer_id))])]
    state = fold_all(offer.fold, events)
    if state is None:
        raise NotFound(f"offer {offer_id} does not exist")
    return state


def _plans(the_offer: OfferState, trial: Trial) -> tuple[list[ReadPlan], bool]:
    """(every plan that may pay a sale, whether one of them asks for customers). Raises InvalidInput for a model that
    does not go with the terms."""
    tried = [trial.tried(None), *(trial.tried(one) for one in the_offer.terms)]
    plans = [one.plan for one in (*the_offer.terms, *tried) if one is not None and one.plan is not None]
    return plans, any(plan.asks_customer or plan.plan.attribution.model == "lifetime" for plan in plans)


class _Replay:
    """Takes the log's events in order."""

    def __init__(self, view: SimulatedView, trial: Trial) -> None:
        self._view, self._trial, self._orders = view, trial, view.orders
        self._offer_id = trial.offer_id
        self._rejected: list[ConversionRejected] = []
        self._position = 0
        self._takers: dict[type[Event], Callable[..., None]] = {
            ConversionRecorded: self._recorded,
            CommissionAccrued: self._accrued,
            ConversionUnattributed: self._unattributed,
            CommissionRepriced: self._repriced,
            ConversionReversed: self._reversed,
            ReversalDeferred: self._deferred,
            **dict.fromkeys(_MASTER, view.take_master),
        }

    def take(self, rows: Sequence[TupleRow]) -> None:
        """The next events."""
        decoded = [(row[0], row[1], row[3], codec.decode_state(row[2], row[4])) for row in rows]
        self._look_ahead(decoded)
        view, takers = self._view, self._takers
        for position, _, recorded_at, event in decoded:
            if isinstance(event, ConversionRejected):
                self._reject(event, recorded_at)
                continue
            if self._rejected:
                self._reject_them()
            view.now, self._position = recorded_at, position
            takers[type(event)](event)
        view.trim()

    def end(self) -> None:
        """There are no more events."""
        self._reject_them()

    def _look_ahead(self, decoded: Sequence[tuple[int, int, datetime, Event]]) -> None:
        """Read orders and what sales are credited by, before they are asked for one by one."""
        fresh = {event.order_id: event for _, version, _, event in decoded
                 if isinstance(event, ConversionRecorded) and version == 1}  # fmt: skip
        known = {event.order_id for _, _, _, event in decoded
                 if hasattr(event, "order_id") and event.order_id not in fresh}  # fmt: skip
        self._orders.prefetch(known)
        self._orders.know_absent(fresh)
        sales: dict[str, ConversionRecorded] = {}
        for _, _, _, event in decoded:
            if isinstance(event, CommissionAccrued | ConversionUnattributed) and event.order_id not in sales:
                sale = fresh.get(event.order_id) or self._sale(event.order_id)
                if sale is not None and sale.offer_id == self._offer_id and not sale.order_id.startswith(GOAL_PREFIX):
                    sales[event.order_id] = sale
        self._view.look_ahead(list(sales.values()))

    def _sale(self, order_id: str) -> ConversionRecorded | None:
        found = self._orders.get(order_id)
        return found.was.recorded if found is not None and not found.decided else None

    # --- facts, and what was ---------------------------------------------------------------------------------

    def _entry(self, order_id: str) -> Kept:
        found = self._orders.get(order_id)
        if found is None:
            found = Kept(self._position, new_state(), new_state(), reversals=[])
            self._orders.put(order_id, found)
        self._orders.dirty(order_id)
        return found

    def _known(self, order_id: str) -> Kept | None:
        found = self._orders.get(order_id)
        if found is not None:
            self._orders.dirty(order_id)
        return found

    def _recorded(self, event: ConversionRecorded) -> None:
        if event.offer_id != self._offer_id:
            return
        one = self._entry(event.order_id)
        one.was.recorded, one.position = event, self._position
        if not event.order_id.startswith(GOAL_PREFIX):
            one.would.recorded = event
            if self._view.customers is not None:
                self._view.customers.sold(event, self._position)

    def _accrued(self, event: CommissionAccrued) -> None:
        if event.offer_id != self._offer_id:
            return
        one = self._known(event.order_id)
        if one is None:
            return
        conversion_state.fold(one.was, event)
        if not one.decided and not event.order_id.startswith(GOAL_PREFIX):
            self._decide(one, event.traffic_position)

    def _unattributed(self, event: ConversionUnattributed) -> None:
        one = self._known(event.order_id)
        if one is None or one.was.recorded is None:
            return
        conversion_state.fold(one.was, event)
        if event.steps and event.steps[-1].result == "dismissed":
            # somebody decided that nobody is credited
            one.decided = True
            drafts: list[Draft] = [(conversion.key(event.order_id), event)]
            settled = conversion_state.fold(conversion_state.copied(one.would), event)
            self._apply(drafts + reversal.apply_deferred(settled))
        elif not one.decided:
            self._decide(one, event.traffic_position)

    def _repriced(self, event: CommissionRepriced) -> None:
        one = self._known(event.order_id)
        if one is None:
            return
        conversion_state.fold(one.was, event)
        sale = one.was.recorded
        if event.cause == "simulation" and sale is not None:
            one.earlier = True
            if not self._trial.decides(sale.occurred_at):
                self._keep(one, event, sale)

    def _keep(self, one: Kept, event: CommissionRepriced, sale: ConversionRecorded) -> None:
        """What an applied simulation gave stays given where the trial does not decide."""
        if one.would.recorded is None:
            one.would.recorded = sale  # a goal's bonus that only the simulation gave
        mine = one.would.commissions.get((event.affiliate_id, event.level))
        if mine is not None and (mine.bucket == "none" or mine.currency != event.currency):
            return
        amount = one.would.kept(event.commission) - (mine.outstanding if mine is not None else 0)
        self._apply([(conversion.key(event.order_id), msgspec.structs.replace(event, amount=amount))])

    def _deferred(self, event: ReversalDeferred) -> None:
        one = self._entry(event.order_id)
        conversion_state.fold(one.was, event)
        conversion_state.fold(one.would, event)

    def _reversed(self, event: ConversionReversed) -> None:
        one = self._known(event.order_id)
        if one is None or one.was.recorded is None:
            return
        conversion_state.fold(one.was, event)
        ours = event.order_id.startswith(GOAL_PREFIX) and event.reversal_id == f"{event.order_id}-lost"
        if one.would.recorded is None or ours or event.reversal_id in one.reversals:
            return
        one.reversals = [*one.reversals, event.reversal_id]
        fact = ReversalRecorded(
            reversal_id=event.reversal_id,
            order_id=event.order_id,
            occurred_at=event.effective_at,
            sale_amount=event.sale_amount,
        )
        applied = reversal.apply(fact, one.would)
        if not isinstance(applied, ExceptionRaised):
            self._follow([(conversion.key(event.order_id), change) for change in applied])

    def _reject(self, event: ConversionRejected, recorded_at: datetime) -> None:
        """All commissions of an order are rejected at once, and only then does anything follow from it."""
        if self._rejected and self._rejected[0].order_id != event.order_id:
            self._reject_them()
        self._view.now = recorded_at
        self._rejected.append(event)

    def _reject_them(self) -> None:
        events, self._rejected = self._rejected, []
        one = self._known(events[0].order_id) if events else None
        if one is None or one.was.recorded is None:
            return
        for event in events:
            conversion_state.fold(one.was, event)
        whose = {(event.affiliate_id, event.level) for event in events}
        # who would be credited instead was not there to be rejected: it is when all that was there is
        none_left = not any(was.status in _ALIVE for was in one.was.commissions.values())
        drafts: list[Draft] = [
            (
                conversion.key(events[0].order_id),
                ConversionRejected(
                    order_id=events[0].order_id,
                    affiliate_id=would.affiliate_id,
                    amount=would.outstanding,
                    currency=would.currency,
                    effective_at=events[0].effective_at,
                    level=would.level,
                ),
            )
            for place, would in one.would.commissions.items()
            if would.status in _ALIVE and (none_left or place in whose)
        ]
        self._follow(drafts)

    # --- what would be ---------------------------------------------------------------------------------------

    def _decide(self, one: Kept, traffic_position: int) -> None:
        one.decided = True
        self._view.traffic_position = traffic_position
        try:
            decided = recording.attribute_now(one.would, self._view, may_wait=False)
        except Refusal as refused:
            one.would.standing, one.exception = "unattributed", type(refused).__name__
            return
        if isinstance(decided, ExceptionRaised):
            one.would.standing, one.exception = "unattributed", decided.type
            return
        self._apply(decided.drafts)

    def _follow(self, drafts: list[Draft]) -> None:
        self._apply(drafts + following(self._view, drafts))

    def _apply(self, drafts: Sequence[Draft]) -> None:
        view, last, one = self._view, "", None
        for stream, event in drafts:
            if stream != last:
                if not stream.startswith(_CONVERSION):
                    continue
                last, one = stream, self._entry(stream[len(_CONVERSION) :])
            assert one is not None
            conversion_state.fold(one.would, event)
            if isinstance(event, ConversionReversed) and event.reversal_id not in one.reversals:
                one.reversals = [*one.reversals, event.reversal_id]
            if not _may_count(event):
                continue
            view.counters.count(counting.changes(one.would, event))
            if isinstance(event, CommissionAccrued):
                view.counted.accrued(event)
                if view.customers is not None and event.level == 1 and one.would.recorded is not None:
                    view.customers.credited(one.would.recorded, one.position, event.affiliate_id)


def _may_count(event: Event) -> bool:
    return isinstance(event, CommissionAccrued | CommissionRepriced | ConversionReversed | ConversionRejected)
