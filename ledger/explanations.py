"""An order's explanation, from the log."""

from __future__ import annotations

from ledger.domain import affiliate, conversion, conversion_state, offer
from ledger.domain.conversion_state import ConversionState
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
    found = explain(order_id, state, known.state if known is not None else None, events, _recruiters(look, state))
    return for_affiliate(found, affiliate_id) if affiliate_id else found


def _recruiters(look: Look, state: ConversionState) -> dict[str, str]:
    """Who recruited those who are credited, at the time of the sale, where a recruiter earns by it."""
    if state.recorded is None or not any(one.level == 2 for one in state.commissions.values()):
        return {}
    credited = [one.affiliate_id for one in state.commissions.values() if one.level == 1]
    known = {affiliate_id: look.record(affiliate.key(affiliate_id)) for affiliate_id in credited}
    at = state.recorded.occurred_at
    return {who: record.state.recruiter_at(at) for who, record in known.items() if record is not None}
