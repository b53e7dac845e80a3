"""Deciding about a conversion: hold, release, approve, reject; and approving what has matured."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec.structs import force_setattr

from ledger.domain.conversion import (
    CommissionAccrued,
    ConversionApproved,
    ConversionHeld,
    ConversionRejected,
    ConversionReleased,
    key,
)
from ledger.domain.conversion_state import Commission, released
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event, in_utc
from ledger.domain.ids import check_external_id
from ledger.domain.plans import foreseeing
from ledger.domain.plans.following import following
from ledger.domain.view import Needs, View

# decision → (statuses it may follow, status after it, its event)
_DECISIONS: dict[str, tuple[tuple[str, ...], str, type[Event]]] = {
    "hold": (("pending",), "held", ConversionHeld),
    "release": (("held",), "pending", ConversionReleased),
    "approve": (("pending",), "approved", ConversionApproved),
    "reject": (("pending", "held"), "rejected", ConversionRejected),
}


class DecideConversion(Command, frozen=True):
    """hold, release, approve or reject a conversion: every commission on it, or one affiliate's. reason is free text,
    stored as ciphertext; approving before maturity needs one."""

    name: ClassVar[str] = "decide_conversion"
    order_id: str
    decision: str
    reason: str = ""
    affiliate_id: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "order_id", check_external_id("order_id", self.order_id))
        assert self.decision in _DECISIONS

    def needs(self) -> Needs:
        """The conversion."""
        return Needs([key(self.order_id)])

    def needs_then(self, view: View) -> Needs | None:
        """What a plan counts by."""
        return foreseeing.afterwards(self.order_id, view) if self.decision == "reject" else None

    def decide(self, view: View) -> Decision:
        """One event. Raises NotFound, WrongState, InvalidInput."""
        state = view.conversion(self.order_id)
        if state is None or state.recorded is None:
            raise NotFound(f"conversion {self.order_id} does not exist")
        allowed, after, event_type = _DECISIONS[self.decision]
        body = {"order_id": self.order_id, "status": after}
        asked = [one for one in state.commissions.values() if self.affiliate_id in ("", one.affiliate_id)]
        concerned = [one for one in asked if self._concerns(one, allowed)]
        if not concerned and state.status == after:
            at = view.answered_at(key(self.order_id), event_type, CommissionAccrued)
            return Decision([], Answer("unchanged", body, at))
        if not concerned:
            raise WrongState(
                f"conversion {self.order_id} is {state.status}: {self.decision} needs {' or '.join(allowed)}",
                status=state.status,
            )
        drafts: list[Draft] = [
            (key(self.order_id), self._event(one, state.decisions + number, view))
            for number, one in enumerate(concerned, 1)
        ]
        return Decision(drafts + following(view, drafts), Answer("recorded", body), own=key(self.order_id))

    def _concerns(self, one: Commission, allowed: tuple[str, ...]) -> bool:
        # a person's hold on top of a suspension's moves no money, but outlasts the suspension
        return one.status in allowed or (self.decision == "hold" and one.status == "held" and one.held_by_suspension)

    def _event(self, one: Commission, number: int, view: View) -> Event:
        """number: of this decision among the conversion's."""
        reason = view.seal(f"affiliate:{one.affiliate_id}", key(self.order_id), f"reason.{number}", self.reason)
        common = {
            "order_id": self.order_id,
            "affiliate_id": one.affiliate_id,
            "amount": 0 if one.held_by_suspension and self.decision == "hold" else one.outstanding,
            "currency": one.currency,
            "reason": reason,
            "level": one.level,
        }
        match self.decision:
            case "hold":
                return ConversionHeld(**common, effective_at=view.now)  # type: ignore[arg-type]
            case "release":
                return ConversionReleased(**common, effective_at=view.now)  # type: ignore[arg-type]
            case "reject":
                return ConversionRejected(**common, effective_at=view.now, was_held=one.status == "held")  # type: ignore[arg-type]
        early = view.now < one.matures_at
        if early and not self.reason.strip():
            raise InvalidInput("reason", "is required to approve before the commission matures")
        at = view.now if early else one.due_at
        return ConversionApproved(**common, effective_at=at, by_hand=True)  # type: ignore[arg-type]


class ApproveDue(Command, frozen=True):
    """Approve one conversion that has matured at an instant; anything else is left as it is."""

    name: ClassVar[str] = "approve_due"
    order_id: str
    at: datetime

    def __post_init__(self) -> None:
        force_setattr(self, "at", in_utc("now", self.at))

    def needs(self) -> Needs:
        """The conversion."""
        return Needs([key(self.order_id)])

    def decide(self, view: View) -> Decision:
        """ConversionApproved, effective when it matured (or was released, if later), or nothing."""
        state = view.conversion(self.order_id)
        body = {"order_id": self.order_id}
        due = [
            one
            for one in (state.commissions.values() if state is not None else ())
            if one.status == "pending" and one.matures_at <= self.at
        ]
        if not due:
            return Decision([], Answer("unchanged", body))
        drafts: list[Draft] = [
            (
                key(self.order_id),
                ConversionApproved(
                    order_id=self.order_id,
                    affiliate_id=one.affiliate_id,
                    amount=one.outstanding,
                    currency=one.currency,
                    effective_at=one.due_at,
                    level=one.level,
                ),
            )
            for one in due
        ]
        return Decision(drafts, Answer("recorded", body))


class ReleaseSuspended(Command, frozen=True):
    """Release one conversion that was held only because its affiliate was suspended, once that is over."""

    name: ClassVar[str] = "release_suspended"
    order_id: str
    affiliate_id: str

    def needs(self) -> Needs:
        """The conversion and its affiliate."""
        return Needs([key(self.order_id), f"affiliate:{self.affiliate_id}"])

    def decide(self, view: View) -> Decision:
        """ConversionReleased, or nothing."""
        state, affiliate = view.conversion(self.order_id), view.affiliate(self.affiliate_id)
        body = {"order_id": self.order_id}
        if state is None or affiliate is None or affiliate.status != "approved":
            return Decision([], Answer("unchanged", body))
        held = [
            one
            for one in state.commissions.values()
            if one.affiliate_id == self.affiliate_id and one.status == "held" and one.held_by_suspension
        ]
        drafts: list[Draft] = [(key(self.order_id), released(state, one, view.now)) for one in held]
        return Decision(drafts, Answer("recorded" if drafts else "unchanged", body))
