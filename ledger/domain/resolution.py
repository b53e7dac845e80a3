"""Keeping facts that could not be applied, and resolving them: try again, or dismiss with a reason."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from ledger.domain import conversion, recording, reversal
from ledger.domain.conversion import ConversionRecorded
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, own_last
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved
from ledger.domain.ids import check_external_id
from ledger.domain.plans.following import following
from ledger.domain.view import Needs, View


class RaiseException(Command, frozen=True):
    """Keep a line of an import that is neither a sale nor a refund that matches one."""

    name: ClassVar[str] = "raise_exception"
    exception_id: str
    type: str
    detail: str
    fact: dict[str, Any]

    def needs(self) -> Needs:
        """The exception's own stream."""
        return Needs([self.exception_id])

    def decide(self, view: View) -> Decision:
        """ExceptionRaised, once. Raises DiffersFromOriginal."""
        body = {"exception_id": self.exception_id, "type": self.type, "detail": self.detail}
        if (was := view.exception(self.exception_id)) is not None:
            differs = [f for f in ("type", "fact") if getattr(was.raised, f) != getattr(self, f)]
            if differs:
                raise DiffersFromOriginal(f"exception {self.exception_id}", differs)
            return Decision([], Answer("exception", body, view.answered_at(self.exception_id, ExceptionRaised)))
        raised = ExceptionRaised(exception_id=self.exception_id, type=self.type, detail=self.detail, fact=self.fact)
        return Decision([(self.exception_id, raised)], Answer("exception", body))


class ResolveException(Command, frozen=True):
    """action 'retry': apply the fact now (the offer was published, the affiliate approved …); 'dismiss': leave it
    unapplied for good, with a reason (free text, stored as ciphertext)."""

    name: ClassVar[str] = "resolve_exception"
    exception_id: str
    action: str
    reason: str = ""

    def __post_init__(self) -> None:
        check_external_id("exception_id", self.exception_id[:128])
        if self.action not in ("retry", "dismiss"):
            raise InvalidInput("action", "must be retry or dismiss")
        if self.action == "dismiss" and not self.reason.strip():
            raise InvalidInput("reason", "is required to dismiss an exception")

    def needs(self) -> Needs:
        """The exception's stream; what its fact needs is read as it is decided."""
        return Needs([self.exception_id])

    def decide(self, view: View) -> Decision:
        """ExceptionResolved, and the events of the fact when it is applied. Raises NotFound, WrongState."""
        state = view.exception(self.exception_id)
        if state is None:
            raise NotFound(f"exception {self.exception_id} does not exist")
        body = {"exception_id": self.exception_id, "action": self.action}
        if not state.open:
            if state.resolution is None or state.resolution.action != self.action:
                raise WrongState(f"exception {self.exception_id} was resolved otherwise")
            at = view.answered_at(self.exception_id, ExceptionResolved)
            return Decision([], Answer("unchanged", body, at))
        subject = f"affiliate:{state.raised.affiliate_id}" if state.raised.affiliate_id else "program"
        resolved = ExceptionResolved(
            exception_id=self.exception_id,
            action=self.action,
            reason=view.seal(subject, self.exception_id, f"reason.{state.raised.type}", self.reason),
        )
        drafts: list[Draft] = [(self.exception_id, resolved)]
        drafts += _retried(state.raised, view) if self.action == "retry" else _dismissed(state.raised, view)
        return Decision(own_last(drafts, self.exception_id), Answer("recorded", body))


def _dismissed(raised: ExceptionRaised, view: View) -> list[Draft]:
    """What giving a fact up leads to: nothing, but for a sale that is recorded and waits."""
    kind, _, id_ = raised.exception_id.partition(":")
    sale = view.conversion(id_) if kind == "conversion" else None
    return recording.give_up(sale, view) if sale is not None and sale.status == "waiting" else []


def _retried(raised: ExceptionRaised, view: View) -> list[Draft]:
    """The events that apply the fact now. Raises WrongState when it still cannot be."""
    kind = raised.exception_id.split(":", 1)[0]
    if kind == "conversion":
        sale = msgspec.convert(raised.fact, ConversionRecorded, strict=False)
        known = view.conversion(sale.order_id)
        if known is not None and known.recorded is not None:
            decided = recording.attribute_now(known, view, may_wait=False)
        else:
            decided = recording.record(sale, known, view)
        if isinstance(decided, Decision):
            return decided.drafts
        raise WrongState(f"it still cannot be applied: {decided.detail}", type=decided.type)
    if kind == "reversal":
        state = view.reversal(raised.exception_id.split(":", 1)[1])
        assert state is not None
        applied = reversal.apply(state.recorded, view.conversion(state.recorded.order_id))
        if isinstance(applied, ExceptionRaised):
            raise WrongState(f"it still cannot be applied: {applied.detail}", type=applied.type)
        drafts: list[Draft] = [(conversion.key(state.recorded.order_id), event) for event in applied]
        return drafts + following(view, drafts)
    raise WrongState("a line of an import cannot be retried: correct the file, or dismiss it")
