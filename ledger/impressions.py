"""Recording impressions: nothing in them is personal, and none of them can be clicked for."""

from __future__ import annotations

from uuid import UUID, uuid4

from ledger.domain.impression import ImpressionRecorded, RecordImpression
from ledger.store.vault import Secrets
from ledger.traffic import Batch


class Impressions(Batch[RecordImpression, ImpressionRecorded]):
    """A batch of impressions."""

    kind, topic = "impression", "ImpressionRecorded"

    @staticmethod
    def id_of(touch: RecordImpression, secrets: Secrets, program: UUID) -> str:
        """Its id, or a random one."""
        return touch.impression_id or uuid4().hex

    def event(self, touch: RecordImpression, id_: str) -> ImpressionRecorded:
        """The event of a new impression."""
        return ImpressionRecorded(
            impression_id=id_,
            affiliate_id=touch.affiliate_id,
            offer_id=touch.offer_id,
            occurred_at=touch.occurred_at,
            customer_id=touch.customer_id,
            visitor_id=touch.visitor_id,
            channel=touch.channel,
            duplicate=touch.duplicate,
        )
