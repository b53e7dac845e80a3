"""What a person says became of a payout: settled, failed, returned, or unknown."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from msgspec.structs import force_setattr

from ledger.domain import payout
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event, own_last
from ledger.domain.ids import AMOUNT_MAX, check_external_id
from ledger.domain.payout import PayoutFailed, PayoutReturned, PayoutSettled, PayoutUnknown, booked_at, key
from ledger.domain.view import Needs, View

# decision → (statuses it may follow, status after it)
_OUTCOMES: dict[str, tuple[tuple[str, ...], str]] = {
    "settle": (("initiated", "unknown", "failed"), "settled"),
    "fail": (("initiated", "unknown"), "failed"),
    "return": (("settled",), "returned"),
    "mark_unknown": (("initiated",), "unknown"),
}
_EVENT: dict[str, type[Event]] = {
    "settled": PayoutSettled,
    "failed": PayoutFailed,
    "returned": PayoutReturned,
    "unknown": PayoutUnknown,
}


class DecidePayout(Command, frozen=True):
    """settle, fail, return or mark_unknown by a person, with a reason (free text, stored as ciphertext).
    booked_on: the bank's booking day, today unless given; fee_amount: what the bank charged the program."""

    name: ClassVar[str] = "decide_payout"
    payout_id: str
    outcome: str
    reason: str
    booked_on: date | None = None
    fee_amount: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "payout_id", check_external_id("payout_id", self.payout_id))
        if self.outcome not in _OUTCOMES:
            raise InvalidInput("outcome", f"must be one of {', '.join(_OUTCOMES)}")
        if not self.reason.strip() or len(self.reason) > 2000:
            raise InvalidInput("reason", "is required, at most 2000 characters")
        if self.booked_on is not None:
            payout.check_day("booked_on", self.booked_on)
        if not 0 <= self.fee_amount <= AMOUNT_MAX or (self.fee_amount and self.outcome != "settle"):
            raise InvalidInput("fee_amount", "must be the bank's charge for a settled payout, in minor units")

    def needs(self) -> Needs:
        """The payout."""
        return Needs([key(self.payout_id)])

    def needs_then(self, view: View) -> Needs | None:
        """The year's invoice numbers, and the notice."""
        return payout.outcome_needs(view, self.payout_id)

    def decide(self, view: View) -> Decision:
        """One of PayoutSettled, PayoutFailed, PayoutReturned, PayoutUnknown. Raises NotFound, WrongState."""
        state = payout.payout(view, self.payout_id)
        if state is None:
            raise NotFound(f"payout {self.payout_id} does not exist")
        stream = key(self.payout_id)
        allowed, after = _OUTCOMES[self.outcome]
        body = {"payout_id": self.payout_id, "status": after}
        if state.status == after:
            return Decision([], Answer("unchanged", body, view.answered_at(stream, _EVENT[after])))
        if state.status not in allowed:
            raise WrongState(
                f"payout {self.payout_id} is {state.status}: {self.outcome} needs {' or '.join(allowed)}",
                status=state.status,
            )
        affiliate_id = state.proposed.affiliate_id
        reason = view.seal(f"affiliate:{affiliate_id}", stream, f"reason.{state.decisions + 1}", self.reason)
        if self.outcome == "mark_unknown":
            drafts: list[Draft] = [
                (stream, PayoutUnknown(payout_id=self.payout_id, affiliate_id=affiliate_id, reason=reason))
            ]
        else:
            at = booked_at(state, self.booked_on, view)
            if self.outcome == "settle":
                drafts = payout.settled(state, at, view, fee_amount=self.fee_amount, reason=reason)
            else:
                event_type = PayoutFailed if self.outcome == "fail" else PayoutReturned
                drafts = payout.sent_back(state, event_type, at, view, reason=reason)
        return Decision(own_last(drafts, stream), Answer("recorded", body))
