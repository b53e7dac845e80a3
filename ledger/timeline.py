"""Timelines: everything that the logs know of an affiliate, a conversion or a payout, in the order of recording.

An affiliate's comes from the log through an index, a page at a time; those of a conversion and of a payout are short,
and are put together from their own streams and from those that concern them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from ledger import sql
from ledger.domain import (
    adjustment,
    affiliate,
    bank,
    breaks,
    click,
    conversion,
    dispute,
    erasure,
    notice,
    payout,
    payout_run,
    reversal,
    statement,
)
from ledger.domain.conversion_state import ConversionState
from ledger.domain.errors import NotFound
from ledger.domain.event import Event
from ledger.domain.ids import stream_id
from ledger.domain.invoice_numbers import CreditNoteIssued
from ledger.domain.payout import PayoutFailed, PayoutReturned
from ledger.domain.statement import StatementIssued
from ledger.domain.stream_keys import stream_key
from ledger.domain.topics import TOPIC_OF
from ledger.projections import books
from ledger.reads import Look
from ledger.store import codec
from ledger.store.log import uuid_array
from ledger.timeline_words import sentence

QUERIES = sql.load("ledger", "timeline.sql")
LOGS = ("traffic", "books")  # of two events of one instant, the click comes first
NOTICES = ("payout_initiated", "payout_settled", "payout_failed", "payout_returned")


class Place(NamedTuple):
    """Behind which entry a page begins."""

    recorded_at: datetime
    log: str
    position: int


BEGINNING = Place(datetime.min.replace(tzinfo=UTC), LOGS[0], 0)


class Entry(Struct, kw_only=True):
    """An event of a timeline. sentence: what happened; stream: the "kind:id" that it stands in, '' where the event
    does not say; lines: the journal lines it made, amounts in minor units; key_id '': a command on the server."""

    position: int
    log: str
    recorded_at: datetime
    topic: str
    sentence: str
    stream: str
    actor: str
    request_id: str
    key_id: str
    cause: str
    lines: list[dict[str, Any]] = []

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.recorded_at, self.log, self.position)


class _Read(NamedTuple):
    """An event as it was read."""

    log: str
    position: int
    recorded_at: datetime
    stream: str
    body: Event
    actor: str
    key_id: str
    request_id: str
    cause: str

    @property
    def order(self) -> tuple[datetime, int, int]:
        return self.recorded_at, LOGS.index(self.log), self.position


# --- what an affiliate is shown of its own ----------------------------------------------------------------

# Its money, its standing, its payees and papers. Not: what staff proposed and did not do, differences with banks and
# merchants, payout runs, which are many affiliates', and facts that could not be applied.
OWN_TOPICS: frozenset[str] = frozenset(
    {
        "AffiliateEnrolled", "AffiliateApproved", "AffiliateSuspended", "AffiliateReinstated", "AffiliateClosed",
        "AffiliateGrouped", "CouponAssigned",
        "CommissionAccrued", "CommissionRepriced", "ConversionHeld", "ConversionReleased", "ConversionApproved",
        "ConversionRejected", "ConversionReversed", "AdjustmentPosted", "KeyIssued", "KeyRevoked",
        "PayoutMethodProposed", "PayoutMethodApproved", "PayoutMethodRejected", "PayoutMethodWithdrawn",
        "TaxProfileRecorded", "NoticeQueued", "NoticeSent", "DisputeOpened", "DisputeAnswered", "DisputeAccepted",
        "DisputeRejected", "DisputeWithdrawn", "StatementIssued", "PayoutProposed", "PayoutExcluded",
        "PayoutInitiated", "PayoutSettled", "PayoutFailed", "PayoutReturned", "PayoutUnknown",
        "SubjectErased",
    }
)  # fmt: skip
_OWN_FIELDS = ("position", "log", "recorded_at", "topic", "sentence", "stream", "lines")


def for_the_affiliate(entry: Entry, affiliate_id: str) -> dict[str, Any]:
    """An entry without who in the program did it and why, and with the lines of its own accounts only."""
    shown = {name: getattr(entry, name) for name in _OWN_FIELDS}
    own = (f"liability:{affiliate_id}:", f"asset:bank:{affiliate_id}")

    def is_own(account: str) -> bool:
        return account.startswith(own[0]) or account == own[1]

    shown["lines"] = [line for line in entry.lines if is_own(line["debit"]) or is_own(line["credit"])]
    return shown


# --- affiliates --------------------------------------------------------------------------------------------


def of_affiliate(look: Look, affiliate_id: str, after: Place, limit: int, own: bool = False) -> list[Entry]:
    """Up to `limit` entries behind a place: every event that names the affiliate, and what became of its records.
    own: only what the affiliate itself is shown."""
    params = {
        "program_id": look.program_id,
        "affiliate_id": affiliate_id,
        "after": after.position,
        "erasure": stream_id(look.program_id, erasure.key(affiliate.key(affiliate_id))),
        "topics": sorted(OWN_TOPICS) if own else None,
        "limit": limit,
    }
    look.cur.execute(QUERIES["select_affiliate"], params)
    return _entries(look, [_read("books", row, {}, look.program_id) for row in look.cur])


# --- conversions -------------------------------------------------------------------------------------------


def of_conversion(look: Look, order_id: str, affiliate_id: str = "") -> list[Entry]:
    """Everything about an order: its click, its events and those of its reversals, differences and disputes about it,
    the statements that its lines stand on first and what was issued of them since, and the payouts that were the first
    to know it was payable (what is paid is a balance: more cannot be said). Empty for an unknown one. affiliate_id:
    without what names another one, and what came of it."""
    own = _events(look, [conversion.key(order_id)])
    found = look.record(conversion.key(order_id))
    state: ConversionState = found.state if found else ConversionState()
    mentioned = {
        e.body.reversal_id
        for e in own
        if isinstance(e.body, conversion.ConversionReversed | conversion.ReversalDeferred)
    }
    reversals = mentioned | set(look.reversals_kept(order_id, state.affiliate_id))
    known = own + _events(look, [reversal.key(one) for one in sorted(reversals)])
    if not known:
        return []
    known += _clicks(look, own)
    if affiliate_id:
        known = [e for e in known if not _is_another(e.body, affiliate_id)]
    credited = [affiliate_id] if affiliate_id else dict.fromkeys(one for one, _ in state.commissions)
    positions = [one.position for one in known if one.log == "books"]
    for one in credited or [""]:
        known += _disagreements(look, one, order_id, positions)
        known += _statements(look, one, positions)
    known += _paying(look, positions)
    return _entries(look, _in_order(known))


def _is_another(body: Event, affiliate_id: str) -> bool:
    if isinstance(body, conversion.ConversionAttributed):
        return True  # names whoever touched the customer
    return getattr(body, "affiliate_id", None) not in (None, "", affiliate_id)


def _clicks(look: Look, own: Iterable[_Read]) -> list[_Read]:
    ids = {
        e.body.click_id
        for e in own
        if isinstance(e.body, conversion.CommissionAccrued | conversion.ConversionRecorded) and e.body.click_id
    }
    return _events(look, [click.key(one) for one in sorted(ids)], log="traffic")


def _disagreements(look: Look, affiliate_id: str, order_id: str, positions: list[int]) -> list[_Read]:
    """Differences with the merchant's own list of orders, disputes about lines of the order, and what they led to."""
    keys = {breaks.key(breaks.id_of("orders", type_, order_id)) for type_ in breaks.ORDER_TYPES}
    keys |= _break_keys(look, affiliate_id, order_id)
    for dispute_id in _ids(look, "select_disputes", {"affiliate_id": affiliate_id, "positions": positions}):
        keys |= {dispute.key(dispute_id), adjustment.key(dispute.adjustment_id_of(dispute_id))}
    return _events(look, sorted(keys))


def _statements(look: Look, affiliate_id: str, positions: list[int]) -> list[_Read]:
    look.cur.execute(QUERIES["select_first_cuts"], {"program_id": look.program_id, "positions": positions})
    first: dict[str, int] = {}
    for period, version in look.cur:
        first[period] = min(version, first.get(period, version))
    found = _events(look, [statement.key(affiliate_id, period) for period in sorted(first)])
    return [e for e in found if isinstance(e.body, StatementIssued) and e.body.version >= first[e.body.period]]


def _paying(look: Look, positions: list[int]) -> list[_Read]:
    look.cur.execute(QUERIES["select_paying"], {"program_id": look.program_id, "positions": positions})
    return _events(look, [payout.key(one) for (one,) in look.cur.fetchall()])


# --- payouts -----------------------------------------------------------------------------------------------


def of_payout(look: Look, payout_id: str) -> list[Entry]:
    """Everything about a payout: its events, its run's that decided it (the others' lines apart), the bank's lines that
    name it, differences about it, its credit note, and the messages sent. Empty for an unknown one."""
    own = _events(look, [payout.key(payout_id)])
    if not own:
        return []
    proposed = own[0].body
    assert isinstance(proposed, payout.PayoutProposed)
    known = own + _of_run(look, proposed.run_id)
    lines = _ids(look, "select_bank_lines", {"payout_id": payout_id})
    keys = {bank.line_key(one) for one in lines}
    keys |= {notice.key(payout.notice_id(payout_id, what)) for what in NOTICES}
    keys |= {
        breaks.key(breaks.id_of("bank", type_, reference))
        for type_ in breaks.BANK_TYPES
        for reference in (payout_id, *lines)
    }
    keys |= {breaks.key(breaks.id_of("payout_file", type_, payout_id)) for type_ in breaks.PAYOUT_FILE_TYPES}
    keys |= _break_keys(look, proposed.affiliate_id, payout_id)
    known += _events(look, sorted(keys)) + _credit_notes(look, payout_id, own)
    return _entries(look, _in_order(known))


def _of_run(look: Look, run_id: str) -> list[_Read]:
    """The run's own events; not who else was left out of it."""
    try:
        series = payout_run.key_of(run_id)
    except NotFound:
        return []
    some = _events(look, [series])
    return [
        e for e in some if getattr(e.body, "run_id", "") == run_id and not isinstance(e.body, payout_run.PayoutsLeftOut)
    ]


def _credit_notes(look: Look, payout_id: str, own: Sequence[_Read]) -> list[_Read]:
    """A credit note stands in its year's series, just before the outcome that it belongs to."""
    outcomes = [e.position for e in own if isinstance(e.body, PayoutFailed | PayoutReturned)]
    look.cur.execute(QUERIES["select_beside"], {"program_id": look.program_id, "positions": outcomes})
    found = [_read("books", row, {}, look.program_id) for row in look.cur]
    return [e for e in found if isinstance(e.body, CreditNoteIssued) and e.body.payout_id == payout_id]


# --- reading -----------------------------------------------------------------------------------------------


def _ids(look: Look, name: str, params: dict[str, Any]) -> list[str]:
    look.cur.execute(QUERIES[name], {"program_id": look.program_id, **params})
    return [one for (one,) in look.cur]


def _break_keys(look: Look, affiliate_id: str, reference: str) -> set[str]:
    """An affiliate's breaks that are about an order or payout, by their streams."""
    params = {"program_id": look.program_id, "affiliate_id": affiliate_id}
    look.cur.execute(QUERIES["select_breaks"], params)
    return {
        breaks.key(break_id)
        for break_id, topic, state in look.cur
        if getattr(codec.decode_state(topic, state), "reference", None) == reference
    }


def _events(look: Look, keys: Sequence[str], log: str = "books") -> list[_Read]:
    """Every event of some streams, in the order of the log."""
    if not keys:
        return []
    streams = {stream_id(look.program_id, key): key for key in keys}
    name = "select_streams" if log == "books" else "select_clicks"
    look.cur.execute(QUERIES[name], {"program_id": look.program_id, "ids": uuid_array(streams)})
    return sorted((_read(log, row, streams, look.program_id) for row in look.cur), key=lambda one: one.order)


def _read(log: str, row: Sequence[Any], streams: dict[UUID, str], program_id: UUID) -> _Read:
    position, recorded_at, originator_id, topic, state, actor, key_id, request_id, cause = row
    body = codec.decode_state(topic, state)
    stream = streams.get(originator_id) or _stream_of(program_id, originator_id, body)
    return _Read(log, position, recorded_at.astimezone(UTC), stream, body, actor, key_id, request_id, cause)


def _stream_of(program_id: UUID, originator_id: UUID, body: Event) -> str:
    """What the event itself says of its stream, if the stream's id proves it."""
    try:
        key = stream_key(body)
    except LookupError:
        return ""
    return key if stream_id(program_id, key) == originator_id else ""


def _in_order(events: Iterable[_Read]) -> list[_Read]:
    """Each event once, as recorded."""
    return sorted({(e.log, e.position): e for e in events}.values(), key=lambda one: one.order)


def _entries(look: Look, events: Sequence[_Read]) -> list[Entry]:
    lines: dict[int, list[dict[str, Any]]] = {}
    positions = [e.position for e in events if e.log == "books"]
    for line in books.lines_of(look.cur, look.program_id, positions):
        lines.setdefault(line.pop("position"), []).append(line)
    return [
        Entry(
            position=e.position,
            log=e.log,
            recorded_at=e.recorded_at,
            topic=TOPIC_OF[type(e.body)],
            sentence=sentence(e.body),
            stream=e.stream,
            actor=e.actor,
            request_id=e.request_id,
            key_id=e.key_id,
            cause=e.cause,
            lines=lines.get(e.position, []) if e.log == "books" else [],
        )
        for e in events
    ]


def page(entries: Sequence[Entry], after: Place, limit: int) -> list[Entry]:
    """Up to `limit` entries behind a place."""
    behind = [one for one in entries if (one.recorded_at, LOGS.index(one.log), one.position) > _rank(after)]
    return behind[:limit]


def _rank(place: Place) -> tuple[datetime, int, int]:
    return place.recorded_at, LOGS.index(place.log), place.position
