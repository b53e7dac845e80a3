"""An order's explanation: put together from what its events add up to, and cut down to what one affiliate may read."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ledger.domain.conversion import Step
from ledger.domain.conversion_state import ConversionState
from ledger.domain.event import Event
from ledger.domain.offer import OfferState
from ledger.explaining import commission, words
from ledger.explaining.data import (
    Change,
    Credit,
    ExplainedCap,
    ExplainedCommission,
    ExplainedSale,
    Explanation,
    Journey,
    KeptException,
)
from ledger.explaining.phrases import instant
from ledger.explaining.recruiting import Recruiters


def explain(
    order_id: str,
    state: ConversionState,
    offer: OfferState | None,
    events: Sequence[Event] = (),
    recruiters: Recruiters | None = None,
) -> Explanation:
    """Why an order's commissions are what they are, for staff. events: the conversion's own, in order, which state is
    the fold of; without them it is not told what became of the commissions, but only what that came to. recruiters:
    who recruited each who is credited, where somebody did; needed where several are credited."""
    sale, journey = _sale(state), _journey(state)
    count = len(journey.touches) if journey is not None else None
    commissions = []
    for one in state.commissions.values():
        found = commission.explained(one, state, offer, events, recruiters)
        commissions.append(replace(found, sentence=words.paragraph(found, sale, count)))
    kept = state.kept_exception
    return Explanation(
        order_id=order_id,
        status=state.status,
        sentence=_sentence(state, commissions),
        sale=sale,
        steps=state.accrued.steps if state.accrued is not None else state.steps,
        journey=journey,
        commissions=commissions,
        waits_until=state.waits_until if state.status == "waiting" else None,
        exception=KeptException(type=kept.type, detail=kept.detail, open=state.exception_open) if kept else None,
    )


def _sale(state: ConversionState) -> ExplainedSale | None:
    sale = state.recorded
    if sale is None:
        return None
    return ExplainedSale(
        offer_id=sale.offer_id,
        amount=sale.amount,
        currency=sale.currency,
        occurred_at=sale.occurred_at,
        reversed_amount=state.reversed_amount,
        event_id=sale.event_id,
    )


def _journey(state: ConversionState) -> Journey | None:
    said = state.attributed
    if said is None:
        return None
    return Journey(
        model=said.model,
        whole=sum(one.weight for one in said.touches),
        touches=commission.explained_touches(said.touches),
        traffic_position=said.traffic_position,
    )


def _sentence(state: ConversionState, commissions: Sequence[ExplainedCommission]) -> str:
    if commissions:
        return " ".join(one.sentence for one in commissions)
    if state.status == "waiting":
        until = instant(state.waits_until) if state.waits_until else ""
        return f"Its click has not been seen yet; it is waited for until {until}."
    if state.status == "unattributed":
        return f"Nobody is credited: {words.tried(state.steps)}."
    if state.recorded is None and state.deferred:
        return "Reversals came before the sale; they are applied when it comes."
    return "The sale is kept as an exception and earns nothing until that is resolved."


# --- what an affiliate may read ----------------------------------------------------------------------------------


def for_affiliate(explanation: Explanation, affiliate_id: str) -> Explanation:
    """The same for one who is credited: its own commissions and touches, without other affiliates' names, how many
    touches there were, how much traffic the program has, and orders that may be others'."""
    is_shared = any(one.affiliate_id != affiliate_id for one in explanation.commissions)
    own = []
    for one in explanation.commissions:
        if one.affiliate_id == affiliate_id:
            shown = _own(one, is_shared)
            own.append(replace(shown, sentence=words.paragraph(shown, explanation.sale, None)))
    return Explanation(
        order_id=explanation.order_id,
        status=own[0].status if len({one.status for one in own}) == 1 else explanation.status,
        sentence=" ".join(one.sentence for one in own),
        sale=explanation.sale,
        steps=own[0].credit.steps if own and own[0].credit is not None else [],
        commissions=own,
    )


def _own(one: ExplainedCommission, is_shared: bool) -> ExplainedCommission:
    rounding, part = one.rounding, one.second_level
    return replace(
        one,
        first_order_id="",
        credit=_without_others(one.credit, one.affiliate_id) if one.credit is not None else None,
        clicks=replace(one.clicks, after=None, until=None) if one.clicks is not None else None,
        rounding=replace(rounding, together=None, left=None, remainders=[]) if rounding is not None else None,
        second_level=replace(part, recruited=[]) if part is not None else None,
        caps=[_without_room(cap) for cap in one.caps] if is_shared else one.caps,
        changes=[_change_without_room(change) for change in one.changes] if is_shared else one.changes,
    )


def _without_room(cap: ExplainedCap) -> ExplainedCap:
    # what others took of it just before would follow from its room
    return replace(cap, room=None, asked=None) if cap.counter.startswith("offer/") else cap


def _change_without_room(change: Change) -> Change:
    summed = change.repricing
    if summed is None or summed.limit is None or summed.limit.level != "offer":
        return change
    return replace(change, repricing=replace(summed, limit=replace(summed.limit, room=None)))


def _without_others(credit: Credit, affiliate_id: str) -> Credit:
    # touches without a part of the credit say nothing; the others' numbers and weights would say how many there were
    touches = [replace(touch, number=None, weight=None) for touch in credit.touches if touch.weight]
    return replace(
        credit,
        steps=[_step(step, affiliate_id) for step in credit.steps],
        weight=None,
        whole=None,
        touches=touches,
        click=replace(credit.click, traffic_position_seen=None) if credit.click is not None else None,
    )


def _step(step: Step, affiliate_id: str) -> Step:
    return step if step.affiliate_id == affiliate_id else Step(step.rule, step.result)
