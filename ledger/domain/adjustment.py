"""Adjustments: a bonus or a correction, proposed by one person and approved by another."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import affiliate, money
from ledger.domain.errors import InvalidInput, KeyReused, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.ids import AMOUNT_MAX, check_external_id, check_slug, same_person
from ledger.domain.view import Needs, View

KINDS = ("bonus", "correction")


class AdjustmentProposed(Event, frozen=True):
    """amount: minor units; above zero the affiliate gets it, below zero it is taken. reason is ciphertext.
    effective_at None: when it is approved."""

    adjustment_id: str
    affiliate_id: str
    kind: str
    amount: int
    currency: str
    reason: str
    proposed_by: str
    effective_at: datetime | None = None


class AdjustmentPosted(Event, frozen=True):
    """A second person approved it: it is in the books."""

    adjustment_id: str
    affiliate_id: str
    amount: int
    currency: str
    effective_at: datetime


class AdjustmentRejected(Event, frozen=True):
    """A second person refused it."""

    adjustment_id: str
    affiliate_id: str


class AdjustmentState(Struct):
    """status: proposed, posted or rejected."""

    proposed: AdjustmentProposed
    status: str = "proposed"


def key(adjustment_id: str) -> str:
    """The stream key of an adjustment."""
    return f"adjustment:{adjustment_id}"


def fold(state: AdjustmentState | None, event: Event) -> AdjustmentState:
    """AdjustmentState after an event."""
    if isinstance(event, AdjustmentProposed):
        return AdjustmentState(event)
    assert state is not None
    state.status = "posted" if isinstance(event, AdjustmentPosted) else "rejected"
    return state


class ProposeAdjustment(Command, frozen=True):
    """Propose a bonus or correction. adjustment_id is the caller's Idempotency-Key."""

    name: ClassVar[str] = "propose_adjustment"
    adjustment_id: str
    affiliate_id: str
    kind: str
    amount: int
    reason: str
    currency: str | None = None
    effective_at: datetime | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "adjustment_id", check_external_id("Idempotency-Key", self.adjustment_id))
        check_slug("affiliate_id", self.affiliate_id)
        if self.kind not in KINDS:
            raise InvalidInput("kind", "must be bonus or correction")
        if self.amount == 0 or abs(self.amount) > AMOUNT_MAX:
            raise InvalidInput("amount", f"must be from -{AMOUNT_MAX} to {AMOUNT_MAX} minor units, and not 0")
        if self.kind == "bonus" and self.amount < 0:
            raise InvalidInput("amount", "must be above 0 for a bonus; a correction may be below")
        if not self.reason.strip() or len(self.reason) > 2000:
            raise InvalidInput("reason", "is required, at most 2000 characters")
        if self.currency is not None:
            money.exponent("currency", self.currency)
        if self.effective_at is not None:
            force_setattr(self, "effective_at", in_utc("effective_at", self.effective_at))

    def needs(self) -> Needs:
        """The adjustment and its affiliate."""
        return Needs([key(self.adjustment_id), affiliate.key(self.affiliate_id)])

    def decide(self, view: View) -> Decision:
        """AdjustmentProposed. Raises NotFound for an unknown affiliate, KeyReused for another body."""
        stream = key(self.adjustment_id)
        assert view.program is not None
        currency = self.currency or view.program.currency
        body = {"adjustment_id": self.adjustment_id, "status": "proposed"}
        was = view.adjustment(self.adjustment_id)
        if was is not None:
            self._check_same(was.proposed, currency, view)
            return Decision([], Answer("unchanged", body, view.answered_at(stream, AdjustmentProposed)))
        if view.affiliate(self.affiliate_id) is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        proposed = AdjustmentProposed(
            adjustment_id=self.adjustment_id,
            affiliate_id=self.affiliate_id,
            kind=self.kind,
            amount=self.amount,
            currency=currency,
            reason=view.seal(affiliate.key(self.affiliate_id), stream, "reason", self.reason),
            proposed_by=view.actor,
            effective_at=self.effective_at,
        )
        return Decision([(stream, proposed)], Answer("recorded", body))

    def _check_same(self, was: AdjustmentProposed, currency: str, view: View) -> None:
        same_fields = ("affiliate_id", "kind", "amount", "effective_at")
        differs = [f for f in same_fields if getattr(was, f) != getattr(self, f)]
        if was.currency != currency:
            differs.append("currency")
        kept = view.unseal(affiliate.key(was.affiliate_id), key(was.adjustment_id), "reason", was.reason)
        if kept is not None and kept != self.reason:
            differs.append("reason")
        if differs:
            raise KeyReused(f"this Idempotency-Key was used before, with another {', '.join(differs)}", fields=differs)


class DecideAdjustment(Command, frozen=True):
    """A second person approves or rejects an adjustment."""

    name: ClassVar[str] = "decide_adjustment"
    adjustment_id: str
    approve: bool

    def needs(self) -> Needs:
        """The adjustment."""
        return Needs([key(self.adjustment_id)])

    def decide(self, view: View) -> Decision:
        """AdjustmentPosted or AdjustmentRejected. Raises NotFound, SamePerson, WrongState."""
        state = view.adjustment(self.adjustment_id)
        if state is None:
            raise NotFound(f"adjustment {self.adjustment_id} does not exist")
        proposed, stream = state.proposed, key(self.adjustment_id)
        after = "posted" if self.approve else "rejected"
        body = {"adjustment_id": self.adjustment_id, "status": after}
        if state.status == after:
            at = view.answered_at(stream, AdjustmentPosted, AdjustmentRejected)
            return Decision([], Answer("unchanged", body, at))
        if state.status != "proposed":
            raise WrongState(f"adjustment {self.adjustment_id} is {state.status} already", status=state.status)
        if same_person(proposed.proposed_by, view.actor):
            raise SamePerson()
        event: Event
        if self.approve:
            event = AdjustmentPosted(
                adjustment_id=self.adjustment_id,
                affiliate_id=proposed.affiliate_id,
                amount=proposed.amount,
                currency=proposed.currency,
                effective_at=proposed.effective_at or view.now,
            )
        else:
            event = AdjustmentRejected(adjustment_id=self.adjustment_id, affiliate_id=proposed.affiliate_id)
        return Decision([(stream, event)], Answer("recorded", body))
