"""A conversion's whole story: its events and those of its reversals, the journal lines they made, and the
explanation of its commissions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ledger import explanations, reads
from ledger.domain import conversion, reversal
from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.event import Recorded
from ledger.domain.topics import TOPIC_OF
from ledger.projections import books

CIPHERTEXT = frozenset({"reason"})


def tell(look: reads.Look, order_id: str, affiliate_id: str = "") -> dict[str, Any] | None:
    """The story of an order, or None when nothing is known of it. affiliate_id: as if only its commissions were there,
    for for_the_affiliate()."""
    found = look.record(conversion.key(order_id))
    state: ConversionState = found.state if found else ConversionState()
    ids = {e.reversal_id for e in _reversals(look, order_id)} | set(look.reversals_kept(order_id, state.affiliate_id))
    events = look.events([conversion.key(order_id), *(reversal.key(id_) for id_ in sorted(ids))])
    explanation = explanations.explanation_of(look, order_id, affiliate_id)
    if explanation is None:
        return None
    position = events[-1].position
    if affiliate_id:
        own = {whose: one for whose, one in state.commissions.items() if whose[0] == affiliate_id}
        state = msgspec.structs.replace(state, commissions=own)
        events = [event for event in events if getattr(event.body, "affiliate_id", affiliate_id) == affiliate_id]
    lines = _lines(look, events)
    return {
        **_current(order_id, state),
        "position": position,
        "explanation": explanation,
        "events": [_event(event, lines.get(event.position, [])) for event in events],
    }


def for_the_affiliate(told: dict[str, Any]) -> dict[str, Any]:
    """What an affiliate is shown of a story told of it alone: what moved money on its account, not who in the program
    did it."""
    changes = [
        {name: event[name] for name in ("position", "topic", "recorded_at", "lines")}
        for event in told["events"]
        if event["lines"]
    ]
    shown = {name: value for name, value in told.items() if name != "events"}
    return {**shown, "changes": changes}


def _reversals(look: reads.Look, order_id: str) -> Iterator[Any]:
    for event in look.events([conversion.key(order_id)]):
        if isinstance(event.body, conversion.ConversionReversed | conversion.ReversalDeferred):
            yield event.body


def _lines(look: reads.Look, events: Sequence[Recorded]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for line in books.lines_of(look.cur, look.program_id, [event.position for event in events]):
        found.setdefault(line.pop("position"), []).append(line)
    return found


def _event(event: Recorded, lines: list[dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(event.body)
    return {
        "position": event.position,
        "topic": TOPIC_OF[type(event.body)],
        "recorded_at": event.recorded_at,
        "actor": event.actor,
        "request_id": event.request_id,
        "cause": event.cause,
        "fields": {name: value for name, value in said.items() if name not in CIPHERTEXT},
        "lines": lines,
    }


def _current(order_id: str, state: ConversionState) -> dict[str, Any]:
    current: dict[str, Any] = {
        "order_id": order_id,
        "status": state.status,
        "commission": state.commission,
        "reversed_amount": state.reversed_amount,
        "reversed_commission": state.reversed_commission,
        "outstanding": state.outstanding,
    }
    if state.recorded is not None:
        sale = state.recorded
        current |= {
            "offer_id": sale.offer_id,
            "affiliate_id": state.affiliate_id,
            "amount": sale.amount,
            "currency": sale.currency,
            "occurred_at": sale.occurred_at,
        }
        if state.lead is not None and state.lead.currency != sale.currency:
            current["commission_currency"] = state.lead.currency
    if state.lead is not None:
        current["matures_at"] = state.lead.matures_at
    if len(state.commissions) > 1:
        current["shares"] = [_share(one) for one in state.commissions.values()]
    return current


def _share(one: Commission) -> dict[str, Any]:
    return {
        "affiliate_id": one.affiliate_id,
        "level": one.level,
        "status": one.status,
        "credited_amount": one.credited_amount,
        "commission": one.commission,
        "reversed_commission": one.reversed_commission,
        "outstanding": one.outstanding,
        "currency": one.currency,
        "matures_at": one.matures_at,
    }
