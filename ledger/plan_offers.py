"""The offers whose plans have some member, without reading all the others."""

from __future__ import annotations

from collections.abc import Iterator

from ledger import sql
from ledger.domain import offer
from ledger.domain.offer import OfferState
from ledger.reads import Look

QUERIES = sql.load("ledger", "plan_offers.sql")


def offers_with(look: Look, member: str) -> Iterator[OfferState]:
    """Every offer of which any version of its plan ever had a member (such as 'goals'), in the order of ids."""
    look.cur.execute(QUERIES["select_offers"], {"program_id": look.program_id, "word": f'"{member}"'})
    for (offer_id,) in look.cur.fetchall():
        found = look.record(offer.key(offer_id))
        assert found is not None
        yield found.state
