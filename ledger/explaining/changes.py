"""What became of a commission after it accrued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ledger.domain.conversion import (
    CommissionAccrued,
    CommissionRepriced,
    ConversionApproved,
    ConversionHeld,
    ConversionRejected,
    ConversionReleased,
    ConversionReversed,
)
from ledger.domain.conversion_state import Commission
from ledger.domain.event import Event
from ledger.explaining.data import Change
from ledger.explaining.repricing import PricedBy, repricing_of

_DECISIONS = {
    ConversionHeld: "held",
    ConversionReleased: "released",
    ConversionApproved: "approved",
    ConversionRejected: "rejected",
}


class _Running:
    """A commission as it was after each of its events. steps: that its tables pay by, by rule."""

    def __init__(self, priced_by: PricedBy | None) -> None:
        self.commission = self.outstanding = self.reversed_amount = 0
        self.last_reversal_id = ""
        self.priced_by = priced_by
        rules = priced_by.priced.rules if priced_by is not None else ()
        self.steps: Mapping[str, int] = {rule.rule: rule.tier.step for rule in rules if rule.tier is not None}

    def change(self, what: str, effective_at: datetime, amount: int, **more: Any) -> Change:
        """The next change."""
        self.outstanding += amount
        return Change(
            what=what,
            effective_at=effective_at,
            amount=amount,
            commission=self.commission,
            outstanding=self.outstanding,
            **more,
        )


def changes_of(one: Commission, events: Sequence[Event], priced_by: PricedBy | None) -> list[Change]:
    """What the events of a conversion did to one of its commissions, oldest first. priced_by: without it top-ups are
    told without their sum."""
    running, found = _Running(priced_by), []
    for event in events:
        if isinstance(event, ConversionReversed) and event.reversal_id != running.last_reversal_id:
            # each commission has such an event: the sale is reversed once
            running.reversed_amount += event.sale_amount
            running.last_reversal_id = event.reversal_id
        whose = (getattr(event, "affiliate_id", None), getattr(event, "level", None))
        if whose != (one.affiliate_id, one.level):
            continue
        if isinstance(event, CommissionAccrued):
            running.commission = running.outstanding = event.amount
        elif (change := _change(event, running)) is not None:
            found.append(change)
    return found


def _change(event: Event, running: _Running) -> Change | None:
    match event:
        case CommissionRepriced():
            was, running.commission = running.commission, event.commission
            if event.step is not None:
                running.steps = {**running.steps, event.rule: event.step}
            return running.change(
                "repriced",
                event.effective_at,
                event.amount,
                cause=event.cause,
                rule=event.rule,
                step=event.step,
                counter=event.counter,
                counted=event.counted if event.counter else None,
                simulation_id=event.simulation_id,
                cap=event.cap,
                was=was,
                repricing=repricing_of(event, was, running.steps, running.priced_by),
            )
        case ConversionReversed():
            return running.change(
                "reversed",
                event.effective_at,
                -event.amount,
                reversal_id=event.reversal_id,
                sale_amount=event.sale_amount,
                reversed_amount=running.reversed_amount,
            )
        case ConversionHeld() | ConversionReleased() | ConversionApproved() | ConversionRejected():
            taken = -event.amount if isinstance(event, ConversionRejected) else 0
            by_hand = isinstance(event, ConversionApproved) and event.by_hand
            return running.change(_DECISIONS[type(event)], event.effective_at, taken, by_hand=by_hand)
    return None
