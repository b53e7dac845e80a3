"""Recording clicks: batches into the traffic log, duplicates found, personal fields encrypted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger import batches
from ledger.batches import MOST_IN_A_HURRY, Outcome, retryable
from ledger.desk import Meta
from ledger.domain.click import ClickRecorded, RecordClick, key
from ledger.domain.erasure import ERASED
from ledger.domain.errors import DiffersFromOriginal, Unavailable
from ledger.domain.event import Answer
from ledger.domain.ids import program_id, stream_id_parts
from ledger.projections import touches
from ledger.store import codec, log
from ledger.store.database import Pool, answering
from ledger.store.log import Row, Rows, uuid_array
from ledger.store.vault import Secrets, Vault, seal_with, traffic_subject

CAUSE = "record_click"
TOPIC = "ClickRecorded"
SAME_FIELDS = ("affiliate_id", "offer_id", "occurred_at", "customer_id", "visitor_id", "channel")


class ClickWriter:
    """Writes one program's traffic log from this process. Thread-safe: one batch at a time."""

    def __init__(self, pool: Pool, secrets: Secrets, program: str, clock: Callable[[], datetime]) -> None:
        self.program, self.program_id = program, program_id(program)
        self._pool, self._secrets, self._clock = pool, secrets, clock
        self._lock = threading.Lock()
        self._failed_at = 0.0  # monotonic seconds

    def record(self, clicks: Sequence[RecordClick], meta: Meta) -> list[Outcome]:
        """Record a batch in one transaction. A click that differs from an earlier one of its id is refused alone.
        Raises Unavailable."""
        arrived = time.monotonic()
        deadline = arrived + batches.PATIENCE_SECONDS
        # Made before the first attempt: when its COMMIT's reply is lost, the next one must find the same clicks.
        click_ids = [
            c.click_id or self._secrets.sign_click(self.program_id, c.affiliate_id, c.offer_id, c.occurred_at)
            for c in clicks
        ]
        if not self._lock.acquire(timeout=batches.PATIENCE_SECONDS):
            raise Unavailable()
        try:
            if self._failed_at > arrived:
                # Whoever was before us waited as long for nothing: answered now, not after an attempt of our own.
                raise Unavailable()
            while True:
                try:
                    return self._attempt(clicks, click_ids, meta, deadline)
                except Exception as error:
                    if not retryable(error):
                        raise
                    if time.monotonic() + 0.1 >= deadline:
                        self._failed_at = time.monotonic()
                        raise Unavailable() from error
                    time.sleep(0.05)
        finally:
            self._lock.release()

    def _attempt(
        self, clicks: Sequence[RecordClick], click_ids: Sequence[str], meta: Meta, deadline: float
    ) -> list[Outcome]:
        with answering(self._pool, deadline, whole=len(clicks) <= MOST_IN_A_HURRY) as conn, conn.cursor() as cur:
            head = log.lock_head(cur, self.program_id, "traffic")
            now = head.recorded_at(self._clock())
            batch = _Batch(cur, self.program_id, self._secrets, head.next_position, now, meta)
            outcomes, new = batch.sort_out(clicks, click_ids)
            if new:
                batch.append(clicks, new, outcomes, head)
                log.advance_head(cur, self.program_id, "traffic", head, len(new), now, 0)
                touches.store(cur, self.program_id, batch.touches)
                batch.answer_twins(clicks, outcomes)
        return cast(list[Outcome], outcomes)


# A click that is not in the log yet: its place among the clicks, its id, its stream's id as bytes and as text. A plain
# tuple, as log.Row is.
_New = tuple[int, str, bytes, str]


class _Batch:
    """One batch of clicks on its way into the log."""

    def __init__(
        self, cur: Rows, program: UUID, secrets: Secrets, next_position: int, now: datetime, meta: Meta
    ) -> None:
        self._cur, self._program_id, self._secrets = cur, program, secrets
        self._next, self._now, self._meta = next_position, now, meta
        self._vault = Vault(cur, secrets, program, now)
        self._sealers: dict[tuple[int, int], tuple[str, AESGCM | None]] = {}
        self._events: dict[str, tuple[int, ClickRecorded]] = {}
        self._twins: list[_New] = []
        self.touches: list[tuple[Any, ...]] = []

    def sort_out(
        self, clicks: Sequence[RecordClick], click_ids: Sequence[str]
    ) -> tuple[list[Outcome | None], list[_New]]:
        """Which clicks are new; the others' outcomes (None: to come). Asks all that needs asking: once the new ones
        stream into the log, the connection can answer nothing else."""
        program = self._program_id.bytes
        ids = [stream_id_parts(program, f"click:{click_id}") for click_id in click_ids]
        known = self._find_known([text for _, text in ids])
        outcomes: list[Outcome | None] = [None] * len(ids)
        new: dict[str, _New] = {}
        for index, (click_id, (raw, text)) in enumerate(zip(click_ids, ids, strict=True)):
            one = (index, click_id, raw, text)
            if known and text in known:
                outcomes[index] = self._again(clicks[index], click_id, *known[text])
            elif new.setdefault(click_id, one) is not one:
                self._twins.append(one)
        for index, _, _, _ in new.values():
            click = clicks[index]
            if click.has_personal() and (click.occurred_at.year, click.occurred_at.month) not in self._sealers:
                self._make_sealer(click.occurred_at)
        return outcomes, list(new.values())

    def _find_known(self, ids: Sequence[str]) -> dict[str, tuple[int, ClickRecorded]]:
        self._cur.execute(
            "SELECT e.* FROM unnest(%s::uuid[]) AS wanted (id) CROSS JOIN LATERAL ("  # noqa: S608
            " SELECT originator_id, position, topic, state FROM traffic_events"
            f" WHERE program_id = %s AND originator_id = wanted.id {log.ONE_PROBE_EACH}) e",
            (uuid_array(ids), self._program_id),
        )
        return {
            str(originator_id): (position, cast(ClickRecorded, codec.decode_state(topic, state)))
            for originator_id, position, topic, state in self._cur
        }

    def _make_sealer(self, at: datetime) -> None:
        """The traffic key of a month; None once it is erased: its late clicks are recorded without what is personal."""
        subject = traffic_subject(at)
        self._sealers[at.year, at.month] = (subject, self._vault.sealer(subject))

    def append(
        self, clicks: Sequence[RecordClick], new: Sequence[_New], outcomes: list[Outcome | None], head: log.Head
    ) -> None:
        """Make the events and append them, a few hundred at a time."""
        if len(new) < log.COPY_FROM_ROWS:
            rows = self._rows(clicks, new, outcomes)
            log.append(self._cur, self._program_id, "traffic", head, rows, self._now)
            return
        with log.appending(self._cur, self._program_id, "traffic", head, self._now) as write:
            for start in range(0, len(new), log.ROWS_AT_ONCE):
                write(self._rows(clicks, new[start : start + log.ROWS_AT_ONCE], outcomes))

    def _rows(self, clicks: Sequence[RecordClick], new: Sequence[_New], outcomes: list[Outcome | None]) -> list[Row]:
        rows: list[Row] = []
        meta, position = self._meta, self._next
        for index, click_id, raw, text in new:
            click = clicks[index]
            event = self._event(click, click_id)
            state = codec.encode_state(event)
            rows.append((raw, text, 1, TOPIC, state, meta.actor, meta.key_id, meta.request_id, CAUSE))
            if click.customer_id is not None:
                self.touches.append(
                    (self._program_id, click.customer_id, click.occurred_at, position, UUID(bytes=raw), click.offer_id)
                )
            if self._twins:
                self._events[click_id] = (position, event)
            outcomes[index] = Answer("recorded", {"click_id": click_id}, position)
            position += 1
        self._next = position
        return rows

    def _event(self, click: RecordClick, click_id: str) -> ClickRecorded:
        sealed, subject = "", ""
        if click.has_personal():
            subject, cipher = self._sealers[click.occurred_at.year, click.occurred_at.month]
            personal = msgspec.json.encode(click.personal())
            sealed = ERASED if cipher is None else seal_with(cipher, key(click_id), "personal", personal)
        return ClickRecorded(
            click_id=click_id,
            affiliate_id=click.affiliate_id,
            offer_id=click.offer_id,
            occurred_at=click.occurred_at,
            customer_id=click.customer_id,
            visitor_id=click.visitor_id,
            channel=click.channel,
            ip_hash=self._secrets.ip_hash(self._program_id, click.ip, self._now) if click.ip else None,
            duplicate=click.duplicate,
            personal=sealed,
            personal_key=subject,
        )

    def answer_twins(self, clicks: Sequence[RecordClick], outcomes: list[Outcome | None]) -> None:
        """The outcomes of clicks whose id came earlier in this very batch."""
        for index, click_id, _, _ in self._twins:
            outcomes[index] = self._again(clicks[index], click_id, *self._events[click_id])

    def _again(self, click: RecordClick, click_id: str, position: int, was: ClickRecorded) -> Outcome:
        differs = [f for f in SAME_FIELDS if getattr(was, f) != getattr(click, f)]
        kept = self._vault.unseal(was.personal_key, key(click_id), "personal", was.personal)
        if kept is not None and (msgspec.json.decode(kept) if kept else {}) != click.personal():
            differs.append("personal")
        if differs:
            return DiffersFromOriginal(f"click {click_id}", differs)
        return Answer("unchanged", {"click_id": click_id}, position)
