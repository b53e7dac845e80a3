"""An order's explanation, from the log."""

from __future__ import annotations

from ledger.domain import conversion, conversion_state, offer
from ledger.domain.event import fold_all
from ledger.explaining.data import Explanation
from ledger.explaining.explain import explain, for_affiliate
from ledger.reads import Look


def explanation_of(look: Look, order_id: str, affiliate_id: str = "") -> Explanation | None:
    """Why an order's commissions are what they are, or None when nothing is known of it. affiliate_id: as this one may
    read it, who is credited."""
    events = [event.body for event in look.events([conversion.key(order_id)])]
    state = fold_all(conversion_state.fold, events)
    if state is None:
        return None
    known = look.record(offer.key(state.recorded.offer_id)) if state.recorded is not None else None
    found = explain(order_id, state, known.state if known is not None else None, events)
    return for_affiliate(found, affiliate_id) if affiliate_id else found
