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
    ConversionState,
    key,
    released,
)
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.ids import check_external_id
from ledger.domain.view import Needs, View

# decision → (statuses it may follow, status after it, its event)
_DECISIONS: dict[str, tuple[tuple[str, ...], str, type[Event]]] = {
    "hold": (("pending",), "held", ConversionHeld),
    "release": (("held",), "pending", ConversionReleased),
    "approve": (("pending",), "approved", ConversionApproved),
    "reject": (("pending", "held"), "rejected", ConversionRejected),
}


class DecideConversion(Command, frozen=True):
    """hold, release, approve or reject a conversion. reason is free text, stored as ciphertext; approving before
    maturity needs one."""

    name: ClassVar[str] = "decide_conversion"
    order_id: str
    decision: str
    reason: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "order_id", check_external_id("order_id", self.order_id))
        assert self.decision in _DECISIONS

    def needs(self) -> Needs:
        """The conversion."""
        return Needs([key(self.order_id)])

    def decide(self, view: View) -> Decision:
        """One event. Raises NotFound, WrongState, InvalidInput."""
        state = view.conversion(self.order_id)
        if state is None or state.recorded is None:
            raise NotFound(f"conversion {self.order_id} does not exist")
        allowed, after, event_type = _DECISIONS[self.decision]
        body = {"order_id": self.order_id, "status": after}
        # a person's hold on top of a suspension's moves no money, but outlasts the suspension
        on_top = self.decision == "hold" and state.held_by_suspension
        if state.status == after and not on_top:
            at = view.answered_at(key(self.order_id), event_type, CommissionAccrued)
            return Decision([], Answer("unchanged", body, at))
        if state.status not in allowed and not on_top:
            raise WrongState(
                f"conversion {self.order_id} is {state.status}: {self.decision} needs {' or '.join(allowed)}",
                status=state.status,
            )
        return Decision([(key(self.order_id), self._event(state, view))], Answer("recorded", body))

    def _event(self, state: ConversionState, view: View) -> Event:
        assert state.accrued is not None
        stream = key(self.order_id)
        reason = view.seal(f"affiliate:{state.affiliate_id}", stream, f"reason.{state.decisions + 1}", self.reason)
        common = {
            "order_id": self.order_id,
            "affiliate_id": state.affiliate_id,
            "amount": 0 if state.held_by_suspension and self.decision == "hold" else state.outstanding,
            "currency": state.accrued.currency,
            "reason": reason,
        }
        match self.decision:
            case "hold":
                return ConversionHeld(**common, effective_at=view.now)  # type: ignore[arg-type]
            case "release":
                return released(state, view.now, reason)
            case "reject":
                return ConversionRejected(**common, effective_at=view.now, was_held=state.status == "held")  # type: ignore[arg-type]
        early = view.now < state.accrued.matures_at
        if early and not self.reason.strip():
            raise InvalidInput("reason", "is required to approve before the commission matures")
        at = view.now if early else max(state.accrued.matures_at, state.released_at or state.accrued.matures_at)
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
        if state is None or state.status != "pending" or state.accrued is None or state.accrued.matures_at > self.at:
            return Decision([], Answer("unchanged", body))
        approved = ConversionApproved(
            order_id=self.order_id,
            affiliate_id=state.affiliate_id,
            amount=state.outstanding,
            currency=state.accrued.currency,
            effective_at=max(state.accrued.matures_at, state.released_at or state.accrued.matures_at),
        )
        return Decision([(key(self.order_id), approved)], Answer("recorded", body))


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
        over = affiliate is not None and affiliate.status == "approved"
        if state is None or not over or state.status != "held" or not state.held_by_suspension:
            return Decision([], Answer("unchanged", body))
        return Decision([(key(self.order_id), released(state, view.now))], Answer("recorded", body))
