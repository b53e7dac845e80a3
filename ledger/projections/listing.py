"""What the directory says of a stream after a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from ledger.domain import exceptions
from ledger.domain.breaks import BreakOpened, BreakReopened
from ledger.domain.event import Event, Recorded
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved
from ledger.projections.directory import Entry


class Touched(Protocol):
    """A stream as the desk hands it over."""

    key: str
    kind: str
    id: UUID
    records: list[Recorded]
    fresh: int

    @property
    def state(self) -> Any: ...


def directory_entries(streams: Iterable[Touched]) -> list[Entry]:
    """The entries of every listed record that a batch touched."""
    entries: list[Entry] = []
    for stream in streams:
        if stream.kind in _DESCRIBE:
            status, type_, affiliate_id = _DESCRIBE[stream.kind](stream.state)
            record_id = stream.key.partition(":")[2]
            # a break's is that of its newest opening, from which its age counts
            counts = (BreakOpened, BreakReopened) if stream.kind == "break" else Event
            position = next(r.position for r in reversed(stream.records) if isinstance(r.body, counts))
            entries.append(Entry(stream.kind, record_id, stream.id, status, type_, affiliate_id, position))
        fresh = stream.records[-stream.fresh :]
        if any(isinstance(r.body, ExceptionRaised | ExceptionResolved) for r in fresh):
            entries.append(_exception_entry(stream))
    return entries


def _exception_entry(stream: Touched) -> Entry:
    state: exceptions.ExceptionState | None = None
    raised_at = 0
    for record in stream.records:
        state = exceptions.fold(state, record.body)
        if isinstance(record.body, ExceptionRaised):
            raised_at = record.position
    assert state is not None
    status = "open" if state.open else "resolved"
    raised = state.raised
    return Entry("exception", stream.key, stream.id, status, raised.type, raised.affiliate_id, raised_at)


_DESCRIBE: dict[str, Any] = {
    "affiliate": lambda s: (s.status, "", s.affiliate_id),
    "offer": lambda s: ("proposed_terms" if s.proposed else "published" if s.terms else "no_terms", "", ""),
    "coupon": lambda s: ("assigned", "", s.assignments[-1].affiliate_id),
    "adjustment": lambda s: (s.status, s.proposed.kind, s.proposed.affiliate_id),
    "key": lambda s: ("revoked" if s.revoked else "issued", s.issued.role, s.issued.affiliate_id),
    # whether an approved method waits or is in force is a matter of the instant: PayoutMethodState.status_at
    "payout_method": lambda s: (s.status, s.latest.method if s.latest else "", s.affiliate_id),
    "rate": lambda s: ("recorded", "", ""),
    "paying_account": lambda s: ("set", "", ""),
    "tax_rules": lambda s: ("proposed" if s.proposed else "published" if s.published else "no_rules", "", ""),
    "tax_profile": lambda s: ("recorded", s.tax_status, s.affiliate_id),
    "notice": lambda s: (s.status, s.queued.template, s.queued.affiliate_id),
    "break": lambda s: (s.status, s.opened.type, s.opened.affiliate_id),
    "dispute": lambda s: (s.status, "", s.opened.affiliate_id),
    "erasure": lambda s: (s.status, s.ground, s.subject.removeprefix("affiliate:") if s.subject[0] == "a" else ""),
    "bank_statement": lambda s: ("imported", "", ""),
}
