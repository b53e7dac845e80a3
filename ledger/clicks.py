"""Recording clicks: signed ids where they bring none, and what is personal in them encrypted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.desk import Meta
from ledger.domain.click import ClickRecorded, RecordClick, key
from ledger.domain.erasure import ERASED
from ledger.store.log import Rows
from ledger.store.vault import Secrets, seal_with, traffic_subject
from ledger.traffic import Batch


class Clicks(Batch[RecordClick, ClickRecorded]):
    """A batch of clicks."""

    kind, topic = "click", "ClickRecorded"

    def __init__(
        self, cur: Rows, program: UUID, secrets: Secrets, next_position: int, now: datetime, meta: Meta
    ) -> None:
        super().__init__(cur, program, secrets, next_position, now, meta)
        self._sealers: dict[tuple[int, int], tuple[str, AESGCM | None]] = {}

    @staticmethod
    def id_of(touch: RecordClick, secrets: Secrets, program: UUID) -> str:
        """Its id, or a signed one: a sale that names it can be credited even if the click itself was lost."""
        return touch.click_id or secrets.sign_click(program, touch.affiliate_id, touch.offer_id, touch.occurred_at)

    def prepare(self, touches: Sequence[RecordClick]) -> None:
        """Have the keys of the months in which something personal was clicked."""
        for click in touches:
            if click.has_personal() and (click.occurred_at.year, click.occurred_at.month) not in self._sealers:
                self._make_sealer(click.occurred_at)

    def _make_sealer(self, at: datetime) -> None:
        """The traffic key of a month; None once it is erased: its late clicks are recorded without what is personal."""
        subject = traffic_subject(at)
        self._sealers[at.year, at.month] = (subject, self._vault.sealer(subject))

    def event(self, touch: RecordClick, id_: str) -> ClickRecorded:
        """The event of a new click."""
        sealed, subject = "", ""
        if touch.has_personal():
            subject, cipher = self._sealers[touch.occurred_at.year, touch.occurred_at.month]
            personal = msgspec.json.encode(touch.personal())
            sealed = ERASED if cipher is None else seal_with(cipher, key(id_), "personal", personal)
        return ClickRecorded(
            click_id=id_,
            affiliate_id=touch.affiliate_id,
            offer_id=touch.offer_id,
            occurred_at=touch.occurred_at,
            customer_id=touch.customer_id,
            visitor_id=touch.visitor_id,
            channel=touch.channel,
            ip_hash=self._secrets.ip_hash(self._program_id, touch.ip, self._now) if touch.ip else None,
            duplicate=touch.duplicate,
            personal=sealed,
            personal_key=subject,
        )

    def differences(self, touch: RecordClick, id_: str, was: ClickRecorded) -> list[str]:
        """What is personal counts as one field, as long as it can be read."""
        differs = super().differences(touch, id_, was)
        kept = self._vault.unseal(was.personal_key, key(id_), "personal", was.personal)
        if kept is not None and (msgspec.json.decode(kept) if kept else {}) != touch.personal():
            differs.append("personal")
        return differs
