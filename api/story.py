"""A conversion's whole story: its events and those of its reversals, the journal lines they made, and an
explanation of the commission as data and as one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ledger import reads
from ledger.domain import conversion, money, reversal
from ledger.domain.conversion import CommissionAccrued, ConversionState, Step
from ledger.domain.event import Recorded
from ledger.domain.offer import OfferState
from ledger.domain.topics import TOPIC_OF
from ledger.projections import books

CIPHERTEXT = frozenset({"reason"})

_RULES = {
    "click_id": "click id",
    "coupon": "coupon",
    "affiliate_id": "named affiliate",
    "last_click": "customer's last click",
}


def tell(look: reads.Look, order_id: str) -> dict[str, Any] | None:
    """The story of an order, or None when nothing is known of it."""
    found = look.record(conversion.key(order_id))
    state: ConversionState = found.state if found else ConversionState()
    ids = {e.reversal_id for e in _reversals(look, order_id)} | set(look.reversals_kept(order_id, state.affiliate_id))
    events = look.events([conversion.key(order_id), *(reversal.key(id_) for id_ in sorted(ids))])
    if not events:
        return None
    lines = _lines(look, events)
    offer = look.record(f"offer:{state.recorded.offer_id}") if state.recorded else None
    return {
        **_current(order_id, state),
        "position": events[-1].position,
        "explanation": explain(state, offer.state if offer else None),
        "events": [_event(event, lines.get(event.position, [])) for event in events],
    }


def for_the_affiliate(told: dict[str, Any]) -> dict[str, Any]:
    """What its affiliate is shown of a story: what moved money on its account, not who in the program did it."""
    changes = [
        {name: event[name] for name in ("position", "topic", "recorded_at", "lines")}
        for event in told["events"]
        if event["lines"]
    ]
    shown = {name: value for name, value in told.items() if name != "events"}
    return {**shown, "explanation": _without_others(told["explanation"], told["affiliate_id"]), "changes": changes}


def _without_others(explanation: dict[str, Any], affiliate_id: str) -> dict[str, Any]:
    """An explanation of a commission without other affiliates' names, and without how many clicks there were."""
    own = [
        step if step.affiliate_id == affiliate_id else msgspec.structs.replace(step, affiliate_id=None)
        for step in explanation["steps"]
    ]
    shown = {**explanation, "steps": own}
    if "click" in shown:
        shown["click"] = {name: value for name, value in shown["click"].items() if name != "traffic_position_seen"}
    return shown


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
    if state.accrued is not None:
        current["matures_at"] = state.accrued.matures_at
    return current


# --- the explanation -----------------------------------------------------------------------------------------


def explain(state: ConversionState, offer: OfferState | None) -> dict[str, Any]:
    """Why the commission is what it is."""
    if state.accrued is not None:
        return _explain_accrual(state.accrued, state, offer)
    if state.status == "waiting":
        until = state.waits_until.isoformat() if state.waits_until else ""
        return {"sentence": f"Its click has not been seen yet; it is waited for until {until}."}
    if state.status == "unattributed":
        tried = "; ".join(_step(step) for step in state.steps) or "it named no click, coupon, affiliate or customer"
        return {"sentence": f"Nobody is credited: {tried}.", "steps": state.steps}
    if state.recorded is None and state.deferred:
        return {"sentence": "Reversals came before the sale; they are applied when it comes."}
    return {"sentence": "The sale is kept as an exception and earns nothing until that is resolved."}


def _step(step: Step) -> str:
    who = f" ({step.affiliate_id})" if step.affiliate_id else ""
    return f"{_RULES.get(step.rule, step.rule)}{who}: {step.result.replace('_', ' ')}"


def _explain_accrual(accrued: CommissionAccrued, state: ConversionState, offer: OfferState | None) -> dict[str, Any]:
    terms = next((t for t in offer.terms if t.version == accrued.terms_version), None) if offer else None
    explained: dict[str, Any] = {
        "sentence": _sentence(accrued, state),
        "steps": accrued.steps,
        "terms": {"terms_version": accrued.terms_version, "rate_bps": accrued.rate_bps},
        "sale_amount": accrued.sale_amount,
        "commission": accrued.amount,
        "rounding_e4": accrued.rounding_e4,
        "matures_at": accrued.matures_at,
    }
    if terms is not None:
        explained["terms"] |= {
            "amount": terms.amount,
            "currency": terms.currency,
            "hold_days": terms.hold_days,
            "window_days": terms.window_days,
            "effective_from": terms.effective_from,
        }
    if accrued.click_id is not None:
        explained["click"] = {
            "click_id": accrued.click_id,
            "clicked_at": accrued.clicked_at,
            "traffic_position": accrued.click_position,
            "leaf_hash": accrued.click_leaf,
            "traffic_position_seen": accrued.traffic_position,
        }
    return explained


def _sentence(accrued: CommissionAccrued, state: ConversionState) -> str:

    def major(amount: int) -> str:
        return f"{money.major_units(amount, accrued.currency)} {accrued.currency}"

    rule = _RULES.get(accrued.steps[-1].rule, "") if accrued.steps else ""
    version = f"version {accrued.terms_version} of the terms of offer {accrued.offer_id}"
    if accrued.rate_bps is None:
        price = f"a flat {major(accrued.amount)} ({version})"
    else:
        rate = f"{accrued.rate_bps // 100}.{accrued.rate_bps % 100:02d}".rstrip("0").rstrip(".")
        rounded = " rounded half up" if accrued.rounding_e4 else ""
        price = f"{rate} % of {major(accrued.sale_amount)}{rounded} ({version})"
    sentence = (
        f"{accrued.affiliate_id} is credited by {rule} with {major(accrued.amount)}: {price};"
        f" it matures at {accrued.matures_at.isoformat()}."
    )
    if state.reversed_amount or state.reversed_commission:
        sentence += (
            f" {major(state.reversed_amount)} of the sale was reversed, which took back"
            f" {major(state.reversed_commission)}."
        )
    return sentence
