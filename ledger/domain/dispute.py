"""Disputes: an affiliate says that a line of its statement is wrong; finance answers, and accepts or rejects.

open → answered → accepted, rejected or withdrawn. A line is disputed once at a time; after a decision it can be
disputed again in other words, as `#2`, `#3` … of the same line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import affiliate, erasure, money
from ledger.domain.adjustment import ProposeAdjustment
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event, own_last
from ledger.domain.ids import AMOUNT_MAX, BIGINT_MAX, check_external_id, check_slug, fitted
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.view import Needs, View

STATUSES = ("open", "answered", "accepted", "rejected", "withdrawn")
UNDECIDED = ("open", "answered")
TEXT_MAX = 2000
# so that "dispute:<id>#<number>" is an adjustment's id
_ID_MAX = 110


class DisputeOpened(Event, frozen=True):
    """An affiliate disputes the line (position, line_no) of its statement of a period. text is ciphertext."""

    dispute_id: str
    affiliate_id: str
    period: str
    position: int
    line_no: int
    text: str


class DisputeAnswered(Event, frozen=True):
    """Finance wrote back; the dispute is not decided yet. text is ciphertext."""

    dispute_id: str
    text: str


class DisputeAccepted(Event, frozen=True):
    """The affiliate is right: an adjustment was proposed (adjustment_id), or a held conversion released (order_id).
    text is ciphertext."""

    dispute_id: str
    text: str
    adjustment_id: str = ""
    order_id: str = ""


class DisputeRejected(Event, frozen=True):
    """The line stands. text is ciphertext."""

    dispute_id: str
    text: str


class DisputeWithdrawn(Event, frozen=True):
    """The affiliate no longer disputes the line."""

    dispute_id: str


class DisputeState(Struct):
    """answers: ciphertext, oldest first. decision: the event that ended it."""

    opened: DisputeOpened
    status: str = "open"
    answers: list[str] = []
    decision: DisputeAccepted | DisputeRejected | None = None


def key(dispute_id: str) -> str:
    """The stream key of a dispute."""
    return f"dispute:{dispute_id}"


def id_of(period: str, affiliate_id: str, position: int, line_no: int, attempt: int = 1) -> str:
    """A dispute's id, from the line that it is about; attempt counts the disputes of one line from 1."""
    line = fitted(f"{period}/{affiliate_id}/{position}.{line_no}", _ID_MAX)
    return line if attempt == 1 else f"{line}#{attempt}"


def adjustment_id_of(dispute_id: str) -> str:
    """The id of the adjustment that accepting a dispute proposes."""
    return f"dispute:{dispute_id}"


def answer_field(number: int) -> str:
    """The field to which the n-th answer (from 1) is sealed."""
    return f"answer.{number}"


def fold(state: DisputeState | None, event: Event) -> DisputeState:
    """DisputeState after an event."""
    if isinstance(event, DisputeOpened):
        return DisputeState(event)
    assert state is not None
    if isinstance(event, DisputeAnswered):
        state.status, state.answers = "answered", [*state.answers, event.text]
    elif isinstance(event, DisputeAccepted):
        state.status, state.decision = "accepted", event
    elif isinstance(event, DisputeRejected):
        state.status, state.decision = "rejected", event
    elif isinstance(event, DisputeWithdrawn):
        state.status = "withdrawn"
    return state


def dispute(view: View, dispute_id: str) -> DisputeState | None:
    """What is known of a dispute."""
    state: DisputeState | None = view.state(key(dispute_id))
    return state


def _known(view: View, dispute_id: str) -> DisputeState:
    state = dispute(view, dispute_id)
    if state is None:
        raise NotFound(f"dispute {dispute_id} does not exist")
    return state


def _check_text(text: str, field: str = "text") -> None:
    if not text.strip() or len(text) > TEXT_MAX:
        raise InvalidInput(field, f"is required, at most {TEXT_MAX} characters")


def _body(dispute_id: str, status: str, **more: str) -> dict[str, Any]:
    return {"dispute_id": dispute_id, "status": status, **more}


def _wrong_state(dispute_id: str, state: DisputeState) -> WrongState:
    return WrongState(f"dispute {dispute_id} is {state.status} already", status=state.status)


class _Sealed:
    """Seals to, and reads from, one dispute's stream, under the affiliate's key."""

    def __init__(self, view: View, state: DisputeOpened | DisputeState) -> None:
        opened = state if isinstance(state, DisputeOpened) else state.opened
        self._view, self._subject = view, affiliate.key(opened.affiliate_id)
        self._stream = key(opened.dispute_id)

    def seal(self, field: str, text: str) -> str:
        return self._view.seal(self._subject, self._stream, field, text)

    def same(self, field: str, sealed: str, text: str) -> bool:
        """Whether the sealed text is this one; nobody can tell once the affiliate is erased, and then it counts as
        the same."""
        kept = self._view.unseal(self._subject, self._stream, field, sealed)
        return kept is None or kept == text


class OpenDispute(Command, frozen=True):
    """Dispute the line (position, line_no) of a statement. The caller knows that the line is on it. text: free text,
    stored as ciphertext."""

    name: ClassVar[str] = "open_dispute"
    affiliate_id: str
    period: str
    position: int
    line_no: int
    text: str

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        check_slug("period", self.period)
        if not 1 <= self.position <= BIGINT_MAX:
            raise InvalidInput("position", "must be the position of the line, from 1")
        if not 1 <= self.line_no <= 32_767:
            raise InvalidInput("line_no", "must be the number of the line at its position, from 1")
        _check_text(self.text)

    def _id(self, attempt: int) -> str:
        return id_of(self.period, self.affiliate_id, self.position, self.line_no, attempt)

    def needs(self) -> Needs:
        """The affiliate, and the line's first two disputes."""
        whose = [affiliate.key(self.affiliate_id), erasure.affiliate_key(self.affiliate_id)]
        return Needs([*whose, key(self._id(1)), key(self._id(2))])

    def _earlier(self, view: View) -> Iterator[tuple[str, DisputeState]]:
        attempt = 1
        while (state := dispute(view, self._id(attempt))) is not None:
            yield self._id(attempt), state
            attempt += 1

    def decide(self, view: View) -> Decision:
        """DisputeOpened. The same words again answer as they did. Raises NotFound for an unknown affiliate,
        DiffersFromOriginal while the line is disputed in other words, WrongState for an affiliate that was erased."""
        if view.affiliate(self.affiliate_id) is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        erasure.refuse_erased(view, self.affiliate_id)
        earlier = list(self._earlier(view))
        for dispute_id, was in reversed(earlier):
            if _Sealed(view, was).same("text", was.opened.text, self.text):
                at = view.answered_at(key(dispute_id), DisputeOpened)
                return Decision([], Answer("unchanged", _body(dispute_id, "open"), at))
        if earlier and earlier[-1][1].status in UNDECIDED:
            raise DiffersFromOriginal(f"dispute {earlier[-1][0]}", ["text"])
        dispute_id = self._id(len(earlier) + 1)
        subject, stream = affiliate.key(self.affiliate_id), key(dispute_id)
        opened = DisputeOpened(
            dispute_id=dispute_id,
            affiliate_id=self.affiliate_id,
            period=self.period,
            position=self.position,
            line_no=self.line_no,
            text=view.seal(subject, stream, "text", self.text),
        )
        return Decision([(stream, opened)], Answer("recorded", _body(dispute_id, "open")))


class AnswerDispute(Command, frozen=True):
    """Write back to the affiliate without deciding. text: free text, stored as ciphertext."""

    name: ClassVar[str] = "answer_dispute"
    dispute_id: str
    text: str

    def __post_init__(self) -> None:
        force_setattr(self, "dispute_id", check_external_id("dispute_id", self.dispute_id))
        _check_text(self.text)

    def needs(self) -> Needs:
        """The dispute."""
        return Needs([key(self.dispute_id)])

    def decide(self, view: View) -> Decision:
        """DisputeAnswered; the newest answer once more changes nothing. Raises NotFound, WrongState."""
        stream, state = key(self.dispute_id), _known(view, self.dispute_id)
        sealed, count = _Sealed(view, state), len(state.answers)
        body = _body(self.dispute_id, "answered")
        if count and sealed.same(answer_field(count), state.answers[-1], self.text):
            return Decision([], Answer("unchanged", body, view.answered_at(stream, DisputeAnswered)))
        if state.status not in UNDECIDED:
            raise _wrong_state(self.dispute_id, state)
        text = sealed.seal(answer_field(count + 1), self.text)
        return Decision([(stream, DisputeAnswered(dispute_id=self.dispute_id, text=text))], Answer("recorded", body))


class DecideDispute(Command, frozen=True):
    """accept or reject a dispute, with a text to the affiliate (stored as ciphertext).

    Accepting needs one of two remedies: amount (minor units, below zero takes; currency: else the program's), which
    proposes an adjustment that a second person approves; or order_id, a held conversion to be released.
    """

    name: ClassVar[str] = "decide_dispute"
    dispute_id: str
    accept: bool
    text: str
    amount: int | None = None
    currency: str | None = None
    order_id: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "dispute_id", check_external_id("dispute_id", self.dispute_id))
        _check_text(self.text)
        remedies = (self.amount is not None) + bool(self.order_id)
        if self.accept and remedies != 1:
            raise InvalidInput("amount", "is required to accept a dispute, or order_id, and not both")
        if not self.accept and remedies:
            raise InvalidInput("amount" if self.amount is not None else "order_id", "goes with accepting only")
        if self.amount is not None and not 0 < abs(self.amount) <= AMOUNT_MAX:
            raise InvalidInput("amount", f"must be from -{AMOUNT_MAX} to {AMOUNT_MAX} minor units, and not 0")
        if self.currency is not None:
            if self.amount is None:
                raise InvalidInput("currency", "goes with amount only")
            money.exponent("currency", self.currency)
        if self.order_id:
            force_setattr(self, "order_id", check_external_id("order_id", self.order_id))

    def needs(self) -> Needs:
        """The dispute, and what remedies it."""
        streams = [key(self.dispute_id), f"adjustment:{adjustment_id_of(self.dispute_id)}"]
        return Needs([*streams, f"conversion:{self.order_id}"] if self.order_id else streams)

    def decide(self, view: View) -> Decision:
        """DisputeAccepted with its remedy's event, or DisputeRejected. Raises NotFound, WrongState,
        DiffersFromOriginal, KeyReused."""
        stream, state = key(self.dispute_id), _known(view, self.dispute_id)
        after = "accepted" if self.accept else "rejected"
        if state.status == after:
            return self._again(view, state)
        if state.status not in UNDECIDED:
            raise _wrong_state(self.dispute_id, state)
        text = _Sealed(view, state).seal("decision", self.text)
        if not self.accept:
            rejected = DisputeRejected(dispute_id=self.dispute_id, text=text)
            return Decision([(stream, rejected)], Answer("recorded", _body(self.dispute_id, after)))
        adjustment_id = adjustment_id_of(self.dispute_id) if self.amount is not None else ""
        accepted = DisputeAccepted(
            dispute_id=self.dispute_id, text=text, adjustment_id=adjustment_id, order_id=self.order_id
        )
        drafts: list[Draft] = [*self._remedy(view, state), (stream, accepted)]
        body = _accepted_body(accepted)
        return Decision(own_last(drafts, stream), Answer("recorded", body))

    def _remedy(self, view: View, state: DisputeState) -> list[Draft]:
        if self.amount is not None:
            return self._adjustment(state).decide(view).drafts
        sale = view.conversion(self.order_id)
        whose = state.opened.affiliate_id
        own = [one.status for one in sale.commissions.values() if one.affiliate_id == whose] if sale is not None else []
        if not own:
            raise NotFound(f"conversion {self.order_id} of affiliate {whose} does not exist")
        if "held" not in own:
            raise WrongState(f"conversion {self.order_id} is {own[0]}, not held", status=own[0])
        release = DecideConversion(order_id=self.order_id, decision="release", reason=self.text, affiliate_id=whose)
        return release.decide(view).drafts

    def _adjustment(self, state: DisputeState) -> ProposeAdjustment:
        assert self.amount is not None
        return ProposeAdjustment(
            adjustment_id=adjustment_id_of(self.dispute_id),
            affiliate_id=state.opened.affiliate_id,
            kind="correction",
            amount=self.amount,
            currency=self.currency,
            reason=self.text,
        )

    def _again(self, view: View, state: DisputeState) -> Decision:
        was = state.decision
        assert was is not None
        differs = [] if _Sealed(view, state).same("decision", was.text, self.text) else ["text"]
        if isinstance(was, DisputeAccepted):
            if was.order_id != self.order_id:
                differs.append("order_id")
            if bool(was.adjustment_id) != (self.amount is not None):
                differs.append("amount")
        if differs:
            raise DiffersFromOriginal(f"the decision about dispute {self.dispute_id}", differs)
        if self.amount is not None:
            self._adjustment(state).decide(view)  # raises KeyReused for another amount or currency
        body = _accepted_body(was) if isinstance(was, DisputeAccepted) else _body(self.dispute_id, "rejected")
        at = view.answered_at(key(self.dispute_id), DisputeAccepted, DisputeRejected)
        return Decision([], Answer("unchanged", body, at))


def _accepted_body(accepted: DisputeAccepted) -> dict[str, Any]:
    remedy = {f: getattr(accepted, f) for f in ("adjustment_id", "order_id") if getattr(accepted, f)}
    return _body(accepted.dispute_id, "accepted", **remedy)


class WithdrawDispute(Command, frozen=True):
    """The affiliate takes its dispute back."""

    name: ClassVar[str] = "withdraw_dispute"
    dispute_id: str
    affiliate_id: str

    def __post_init__(self) -> None:
        force_setattr(self, "dispute_id", check_external_id("dispute_id", self.dispute_id))
        check_slug("affiliate_id", self.affiliate_id)

    def needs(self) -> Needs:
        """The dispute."""
        return Needs([key(self.dispute_id)])

    def decide(self, view: View) -> Decision:
        """DisputeWithdrawn. Raises NotFound (also for another affiliate's), WrongState."""
        stream, state = key(self.dispute_id), _known(view, self.dispute_id)
        if state.opened.affiliate_id != self.affiliate_id:
            raise NotFound(f"dispute {self.dispute_id} does not exist")
        body = _body(self.dispute_id, "withdrawn")
        if state.status == "withdrawn":
            return Decision([], Answer("unchanged", body, view.answered_at(stream, DisputeWithdrawn)))
        if state.status not in UNDECIDED:
            raise _wrong_state(self.dispute_id, state)
        return Decision([(stream, DisputeWithdrawn(dispute_id=self.dispute_id))], Answer("recorded", body))
