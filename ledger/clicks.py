"""Recording clicks: batches into the traffic log, duplicates found, personal fields encrypted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.batches import MOST_IN_A_HURRY, PATIENCE_SECONDS, Outcome, retryable
from ledger.desk import Meta
from ledger.domain.click import ClickRecorded, RecordClick, key
from ledger.domain.errors import DiffersFromOriginal, Unavailable
from ledger.domain.event import Answer
from ledger.domain.ids import program_id, stream_id
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
        deadline = arrived + PATIENCE_SECONDS
        # Made before the first attempt: when its COMMIT's reply is lost, the next one must find the same clicks.
        click_ids = [
            c.click_id or self._secrets.sign_click(self.program_id, c.affiliate_id, c.offer_id, c.occurred_at)
            for c in clicks
        ]
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
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
            batch = _Batch(cur, self.program_id, self._secrets, head.next_position, now)
            batch.find_known(click_ids)
            outcomes = [batch.take(c, id_, meta) for c, id_ in zip(clicks, click_ids, strict=True)]
            if batch.rows:
                log.append(cur, self.program_id, "traffic", head, batch.rows, now)
                log.advance_head(cur, self.program_id, "traffic", head, len(batch.rows), now, 0)
                touches.store(cur, self.program_id, batch.touches)
        return outcomes


class _Batch:
    """One batch of clicks while it is being prepared."""

    def __init__(self, cur: Rows, program: UUID, secrets: Secrets, next_position: int, now: datetime) -> None:
        self._cur, self._program_id, self._secrets = cur, program, secrets
        self._next, self._now = next_position, now
        self._vault = Vault(cur, secrets, program, now)
        self._sealers: dict[tuple[int, int], tuple[str, AESGCM]] = {}
        self._ids: dict[str, UUID] = {}
        self._known: dict[UUID, tuple[int, ClickRecorded]] = {}
        self.rows: list[Row] = []
        self.touches: list[tuple[Any, ...]] = []

    def find_known(self, click_ids: Sequence[str]) -> None:
        """Look up which of the clicks are in the log already, in one statement."""
        program = self._program_id
        self._ids = {click_id: stream_id(program, key(click_id)) for click_id in click_ids}
        self._cur.execute(
            "SELECT originator_id, position, topic, state FROM traffic_events"
            " WHERE program_id = %s AND originator_id = ANY(%s::uuid[])",
            (program, uuid_array(self._ids.values())),
        )
        for originator_id, position, topic, state in self._cur:
            self._known[originator_id] = (position, codec.decode_state(topic, state))  # type: ignore[assignment]

    def take(self, click: RecordClick, click_id: str, meta: Meta) -> Outcome:
        """Make the next click's event, or answer as before."""
        id_ = self._ids[click_id]
        known = self._known.get(id_)
        if known is not None:
            return self._again(click, click_id, *known)
        personal, subject = self._sealed(click, click_id)
        ip_hash = self._secrets.ip_hash(self._program_id, click.ip, self._now) if click.ip else None
        event = ClickRecorded(
            click_id=click_id,
            affiliate_id=click.affiliate_id,
            offer_id=click.offer_id,
            occurred_at=click.occurred_at,
            customer_id=click.customer_id,
            visitor_id=click.visitor_id,
            channel=click.channel,
            ip_hash=ip_hash,
            duplicate=click.duplicate,
            personal=personal,
            personal_key=subject,
        )
        position = self._next + len(self.rows)
        self.rows.append(Row(id_, 1, TOPIC, codec.encode_state(event), meta.actor, meta.key_id, meta.request_id, CAUSE))
        if click.customer_id is not None:
            self.touches.append((self._program_id, click.customer_id, click.occurred_at, position, id_, click.offer_id))
        self._known[id_] = (position, event)
        return Answer("recorded", {"click_id": click_id}, position)

    def _sealed(self, click: RecordClick, click_id: str) -> tuple[str, str]:
        personal = click.personal()
        if not personal:
            return "", ""
        subject, cipher = self._sealer(click.occurred_at)
        return seal_with(cipher, key(click_id), "personal", msgspec.json.encode(personal)), subject

    def _sealer(self, at: datetime) -> tuple[str, AESGCM]:
        """The traffic key of the click's month."""
        month = (at.year, at.month)
        found = self._sealers.get(month)
        if found is None:
            subject = traffic_subject(at)
            found = self._sealers[month] = (subject, self._vault.sealer(subject))
        return found

    def _again(self, click: RecordClick, click_id: str, position: int, was: ClickRecorded) -> Outcome:
        differs = [f for f in SAME_FIELDS if getattr(was, f) != getattr(click, f)]
        kept = self._vault.unseal(was.personal_key, key(click_id), "personal", was.personal)
        if kept is not None and (msgspec.json.decode(kept) if kept else {}) != click.personal():
            differs.append("personal")
        if differs:
            return DiffersFromOriginal(f"click {click_id}", differs)
        return Answer("unchanged", {"click_id": click_id}, position)
